"""Predictions of stored runs as arrays, for statistics over single test images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitq.errors import DataError
from bitq.results.folder import read
from bitq.results.predictions import read_labels


def predictions_of(folder: Path) -> NDArray[np.uint8]:
    """Return the class that a run's packed file gives each test image, in stored order."""
    return np.frombuffer(_shipped(folder)[0], np.uint8)


def correct_of(folder: Path, results: Path) -> NDArray[np.bool_]:
    """Return whether a run's packed file classifies each test image correctly; `results` is the folder of all runs."""
    predictions, labels_sha256 = _shipped(folder)
    labels = read_labels(results, labels_sha256)
    if len(labels) != len(predictions):
        raise DataError(f"{folder} has {len(predictions)} predictions for {len(labels)} labels; call bitq verify.")
    correct: NDArray[np.bool_] = np.frombuffer(predictions, np.uint8) == np.frombuffer(labels, np.uint8)
    return correct


def _shipped(folder: Path) -> tuple[bytes, str]:
    run = read(folder)
    if run.results.packed is None or run.predictions is None:
        raise DataError(
            f"{folder} holds a run that diverged and ships nothing, so it has no predictions; choose one that is done."
        )
    return run.predictions, run.results.packed.labels_sha256
