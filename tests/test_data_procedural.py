"""The procedural set: the same bytes everywhere, learnable, not by a linear model."""

import numpy as np
import pytest

from bitq.data import procedural
from bitq.data.registry import PROCEDURAL, datasets, registered
from bitq.data.store import Arrays, arrays_digest, procedural_arrays


@pytest.mark.parametrize("dataset", datasets())
def test_its_bytes_are_those_of_the_registry(dataset: str) -> None:
    record = registered(dataset)[PROCEDURAL]
    arrays = procedural_arrays(record)
    assert arrays_digest(arrays) == record.digest
    assert arrays["x_train"].shape == record.shape("train")
    assert arrays["x_test"].shape == record.shape("test")


@pytest.mark.parametrize("classes", [10, 20])
def test_every_class_is_equally_frequent_and_shuffled(classes: int) -> None:
    arrays = procedural.images("cifar10", classes)
    for labels in (arrays["y_train"], arrays["y_test"]):
        assert np.bincount(labels).tolist() == [len(labels) // classes] * classes
        assert abs(np.corrcoef(labels, np.arange(len(labels)))[0, 1]) < 0.1


@pytest.mark.parametrize("classes", [10, 20])
def test_a_linear_model_stays_below_60_percent(classes: int) -> None:
    arrays = procedural.images("cifar10", classes)
    assert 1.2 / classes < best_linear_accuracy(arrays, classes) <= 0.6


def best_linear_accuracy(arrays: Arrays, classes: int) -> float:
    """Ridge regression on the labels, at the strength that is best on the test images."""
    train, test = (_features(arrays[f"x_{split}"]) for split in ("train", "test"))
    gram, target = train.T @ train, train.T @ np.eye(classes)[arrays["y_train"]]
    scores = (test @ np.linalg.solve(gram + ridge * np.eye(len(gram)), target) for ridge in 10.0 ** np.arange(-2, 5))
    return max(float((score.argmax(1) == arrays["y_test"]).mean()) for score in scores)


def _features(x: np.ndarray) -> np.ndarray:
    return np.hstack([x.reshape(len(x), -1) / 127.5 - 1, np.ones((len(x), 1))])
