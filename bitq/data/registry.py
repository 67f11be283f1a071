"""The registered image sets, their variants, and the digest that identifies each."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from bitq.errors import DataError, UsageError, one_of
from bitq.io import canonical_json, read_json, sha256
from bitq.records import Frozen

OFFICIAL, PROCEDURAL = "official", "procedural"
INFO = "info.json"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
ArrayRecord = tuple[str, str, tuple[int, ...], str]  # name, dtype, shape, sha256 of the bytes in C order


class Variant(Frozen):
    """One form of an image set. `digest` identifies its pixels, labels and their order."""

    dataset: str
    name: str
    classes: int = Field(ge=2, le=256)
    image_size: int = Field(ge=1)  # pixels, height and width
    channels: Literal[1, 3]
    train: int = Field(ge=1)  # images
    test: int = Field(ge=1)
    words: int = Field(default=0, ge=0)  # of the sentence beside each image, padded or cut; 0: there is none
    vocabulary: int = Field(default=0, ge=0, le=1 << 16)  # tokens: 0 pads, 1 is any unknown word
    digest: str
    digest_kind: Literal["arrays", "archive"] = "arrays"  # of the decoded arrays, or of their archive
    source: str
    licence: str
    citation: str
    provenance: str = ""  # of data that is not registered: its origin, as given at import

    @property
    def base(self) -> str:
        """Name of the variant that this one is a subset of, or its own name."""
        return self.name.partition("@")[0]

    @property
    def is_subset(self) -> bool:
        """Whether training images of `base` are left out."""
        return self.base != self.name

    def shape(self, split: str) -> tuple[int, int, int, int]:
        """Return the shape of the images of `train` or `test`, (N, H, W, C)."""
        count = self.train if split == "train" else self.test
        return count, self.image_size, self.image_size, self.channels

    def text_shape(self, split: str) -> tuple[int, int]:
        """Return the shape of the sentences of `train` or `test`, (N, words)."""
        return self.shape(split)[0], self.words


class Info(Frozen):
    """The contents of info.json, written when a set is decoded."""

    variant: Variant
    class_names: tuple[str, ...] | None
    arrays: tuple[ArrayRecord, ...] = Field(min_length=4, max_length=6)  # train and test: images, labels, sentences
    vocabulary: tuple[str, ...] | None = None  # the word of each token, where there are sentences


class Archive(Frozen):
    """One file of an official set and its published digest."""

    name: str
    sha256: str | None = None
    md5: str | None = None  # only where no sha256 is published
    max_mib: int

    @model_validator(mode="after")
    def _has_a_digest(self) -> "Archive":
        if not (self.sha256 or self.md5):
            raise ValueError(f"{self.name} needs a published sha256 or md5")
        return self


class Download(Frozen):
    """The source of an official set and the layout of its archives."""

    layout: Literal["cifar10", "cifar100", "tiny_imagenet", "idx"]
    mirrors: tuple[str, ...]
    archives: tuple[Archive, ...]


def default_data_dir() -> Path:
    """Return the folder of decoded sets ($BITQ_DATA)."""
    return Path(os.environ.get("BITQ_DATA") or "data")


@cache
def _registry() -> dict[str, dict[str, Any]]:
    registry: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("registry.yaml").read_text("utf-8"))
    return registry


def datasets() -> tuple[str, ...]:
    """List the names of all image sets."""
    return tuple(_registry())


def download(dataset: str) -> Download:
    """Return the source of the official form of a set."""
    if images := paired_with(dataset):
        raise UsageError(
            f"{dataset} is made of two sets: run `bitq data fetch {images}`, then `bitq data import {dataset} FILE` "
            f"with a Parquet file of sentences (columns split, text, label)."
        )
    return Download(**_entry(dataset)["download"])


def paired_with(dataset: str) -> str | None:
    """Return the image set whose images this one pairs with sentences, or None for any other set."""
    images: str | None = _entry(dataset).get("paired_with")
    return images


def registered(dataset: str) -> dict[str, Variant]:
    """Return the variants that every copy of bitq knows, by name."""
    entry = _entry(dataset)
    records = {name: {**entry["all"], **own} for name, own in entry["variants"].items()}
    return {name: Variant(dataset=dataset, name=name, **record) for name, record in records.items()}


def imported(dataset: str, data_dir: Path | None = None) -> tuple[str, ...]:
    """List the names of the variants that only this data folder knows."""
    _entry(dataset)
    folders = (data_dir or default_data_dir()).joinpath(dataset).glob(f"*/{INFO}")
    names = sorted(path.parent.name for path in folders)
    return tuple(name for name in names if NAME.fullmatch(name) and name not in registered(dataset))


def variant(dataset: str, name: str = OFFICIAL, data_dir: Path | None = None) -> Variant:
    """Find a variant by name: registered, imported, or NAME@N for a fixed balanced subset of N training images.

    The test images of a subset are as large a share of all test images, rounded down to as many of each class.

    >>> subset = variant("cifar10", "cifar10-q5@5000")
    >>> subset.train, subset.test
    (5000, 1000)
    """
    base, subset, images = name.partition("@")
    known = registered(dataset)
    if base in known:
        found = known[base]
    elif base in imported(dataset, data_dir):
        found = read_info((data_dir or default_data_dir()) / dataset / base).variant
    else:
        allowed = [*known, *imported(dataset, data_dir)]
        raise one_of(
            f"variant of {dataset}",
            base,
            allowed,
            "NAME@N takes the first N training images, balanced, and as large a share of the test images.",
        )
    return _subset(found, images) if subset else found


def _entry(dataset: str) -> dict[str, Any]:
    if dataset not in _registry():
        raise one_of("data set", dataset, datasets())
    return _registry()[dataset]


def read_info(folder: Path) -> Info:
    """Read the record of a decoded set."""
    path = folder / INFO
    try:
        return Info.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError(f"{path} does not describe an image set; delete its folder and get the set again.") from error


def _subset(whole: Variant, images: str) -> Variant:
    """Describe the subset of the first images of each class, in stored order."""
    count = int(images) if images.isdecimal() else 0
    if count < 1 or count % whole.classes or count > whole.train:
        raise UsageError(
            f"{whole.dataset}/{whole.name}@{images} was asked for; the number after @ must be a multiple of the "
            f"{whole.classes} classes, at most {whole.train}, for example {whole.name}@{10 * whole.classes}."
        )
    test = max(whole.test * count // (whole.train * whole.classes), 1) * whole.classes
    digest = sha256(canonical_json([whole.digest, count, test]))
    update = {"name": f"{whole.name}@{count}", "train": count, "test": test, "digest": digest}
    return whole.model_copy(update=update)
