"""Read a bundle back: everything in it is checked before anything is written."""

import hashlib
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bitq.archive.contents import LARGEST_LIST, LIST, RESULTS, Bundle
from bitq.errors import DataError, StorageError
from bitq.io import open_for_reading, read_bytes, sha256_file
from bitq.results.folder import MODEL, read
from bitq.results.manifest import NAME as MANIFEST
from bitq.results.manifest import RESULTS as LAST
from bitq.results.manifest import by_run, read_manifest
from bitq.results.plausible import implausible
from bitq.results.predictions import LABELS, read_labels
from bitq.results.schema import parse
from bitq.results.verify import RUN_FILES

CHUNK = 2**20
NAME = re.compile(r"[A-Za-z0-9_.+@=-]+(/[A-Za-z0-9_.+@=-]+)*")
BESIDE = (f"{RESULTS}/{MANIFEST}", f"{RESULTS}/README.md")
AGAIN = "Get the bundle again from where it came."


class Adopted(NamedTuple):
    """What a bundle brought."""

    bundle: Bundle
    new: tuple[str, ...]  # runs
    there: tuple[str, ...]  # runs that were there, equal
    manifest: bool  # whether its manifest was taken over


def adopt(path: Path, root: Path) -> Adopted:
    """Check a bundle, then put its runs where they belong; refuse it as a whole for anything that is wrong."""
    open_for_reading(path).close()
    with _opened(path) as archive:
        bundle = checked_list(path, archive)
        for name in bundle.files:
            _check_content(path, archive, bundle, name)
        with _beside(root) as scratch:
            staged = Path(scratch)
            for name in bundle.files:
                if name.startswith(f"{RESULTS}/"):
                    _extract(path, archive, bundle, name, staged / name)
            check_runs(path, bundle, staged / RESULTS)
            return _take_over(path, bundle, staged / RESULTS, root)


def check(path: Path) -> Bundle:
    """Check a bundle without taking anything of it over."""
    open_for_reading(path).close()
    with _opened(path) as archive, tempfile.TemporaryDirectory() as scratch:
        bundle = checked_list(path, archive)
        for name in bundle.files:
            _extract(path, archive, bundle, name, Path(scratch) / name)
        check_runs(path, bundle, Path(scratch) / RESULTS)
        return bundle


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise _foreign(path, str(error)) from error


def checked_list(path: Path, archive: zipfile.ZipFile) -> Bundle:
    """Read the list of a bundle, and check that the bundle holds what it lists, as plain files, and nothing else."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        if problem := _unsafe(entry):
            raise DataError(f"{path} holds {entry.filename!r}, {problem}; nothing of it was taken. {AGAIN}")
    if len(set(names)) != len(names):
        raise DataError(f"{path} holds a name twice, {max(names, key=names.count)!r}; nothing of it was taken. {AGAIN}")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DataError(f"{path} says that it holds more bytes than it has; nothing of it was taken. {AGAIN}")
    if LIST not in names:
        raise _foreign(path, f"it has no {LIST}")
    if archive.getinfo(LIST).file_size > LARGEST_LIST:
        raise DataError(f"{path}: {LIST} has {archive.getinfo(LIST).file_size} bytes, allowed: {LARGEST_LIST}. {AGAIN}")
    bundle = parse(Bundle, _content(path, archive, LIST), path / LIST, AGAIN)
    if not bundle.is_whole:
        raise DataError(f"{path}: {LIST} was changed after it was written. {AGAIN}")
    if unlike := bundle.files.keys() ^ (set(names) - {LIST}):
        raise DataError(f"{path} does not hold exactly what it lists: {min(unlike)!r} for one. {AGAIN}")
    return bundle


def _unsafe(entry: zipfile.ZipInfo) -> str:
    """Say why an entry is no plain file of a bundle."""
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if not NAME.fullmatch(name) or ".." in parts or "." in parts or PurePosixPath(name).is_absolute():
        return "a path that leaves the folder or has letters that no file of a run has"
    if kind not in (0, stat.S_IFREG):
        return "no plain file"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
        return "compressed or encrypted, which bitq never writes"
    return ""


def _content(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    return b"".join(_chunks(path, archive, name))


def _chunks(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    try:
        with archive.open(name) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{path}: {name} is damaged ({error}). {AGAIN}") from error


def _check_content(path: Path, archive: zipfile.ZipFile, bundle: Bundle, name: str) -> None:
    listed, digest = bundle.files[name], hashlib.sha256()
    if archive.getinfo(name).file_size != listed.size:
        raise DataError(f"{path}: {name} has {archive.getinfo(name).file_size} bytes, listed: {listed.size}. {AGAIN}")
    for chunk in _chunks(path, archive, name):
        digest.update(chunk)
    if digest.hexdigest() != listed.sha256:
        raise DataError(f"{path}: {name} is not the file that {LIST} lists. {AGAIN}")


def _extract(path: Path, archive: zipfile.ZipFile, bundle: Bundle, name: str, target: Path) -> None:
    _check_content(path, archive, bundle, name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            for chunk in _chunks(path, archive, name):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"{name} cannot be unpacked: {error.strerror}; nothing of {path} was taken, give another --results folder."
        ) from error


def check_runs(path: Path, bundle: Bundle, staged: Path) -> None:
    """Check that every run is complete, in its place, true to itself, and as the manifest in the bundle lists it."""
    manifest = read_manifest(staged)
    listed = by_run(manifest.files) if manifest else {}
    if manifest is None or listed.keys() != set(bundle.runs):
        raise DataError(f"{path}: its manifest does not list the runs that {LIST} names. {AGAIN}")
    for name in bundle.files:
        _check_place(path, bundle, name)
    for labels_file in (staged / LABELS).glob("*"):  # those too that no run here needs: they would replace others
        read_labels(staged, labels_file.name.removesuffix(".bin"))
    for place in bundle.runs:
        found = read(staged / place)
        if found.config.path != place:
            raise DataError(f"{path}: {place} holds {found.config.path}. {AGAIN}")
        labels = read_labels(staged, found.results.packed.labels_sha256) if found.results.packed else None
        for problem in implausible(found, labels):
            raise DataError(f"{path}: {place}: {problem}. {AGAIN}")
    for name, file in manifest.files.items():
        if bundle.files.get(f"{RESULTS}/{name}", file) != file:
            raise DataError(f"{path}: its manifest has another digest of {name} than {LIST}. {AGAIN}")


def _check_place(path: Path, bundle: Bundle, name: str) -> None:
    """Refuse files among the results that belong to no run of the bundle."""
    if not name.startswith(f"{RESULTS}/"):
        return
    folder, _, file = name.removeprefix(f"{RESULTS}/").rpartition("/")
    known = file in RUN_FILES if folder in bundle.runs else folder == LABELS or name in BESIDE
    if not known:
        raise DataError(f"{path}: {name} belongs to no run of the bundle. {AGAIN}")


def _take_over(path: Path, bundle: Bundle, staged: Path, root: Path) -> Adopted:
    there = tuple(place for place in bundle.runs if (root / place / LAST).exists())
    for place in there:
        if read_bytes(root / place / LAST) != read_bytes(staged / place / LAST):
            raise DataError(
                f"{root / place} holds another result of this run than {path}; nothing of it was taken. Compare them: "
                "bitq adopt it into another folder with --results, then bitq compare."
            )
    for name in sorted((staged / LABELS).glob("*")):
        _move(name, root / LABELS / name.name)
    for place in bundle.runs:
        files = [MODEL] if place in there else [*sorted(RUN_FILES - {LAST}), LAST]  # whose presence means complete
        for file in files:
            _move(staged / place / file, root / place / file)
    takes_manifest = not (root / MANIFEST).exists() and not there
    if takes_manifest:
        _move(staged / MANIFEST, root / MANIFEST)
    new = tuple(place for place in bundle.runs if place not in there)
    return Adopted(bundle, new, there, takes_manifest)


def _move(source: Path, target: Path) -> None:
    """Put a checked file in its place, unless its like is there."""
    if source.exists() and not (target.exists() and sha256_file(target) == sha256_file(source)):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror}; call this again.") from error


def _beside(root: Path) -> "tempfile.TemporaryDirectory[str]":
    """Make a folder on the file system of the results, from which files can be moved to their places."""
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    try:
        return tempfile.TemporaryDirectory(prefix=".adopting-", dir=there)
    except OSError as error:
        raise StorageError(f"nothing can be written to {there}: {error.strerror}; name another --results.") from error


def _foreign(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no bundle that bitq archive wrote: {why}.")
