"""Import image sets from local files: a registered variant by its digest, others with a name and a provenance."""

from pathlib import Path
from typing import Any

import numpy as np

from bitq.data.foreign import read_foreign
from bitq.data.pairs import class_names, pair
from bitq.data.registry import (
    NAME,
    Variant,
    datasets,
    default_data_dir,
    imported,
    paired_with,
    registered,
)
from bitq.data.registry import variant as find_variant
from bitq.data.sentences import read_sentences
from bitq.data.store import (
    Arrays,
    Pixels,
    arrays_digest,
    folder_of,
    open_set,
    status,
    summary,
    write_set,
)
from bitq.errors import DataError, UsageError


def import_set(
    dataset: str,
    file: Path,
    name: str | None = None,
    provenance: str | None = None,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """Decode a local file into the data folder, as the registered variant it is or under a name of its own."""
    official, root = find_variant(dataset), data_dir or default_data_dir()
    vocabulary = None
    if images := paired_with(dataset):
        arrays, names, vocabulary = _pairs(official, images, file, root)
    else:
        arrays, names = _decoded(official, file)
    variant = _recognise(dataset, arrays) or _describe(official, file, arrays, names, name or "custom", provenance)
    if status(variant, root) != "present":
        _refuse_overwriting(variant, root)
        write_set(variant, arrays, names, root, vocabulary)
    return summary(find_variant(dataset, variant.name, root), root)


def _decoded(official: Variant, file: Path) -> tuple[Arrays, tuple[str, ...] | None]:
    found, names = read_foreign(file, official.channels)
    images = {key: _images(f"{file}: {key}", found[key], official.channels) for key in ("x_train", "x_test")}
    return images | {key: _labels(f"{file}: {key}", found[key]) for key in ("y_train", "y_test")}, names


def _pairs(
    official: Variant, images: str, file: Path, root: Path
) -> tuple[Arrays, tuple[str, ...] | None, tuple[str, ...]]:
    """Pair the images in the data folder with the sentences of a file: arrays, class names and vocabulary."""
    pictures = open_set(find_variant(images), root)
    arrays, vocabulary = pair(pictures, *read_sentences(file), official)
    return arrays, class_names(pictures.classes), vocabulary


def info(dataset: str | None = None, data_dir: Path | None = None) -> list[dict[str, Any]]:
    """List every variant that is registered or in the data folder, with its status: present, damaged or missing."""
    root = data_dir or default_data_dir()
    found = []
    for each in [dataset] if dataset else datasets():
        for name in (*registered(each), *imported(each, root)):
            variant = find_variant(each, name, root)
            found.append(summary(variant, root) | {"status": status(variant, root)})
    return found


def _recognise(dataset: str, arrays: Arrays) -> Variant | None:
    digest = arrays_digest(arrays)
    return next((known for known in registered(dataset).values() if known.digest == digest), None)


def _images(what: str, images: np.ndarray[Any, Any], channels: int) -> Pixels:
    stored = images[..., None] if images.ndim == 3 else images
    square = stored.ndim == 4 and stored.shape[1] == stored.shape[2]
    if not (stored.size and square and stored.dtype == np.uint8 and stored.shape[3] == channels):
        raise DataError(
            f"{what} is {images.dtype} of shape {images.shape}; allowed: uint8, (N, H, H, {channels}), N > 0."
        )
    return stored


def _labels(what: str, labels: np.ndarray[Any, Any]) -> Pixels:
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
        raise DataError(f"{what} is {labels.dtype} of shape {labels.shape}; allowed: whole numbers, (N), N > 0.")
    if labels.min() < 0 or labels.max() > 255:
        raise DataError(f"{what} has labels from {labels.min()} to {labels.max()}; allowed: 0 to 255.")
    return labels.astype(np.uint8)


def _describe(
    official: Variant, file: Path, arrays: Arrays, names: tuple[str, ...] | None, name: str, provenance: str | None
) -> Variant:
    """Describe data that is not registered as a variant."""
    _check_name(official.dataset, file, name)
    if not (provenance or "").strip():
        raise UsageError(
            f"{file} is no registered variant of {official.dataset} ({', '.join(registered(official.dataset))}); say "
            f"where it comes from: bitq data import {official.dataset} {file} --variant {name} --provenance TEXT."
        )
    highest = max(int(arrays["y_train"].max()), int(arrays["y_test"].max()))
    classes = len(names) if names else highest + 1
    if not 2 <= classes <= 256:
        raise DataError(f"{file} has {classes} classes; allowed: 2 to 256.")
    own = {
        "name": name,
        "classes": classes,
        "image_size": arrays["x_train"].shape[1],
        "train": len(arrays["y_train"]),
        "test": len(arrays["y_test"]),
        "digest": arrays_digest(arrays),
        "digest_kind": "arrays",
        "source": "imported",
        "licence": "see provenance",
        "citation": "see provenance",
        "provenance": provenance,
    }
    return Variant.model_validate(official.model_dump() | own)


def _check_name(dataset: str, file: Path, name: str) -> None:
    if name in registered(dataset):
        raise DataError(
            f"{file} does not hold the images of {dataset}/{name}; get the right file, or import this one under "
            f"another --variant with --provenance."
        )
    if not NAME.fullmatch(name):
        raise UsageError(f"--variant {name!r} was given; allowed: small letters, digits, '-', '_' and '.'.")


def _refuse_overwriting(variant: Variant, root: Path) -> None:
    taken = variant.name in imported(variant.dataset, root)
    if taken and find_variant(variant.dataset, variant.name, root).digest != variant.digest:
        raise UsageError(
            f"{variant.dataset}/{variant.name} already holds other images; choose another --variant, or delete "
            f"{folder_of(variant, root)} first."
        )
