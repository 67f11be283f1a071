"""The digests of all result files, and one digest over them: a clone can tell whether it has what was shipped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitq.errors import DataError, UsageError
from bitq.io import read_bytes, sha256, write_atomic
from bitq.records import Frozen
from bitq.results.folder import MODEL, Finished, finished, text
from bitq.results.predictions import LABELS, PREDICTIONS, labels_name, read_labels
from bitq.results.schema import RECORDS, Results, parse
from bitq.run import Run

NAME = "manifest.json"
RESULTS = "results.json"  # a run's last file: where it is, the run is complete
REMEDY = "Restore it from where the results came, or delete it and write it again once they are verified."


@dataclass(frozen=True, slots=True)
class Entry:
    """One file."""

    sha256: str
    size: int


Files = dict[str, Entry]  # by path relative to the results folder, or to a run's folder


class Manifest(Frozen):
    """Every file of every run, and the label files. Models are listed as shipped, though git does not carry them."""

    schema_version: Literal[1] = 1
    root: str
    files: Files


def root_digest(files: Mapping[str, Entry]) -> str:
    """Digest what sha256sum prints for the files, ordered by path: a Merkle root of depth one."""
    return sha256("".join(f"{files[path].sha256}  {path}\n" for path in sorted(files)))


def entry(data: bytes) -> Entry:
    """Return the entry of a file's content."""
    return Entry(sha256=sha256(data), size=len(data))


def shipped_files(results: Results) -> Files:
    """List the model and its predictions as their run recorded them; a diverged run has none."""
    packed = results.packed
    if packed is None:
        return {}
    return {
        MODEL: Entry(sha256=packed.sha256, size=packed.file_bytes),
        PREDICTIONS: Entry(sha256=packed.predictions_sha256, size=packed.images),
    }


def label_files(results: Results) -> Files:
    """List the labels that a run's predictions were counted against, by path in the results folder."""
    packed = results.packed
    return {labels_name(packed.labels_sha256): Entry(packed.labels_sha256, packed.images)} if packed else {}


def run_files(run: Finished) -> Files:
    """List the files of a run that was read and found complete, by name."""
    names = [f"{record}.json" for record in RECORDS]
    return {name: entry(read_bytes(run.folder / name)) for name in names} | shipped_files(run.results)


def under(path: str, files: Files) -> Files:
    """List the files of a run by path instead of by name."""
    return {f"{path}/{name}": file for name, file in files.items()}


def by_run(files: Files) -> dict[str, Files]:
    """Group the files of runs by their folder, then by name."""
    runs: dict[str, Files] = {}
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        if folder != LABELS:
            runs.setdefault(folder, {})[name] = file
    return runs


def elsewhere(listed: Files, scales: Collection[str]) -> Files:
    """Keep the files of runs at other scales, and with them the labels, which scales share."""
    runs = {path: file for path, file in listed.items() if path.partition("/")[0] not in (LABELS, *scales)}
    labels = {path: file for path, file in listed.items() if path.partition("/")[0] == LABELS}
    return runs | labels if runs else {}


def scales_of(manifest: Manifest) -> set[str]:
    """List the scales of which it lists runs."""
    return {path.partition("/")[0] for path in by_run(manifest.files)}


def write_manifest(root: Path, runs: Sequence[Run]) -> Manifest:
    """List what is there of `runs` in `root`/manifest.json; the same files give the same bytes.

    What a manifest lists already of other scales stays in it. Other runs of the same scales would be forgotten, so
    that is refused.
    """
    files: Files = {}
    for run in runs:
        if found := finished(run, root):
            files |= under(run.path, run_files(found)) | label_files(found.results)
    if not files:
        raise UsageError(
            f"none of the selected runs is in {root}, so there is nothing to list; name their --scale, or --paper."
        )
    for path, file in files.items():
        if path == labels_name(file.sha256):
            read_labels(root, file.sha256)
    listed = read_manifest(root)
    kept = elsewhere(listed.files, {run.scale for run in runs}) if listed else {}
    lost = by_run(listed.files).keys() - {run.path for run in runs} - by_run(kept).keys() if listed else ()
    if lost:
        raise UsageError(
            f"{root / NAME} also lists {len(lost)} runs that were not selected, {min(lost)} for one; select them too, "
            "with --paper or more studies, or delete it first."
        )
    files |= kept
    manifest = Manifest(root=root_digest(files), files=files)
    write_atomic(root / NAME, text(manifest))
    return manifest


def read_manifest(root: Path) -> Manifest | None:
    """Read the manifest, checked against its own root digest; None if there is none."""
    path = root / NAME
    if not path.exists():
        return None
    data = read_bytes(path)
    manifest = parse(Manifest, data, path, REMEDY)
    if manifest.root != root_digest(manifest.files) or data != text(manifest):
        raise DataError(f"{path} was changed after it was written. {REMEDY}")
    return manifest
