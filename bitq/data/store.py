"""Store image sets on disk: decoded once to uint8 arrays, mapped into memory, checked at each opening."""

import contextlib
import errno
import io
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
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
)
from bitq.data.registry import variant as find_variant
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
    classes: tuple[str, ...] | None  # names, if known
    variant: Variant
    t_train: Tokens | None = None
    t_test: Tokens | None = None
    # What has been sent to a device, by part and device: the runs of one process share it.
    sent: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)


def describe(arrays: Arrays) -> tuple[ArrayRecord, ...]:
    """Describe each array by name, dtype, shape and sha256, in the order of ARRAYS and TEXTS."""
    return tuple(
        (name, arrays[name].dtype.name, arrays[name].shape, sha256(np.ascontiguousarray(arrays[name]).data))
        for name in (*ARRAYS, *TEXTS)
        if name in arrays
    )


def arrays_digest(arrays: Arrays) -> str:
    """Compute the digest of a set: sha256 of the canonical JSON of its description."""
    return sha256(canonical_json(describe(arrays)))


def open_set(wanted: Variant, data_dir: Path | None = None) -> ImageSet:
    """Map a set into memory after checking every byte of it; the procedural set is made at first use."""
    root = data_dir or default_data_dir()
    variant = find_variant(wanted.dataset, wanted.base, root) if wanted.is_subset else wanted
    folder = folder_of(variant, root)
    if not folder.exists():
        _make_procedural(variant, root)
    arrays, names = _read_checked(folder, variant)
    if wanted.is_subset:
        for split in ("train", "test"):
            chosen = first_of_each_class(arrays[f"y_{split}"], wanted, split)
            arrays |= {name: array[chosen] for name, array in arrays.items() if name.endswith(f"_{split}")}
    return ImageSet(**arrays, classes=names, variant=wanted)  # type: ignore[arg-type]


def folder_of(variant: Variant, data_dir: Path) -> Path:
    """Return the folder of a set."""
    return data_dir / variant.dataset / variant.name


def _make_procedural(variant: Variant, root: Path) -> None:
    if variant.name != PROCEDURAL:
        raise DataError(
            f"{variant.dataset}/{variant.name} is not in {root}; get it by `{remedy(variant)}`{_others(variant, root)}."
        )
    write_set(variant, procedural_arrays(variant), None, root)


def _others(missing: Variant, root: Path) -> str:
    """Name the variants of the set that are there."""
    folders = sorted(path.parent.name for path in (root / missing.dataset).glob(f"*/{INFO}"))
    there = [name for name in folders if name != PROCEDURAL]
    return f", or use what is there: --variant {' or --variant '.join(there)}" if there else ""


def procedural_arrays(variant: Variant) -> Arrays:
    """Compute the procedural set."""
    return procedural_pairs.pairs(variant) if variant.words else procedural.images(variant.dataset, variant.classes)


def remedy(variant: Variant) -> str:
    """Return the command that gets a set, or gets it again."""
    if variant.name == OFFICIAL and not paired_with(variant.dataset):
        return f"bitq data fetch {variant.dataset}"
    provenance = "" if not variant.provenance else f" --provenance {shlex.quote(variant.provenance)}"
    name = "" if variant.name == OFFICIAL else f" --variant {variant.name}"
    return f"bitq data import {variant.dataset} FILE{name}{provenance}"


def _read_checked(folder: Path, variant: Variant) -> tuple[dict[str, NDArray[Any]], tuple[str, ...] | None]:
    info = read_info(folder)
    arrays = {name: _map(folder / f"{name}.npy", variant) for name in array_names(variant)}
    found = describe(arrays)
    for record in found:
        if record not in info.arrays:
            raise _damaged(folder / f"{record[0]}.npy", variant)
    digest = sha256(canonical_json(found)) if variant.digest_kind == "arrays" else info.variant.digest
    if digest != variant.digest:
        raise _damaged(folder, variant)
    return arrays, info.class_names


def array_names(variant: Variant) -> tuple[str, ...]:
    """List the arrays of a set."""
    return (*ARRAYS, *TEXTS) if variant.words else ARRAYS


def _map(path: Path, variant: Variant) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, variant) from error
    return array


def _damaged(path: Path, variant: Variant) -> DataError:
    how = "delete its folder, it is made again" if variant.name == PROCEDURAL else f"restore it by `{remedy(variant)}`"
    return DataError(f"{path} is damaged or not the {variant.name} form of {variant.dataset}; {how}.")


def first_of_each_class(labels: Pixels, subset: Variant, split: str) -> Indices:
    """Select the first images of each class, in stored order, as many as the subset has in `train` or `test`."""
    share = subset.shape(split)[0] // subset.classes
    chosen = [np.flatnonzero(labels == label)[:share] for label in range(subset.classes)]
    if min(map(len, chosen)) < share:
        raise UsageError(
            f"{subset.dataset}/{subset.name} needs {share} {split} images of each class, but one has fewer; "
            "ask for less."
        )
    return np.sort(np.concatenate(chosen))


def write_set(
    variant: Variant,
    arrays: Arrays,
    names: tuple[str, ...] | None,
    data_dir: Path,
    vocabulary: tuple[str, ...] | None = None,
) -> Path:
    """Store a decoded set; its folder appears complete or not at all, and replaces a damaged one."""
    _check_fit(variant, arrays)
    found = describe(arrays)
    if variant.digest_kind == "arrays" and sha256(canonical_json(found)) != variant.digest:
        raise DataError(
            f"the arrays given for {variant.dataset}/{variant.name} are not those of its digest {variant.digest[:12]}."
        )
    folder = folder_of(variant, data_dir)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        for name in array_names(variant):
            write_atomic(temporary / f"{name}.npy", *_npy(arrays[name]))
        info = Info(variant=variant, class_names=names, arrays=found, vocabulary=vocabulary)
        write_json(temporary / INFO, info.model_dump(mode="json"))
        _move_into_place(temporary, folder, variant)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check_fit(variant: Variant, arrays: Arrays) -> None:
    name = f"{variant.dataset}/{variant.name}"
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.shape != variant.shape(split) or y.shape != x.shape[:1] or x.dtype != np.uint8 or y.dtype != np.uint8:
            raise DataError(f"{name}: the {split} arrays are not the uint8 {variant.shape(split)}.")
        if y.max() >= variant.classes:
            raise DataError(f"{name}: {split} label {y.max()} is not below {variant.classes}.")
        if variant.words:
            _check_sentences(variant, split, arrays[f"t_{split}"])


def _check_sentences(variant: Variant, split: str, tokens: NDArray[Any]) -> None:
    name, shape = f"{variant.dataset}/{variant.name}", variant.text_shape(split)
    if tokens.shape != shape or tokens.dtype != np.uint16 or tokens.max() >= variant.vocabulary:
        raise DataError(f"{name}: the {split} sentences are not the uint16 {shape} below {variant.vocabulary}.")


def _npy(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    header = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.data


def _move_into_place(temporary: Path, folder: Path, variant: Variant) -> None:
    """Rename; if a folder is there, another process was faster (keep its work) or it is damaged (replace it)."""
    aside = temporary.with_suffix(".old")
    try:
        while not _renamed(temporary, folder):
            if status(variant, folder.parents[1]) == "present":
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


def status(variant: Variant, data_dir: Path) -> str:
    """Return present, damaged or missing."""
    folder = folder_of(variant, data_dir)
    if not folder.exists():
        return "missing"
    try:
        _read_checked(folder, variant)
    except DataError:
        return "damaged"
    return "present"


def summary(variant: Variant, data_dir: Path) -> dict[str, Any]:
    """Summarise a set as a plain record, with its path."""
    return variant.model_dump(mode="json", exclude={"name"}) | {
        "variant": variant.name,
        "path": str(folder_of(variant, data_dir)),
    }


def split(labels: Pixels, share: float, seed: int) -> tuple[Indices, Indices]:
    """Split indices into training and validation, `share` of each class in the latter; both ascending."""
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
