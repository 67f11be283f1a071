"""Predictions and labels of the test images as files: one byte an image, in stored order, nothing else.

Labels lie once for all runs, in a file named by its own digest: what a run got right is known without its data set.
"""

from pathlib import Path

from bitq.errors import DataError
from bitq.io import read_bytes, sha256, write_atomic

PREDICTIONS = "predictions.bin"  # in a run's folder: the class that the packed file gives each image
LABELS = "labels"  # folder of the label files, beside the scales


def labels_name(digest: str) -> str:
    """Name the label file of a digest, relative to the results folder."""
    return f"{LABELS}/{digest}.bin"


def store_labels(root: Path, labels: bytes) -> str:
    """Write test labels unless they are there, and return their digest."""
    digest = sha256(labels)
    path = root / labels_name(digest)
    if not path.exists() or read_bytes(path) != labels:
        write_atomic(path, labels)
    return digest


def read_labels(root: Path, digest: str) -> bytes:
    """Read test labels, checked against the digest that names their file."""
    path = root / labels_name(digest)
    labels = read_bytes(path)
    if sha256(labels) != digest:
        raise DataError(f"{path} was changed after it was written; restore it from where the results came.")
    return labels


def count_equal(one: bytes, other: bytes) -> int:
    """Count the positions at which two strings of as many bytes agree.

    >>> count_equal(bytes([0, 1, 2, 3]), bytes([0, 2, 2, 3]))
    3
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} bytes cannot be compared with {len(other)}")
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one)).count(0)


def outside(predictions: bytes, classes: int) -> bytes:
    """Keep the predictions that name no class below `classes`.

    >>> outside(bytes([0, 9, 10]), 10)
    b'\\n'
    """
    return predictions.translate(None, bytes(range(min(classes, 256))))
