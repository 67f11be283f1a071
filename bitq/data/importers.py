"""Image sets from local files: recognised by their digest, or taken in under a name and provenance of their own."""

from pathlib import Path
from typing import Any

import numpy as np

from bitq.data.foreign import Content, read_foreign
from bitq.data.registry import NAME, Variant, datasets, default_data_dir, imported, registered, variant
from bitq.data.store import ARRAYS, Pixels, arrays_digest, folder_of, status, summary, write_set
from bitq.errors import DataError, UsageError


def import_set(
    dataset: str,
    file: Path,
    name: str | None = None,
    provenance: str | None = None,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """Decode a local file into the data folder: as the registered variant that it is, else under a name of its own."""
    official, root = variant(dataset), data_dir or default_data_dir()
    content = read_foreign(file, official.channels)
    arrays = {key: _stored_form(f"{file}: {key}", content[0][key], official.channels) for key in ARRAYS}
    digest = arrays_digest(arrays)
    known = [one for one in registered(dataset).values() if one.digest == digest]
    whole = known[0] if known else _describe(official, file, content, name or "custom", provenance, digest)
    if status(whole, root) != "present":
        _refuse_overwriting(whole, root)
        write_set(whole, arrays, content[1], root)
    return summary(whole, root)


def info(dataset: str | None = None, data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Every variant that is registered or in the data folder, each with its status: present, damaged or missing."""
    root = data_dir or default_data_dir()
    found = []
    for each in [dataset] if dataset else datasets():
        for name in (*registered(each), *imported(each, root)):
            whole = variant(each, name, root)
            found.append(summary(whole, root) | {"status": status(whole, root)})
    return found


def _stored_form(what: str, array: np.ndarray[Any, Any], channels: int) -> Pixels:
    """uint8 images (N, H, W, C) or uint8 labels (N), or a complaint."""
    if not array.size:
        raise DataError(f"{what} is empty; both splits need images.")
    if what.partition(": ")[2].startswith("y"):
        return _labels(what, array)
    images = array[..., None] if array.ndim == 3 else array
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1] != images.shape[2]
        or images.shape[3] != channels
    ):
        raise DataError(f"{what} is {array.dtype} of shape {array.shape}; allowed: uint8, (N, H, H, {channels}).")
    return images


def _labels(what: str, labels: np.ndarray[Any, Any]) -> Pixels:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{what} is {labels.dtype} of shape {labels.shape}; allowed: whole numbers, (N).")
    if labels.min() < 0 or labels.max() > 255:
        raise DataError(f"{what} has labels from {labels.min()} to {labels.max()}; allowed: 0 to 255.")
    return labels.astype(np.uint8)


def _describe(
    official: Variant, file: Path, content: Content, name: str, provenance: str | None, digest: str
) -> Variant:
    """A record of data that no other copy of bitq knows."""
    _check_name(official.dataset, file, name, digest)
    if not (provenance or "").strip():
        raise UsageError(
            f"{file} is no registered variant of {official.dataset} ({', '.join(registered(official.dataset))}); say "
            f"where it comes from: bitq data import {official.dataset} {file} --variant {name} --provenance TEXT."
        )
    arrays, names = content
    highest = max(int(arrays["y_train"].max()), int(arrays["y_test"].max()))
    own = {
        "name": name,
        "classes": len(names) if names else max(2, highest + 1),
        "image_size": arrays["x_train"].shape[1],
        "train": len(arrays["y_train"]),
        "test": len(arrays["y_test"]),
        "digest": digest,
        "digest_kind": "arrays",
        "source": "imported",
        "licence": "see provenance",
        "citation": "see provenance",
        "provenance": provenance,
    }
    return Variant.model_validate(official.model_dump() | own)


def _check_name(dataset: str, file: Path, name: str, digest: str) -> None:
    if name in registered(dataset):
        raise DataError(
            f"{file} is not {dataset}/{name}, its arrays have the digest {digest}; get the right file, or import this "
            f"one under another --variant with --provenance."
        )
    if not NAME.fullmatch(name):
        raise UsageError(f"--variant {name!r} was given; allowed: small letters, digits, '-', '_' and '.'.")


def _refuse_overwriting(whole: Variant, root: Path) -> None:
    if whole.name in imported(whole.dataset, root):
        raise UsageError(
            f"{whole.dataset}/{whole.name} already holds other images; choose another --variant, or delete "
            f"{folder_of(whole, root)} first."
        )
