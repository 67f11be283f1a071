"""Image sets as they lie on disk: decoded once to uint8 arrays, mapped into memory, checked at each opening."""

import contextlib
import errno
import io
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitq.data import procedural, procedural_pairs
from bitq.data.registry import (
    INFO,
    OFFICIAL,
    PROCEDURAL,
    ArrayRecord,
    Info,
    Variant,
    default_data_dir,
    paired_with,
    read_info,
    variant,
)
from bitq.errors import DataError, StorageError, UsageError
from bitq.io import canonical_json, sha256, write_atomic, write_json
from bitq.rng import derive

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Tokens = NDArray[np.uint16]
Arrays = Mapping[str, NDArray[Any]]
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
TEXTS = ("t_train", "t_test")  # in sets of pairs


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W, C) and labels (N), all uint8; in a set of pairs, tokens (N, words), uint16."""

    x_train: Pixels
    y_train: Pixels
    x_test: Pixels
    y_test: Pixels
    classes: tuple[str, ...] | None  # their names, if known
    variant: Variant
    t_train: Tokens | None = None
    t_test: Tokens | None = None


def describe(arrays: Arrays) -> tuple[ArrayRecord, ...]:
    """Name, dtype, shape and sha256 of each array, in the order of ARRAYS and TEXTS."""
    return tuple(
        (name, arrays[name].dtype.name, arrays[name].shape, sha256(np.ascontiguousarray(arrays[name]).data))
        for name in (*ARRAYS, *TEXTS)
        if name in arrays
    )


def arrays_digest(arrays: Arrays) -> str:
    """The digest of a set: sha256 of the canonical JSON of its description."""
    return sha256(canonical_json(describe(arrays)))


def open_set(wanted: Variant, data_dir: Path | None = None) -> ImageSet:
    """Map a set into memory after checking every byte of it; the procedural set is made at first use."""
    root = data_dir or default_data_dir()
    whole = wanted if wanted.whole else variant(wanted.dataset, wanted.base, root)
    folder = folder_of(whole, root)
    if not folder.exists():
        _make_procedural(whole, root)
    arrays, names = _read_checked(folder, whole)
    if not wanted.whole:
        chosen = first_of_each_class(arrays["y_train"], wanted)
        arrays |= {name: array[chosen] for name, array in arrays.items() if name.endswith("_train")}
    return ImageSet(**arrays, classes=names, variant=wanted)


def folder_of(whole: Variant, data_dir: Path) -> Path:
    """Where a set lies."""
    return data_dir / whole.dataset / whole.name


def _make_procedural(whole: Variant, root: Path) -> None:
    if whole.name != PROCEDURAL:
        raise DataError(f"{whole.dataset}/{whole.name} is not in {root}; get it by `{remedy(whole)}`.")
    write_set(whole, procedural_arrays(whole), None, root)


def procedural_arrays(whole: Variant) -> Arrays:
    """The procedural set, computed anew."""
    return procedural_pairs.pairs(whole) if whole.words else procedural.images(whole.dataset, whole.classes)


def remedy(whole: Variant) -> str:
    """The command that brings a set (back)."""
    if whole.name == OFFICIAL and not paired_with(whole.dataset):
        return f"bitq data fetch {whole.dataset}"
    provenance = "" if not whole.provenance else f" --provenance {shlex.quote(whole.provenance)}"
    name = "" if whole.name == OFFICIAL else f" --variant {whole.name}"
    return f"bitq data import {whole.dataset} FILE{name}{provenance}"


def _read_checked(folder: Path, whole: Variant) -> tuple[dict[str, NDArray[Any]], tuple[str, ...] | None]:
    info = read_info(folder)
    arrays = {name: _map(folder / f"{name}.npy", whole) for name in array_names(whole)}
    found = describe(arrays)
    for now in found:
        if now not in info.arrays:
            raise _damaged(folder / f"{now[0]}.npy", whole)
    digest = sha256(canonical_json(found)) if whole.digest_kind == "arrays" else info.variant.digest
    if digest != whole.digest:
        raise _damaged(folder, whole)
    return arrays, info.class_names


def array_names(whole: Variant) -> tuple[str, ...]:
    """The arrays that a set consists of."""
    return (*ARRAYS, *TEXTS) if whole.words else ARRAYS


def _map(path: Path, whole: Variant) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, whole) from error
    return array


def _damaged(path: Path, whole: Variant) -> DataError:
    how = "delete its folder, it is made again" if whole.name == PROCEDURAL else f"restore it by `{remedy(whole)}`"
    return DataError(f"{path} is damaged or not the {whole.name} form of {whole.dataset}; {how}.")


def first_of_each_class(labels: Pixels, subset: Variant) -> Indices:
    """Indices of the first train/classes images of each class, in stored order."""
    share = subset.train // subset.classes
    chosen = [np.flatnonzero(labels == label)[:share] for label in range(subset.classes)]
    if min(map(len, chosen)) < share:
        raise UsageError(
            f"{subset.dataset}/{subset.name} needs {share} images of each class, but one has fewer; ask for less."
        )
    return np.sort(np.concatenate(chosen))


def write_set(
    whole: Variant,
    arrays: Arrays,
    names: tuple[str, ...] | None,
    data_dir: Path,
    vocabulary: tuple[str, ...] | None = None,
) -> Path:
    """Store a decoded set; its folder appears complete or not at all, and replaces a damaged one."""
    _check_fit(whole, arrays)
    found = describe(arrays)
    if whole.digest_kind == "arrays" and sha256(canonical_json(found)) != whole.digest:
        raise DataError(
            f"the arrays given for {whole.dataset}/{whole.name} are not those of its digest {whole.digest[:12]}."
        )
    folder = folder_of(whole, data_dir)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        for name in array_names(whole):
            write_atomic(temporary / f"{name}.npy", *_npy(arrays[name]))
        info = Info(variant=whole, class_names=names, arrays=found, vocabulary=vocabulary)
        write_json(temporary / INFO, info.model_dump(mode="json"))
        _put_in_place(temporary, folder, whole)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_fit(whole: Variant, arrays: Arrays) -> None:
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.shape != whole.shape(split) or y.shape != x.shape[:1] or x.dtype != np.uint8 or y.dtype != np.uint8:
            raise DataError(f"{whole.dataset}/{whole.name}: the {split} arrays are not the uint8 {whole.shape(split)}.")
        if y.max() >= whole.classes:
            raise DataError(f"{whole.dataset}/{whole.name}: {split} label {y.max()} is not below {whole.classes}.")
        if whole.words:
            _check_sentences(whole, split, arrays[f"t_{split}"])


def _check_sentences(whole: Variant, split: str, tokens: NDArray[Any]) -> None:
    shape = whole.text_shape(split)
    if tokens.shape != shape or tokens.dtype != np.uint16 or tokens.max() >= whole.vocabulary:
        raise DataError(
            f"{whole.dataset}/{whole.name}: the {split} sentences are not the uint16 {shape} below {whole.vocabulary}."
        )


def _npy(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    header = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.data


def _put_in_place(temporary: Path, folder: Path, whole: Variant) -> None:
    """Rename; if a folder is there, another process was faster (keep its work) or it is damaged (replace it)."""
    aside = temporary.with_suffix(".old")
    try:
        while not _renamed(temporary, folder):
            if status(whole, folder.parents[1]) == "present":
                return
            with contextlib.suppress(FileNotFoundError):
                os.rename(folder, aside)
    except OSError as error:
        raise StorageError(f"{folder} could not be put in place: {error.strerror}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _renamed(source: Path, target: Path) -> bool:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def status(whole: Variant, data_dir: Path) -> str:
    """present, damaged or missing."""
    folder = folder_of(whole, data_dir)
    if not folder.exists():
        return "missing"
    try:
        _read_checked(folder, whole)
    except DataError:
        return "damaged"
    return "present"


def summary(whole: Variant, data_dir: Path) -> dict[str, Any]:
    """A set as a plain record: what it is and where it lies."""
    return whole.model_dump(mode="json", exclude={"name"}) | {
        "variant": whole.name,
        "path": str(folder_of(whole, data_dir)),
    }


def split(labels: Pixels, share: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of the training and the validation images, `share` of each class in the latter; both ascending."""
    keys = np.random.Philox(key=derive(seed, "split")).random_raw(len(labels))
    held = [_draw(np.flatnonzero(labels == label), keys, share) for label in np.unique(labels)]
    validation = np.sort(np.concatenate(held))
    train = np.setdiff1d(np.arange(len(labels)), validation)
    if not len(validation) or not len(train):
        raise UsageError(
            f"validation={share} of {len(labels)} images leaves one side empty; give a share between them."
        )
    return train, validation


def _draw(members: Indices, keys: NDArray[np.uint64], share: float) -> Indices:
    return members[np.argsort(keys[members], kind="stable")][: round(share * len(members))]
