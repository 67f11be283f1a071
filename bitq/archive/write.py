"""Write a bundle: the same results, checkout and environment give the same bytes."""

import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bitq.archive.contents import CRATE, LIST, RESULTS, SBOM, Bundle
from bitq.archive.crate import metadata
from bitq.archive.sbom import bill_of_materials
from bitq.errors import UsageError
from bitq.grid.paper import config as paper_config
from bitq.io import pretty_json, read_bytes, replacing
from bitq.paths import CHECKOUT, config_dir
from bitq.results.folder import CARDS, MODEL, Finished, card_of, finished, text
from bitq.results.manifest import NAME as MANIFEST
from bitq.results.manifest import Files, Manifest, entry, label_files, root_digest, run_files, under
from bitq.run import Run

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first hour that the format knows: times are no content
MODE = 0o100644 << 16

Texts = dict[str, bytes]  # small files, by path in the bundle
Places = dict[str, Path]  # large ones


def write_bundle(path: Path, root: Path, runs: Sequence[Run], models: bool) -> Bundle:
    """Write what is there of the runs, and all that describes it, to a new file."""
    found = [each for run in runs if (each := finished(run, root))]
    if not found:
        raise UsageError(f"none of the selected runs is in {root}, so there is nothing to archive; name their --scale.")
    places, files = result_files(root, found, models)
    texts = {f"{RESULTS}/{MANIFEST}": manifest_of(found), **descriptions(), **configuration()}
    if models:
        texts |= cards(root, found)
    crate = metadata(found, sorted([*texts]), paper_config().title, paper_config().source_date_epoch, version("bitq"))
    texts[CRATE] = pretty_json(crate).encode()
    files |= {name: entry(content) for name, content in texts.items()}
    bundle = Bundle(
        runs=tuple(run.config.path for run in found),
        models=sum(name.endswith(f"/{MODEL}") for name in places),
        files=files,
        root=root_digest(files),
    )
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _in_order(bundle, texts, places):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr, info.create_system = MODE, 3
            archive.writestr(info, content)
    return bundle


def _in_order(bundle: Bundle, texts: Texts, places: Places) -> Iterator[tuple[str, bytes]]:
    yield LIST, text(bundle)
    for name in sorted(bundle.files):
        yield name, texts[name] if name in texts else read_bytes(places[name])


def result_files(root: Path, found: Sequence[Finished], models: bool) -> tuple[Places, Files]:
    """Locate the files of finished runs and their labels; packed files as far as they are wanted and here."""
    files: Files = {}
    for run in found:
        own = run_files(run)
        if not (models and (run.folder / MODEL).exists()):
            own.pop(MODEL, None)
        files |= under(run.config.path, own) | label_files(run.results)
    places = {f"{RESULTS}/{name}": root / name for name in files}
    return places, {f"{RESULTS}/{name}": file for name, file in files.items()}


def manifest_of(found: Sequence[Finished]) -> bytes:
    """Write the manifest of these runs, packed files included, whether or not they travel."""
    files: Files = {}
    for run in found:
        files |= under(run.config.path, run_files(run)) | label_files(run.results)
    return text(Manifest(root=root_digest(files), files=files))


def descriptions() -> Texts:
    """Collect licence, citation, the bill of materials and the locks that it is made of."""
    texts = {name: read_bytes(CHECKOUT / name) for name in ("LICENSE", "CITATION.cff")}
    locks = sorted((CHECKOUT / "requirements").glob("*.txt"))
    texts |= {f"requirements/{lock.name}": read_bytes(lock) for lock in locks}
    texts["results/README.md"] = read_bytes(CHECKOUT / "results" / "README.md")
    return texts | {SBOM: pretty_json(bill_of_materials(CHECKOUT / "requirements", version("bitq"))).encode()}


def cards(root: Path, found: Sequence[Finished]) -> Texts:
    """Collect the model cards of the packed files that have one."""
    paths = (card_of(run.config, root) for run in found if (run.folder / MODEL).exists())
    return {f"{CARDS}/{path.name}": read_bytes(path) for path in paths if path.exists()}


def configuration() -> Texts:
    """Collect what defines the runs."""
    paths = sorted(config_dir().rglob("*.yaml"))
    return {f"config/{path.relative_to(config_dir()).as_posix()}": read_bytes(path) for path in paths}
