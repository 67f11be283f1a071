"""Compute small colour textures, on which smoke runs and tests train without a data set.

An image is a plaid, cos(fx·x + φx) · cos(fy·y + φy), swinging along one tint around grey, with noise; its class is the
pair (plaid, tint). The phases are random: the mean image of every class is flat, so that a linear model is poor at it,
and shifts and mirror images keep the class, so that crops and flips do no harm. Everything is integer arithmetic on
the raw output of Philox, hence the same bytes on every machine and under every version of numpy.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bitq.rng import derive

Integers = NDArray[np.int64]

SIZE, TRAIN, TEST = 16, 1280, 500
PLAIDS = np.array([(3, 3), (30, 30), (3, 30), (30, 3)])  # (fx, fy) in 64ths of a cycle per pixel
TINTS = np.array([(64, 64, 64), (64, -64, 0), (32, 32, -64), (64, 0, 0), (0, 0, 64)])
TURN = 64  # steps of a full cycle
# No entry lies near a half, so every cosine rounds to the same integer.
COSINE = np.array([round(256 * math.cos(2 * math.pi * step / TURN)) for step in range(TURN)])


class Draws:
    """Numbered columns of random integers, one row per image."""

    def __init__(self, key: int, rows: int) -> None:
        self.key, self.rows = key, rows

    def raw(self, column: int, per_row: int = 1) -> NDArray[np.uint64]:
        """Return raw 64-bit words, (rows, per_row); each column is a stream of its own."""
        words: NDArray[np.uint64] = np.random.Philox(key=self.key << 8 | column).random_raw(self.rows * per_row)
        return words.reshape(self.rows, per_row)

    def integers(self, column: int, low: int, high: int, per_row: int = 1) -> Integers:
        """Return integers in [low, high]."""
        return low + (self.raw(column, per_row) % np.uint64(high - low + 1)).astype(np.int64)


def images(dataset: str, classes: int) -> dict[str, NDArray[np.uint8]]:
    """Compute the balanced set for 5, 10, 15 or 20 classes: x_train, y_train, x_test, y_test.

    Each data set has draws of its own: stand-ins that shared their images would repeat one experiment under many names.
    """
    draws = Draws(key=derive(classes, "textures for " + dataset), rows=TRAIN + TEST)
    order = draws.raw(0)[:, 0]
    y = np.concatenate([balanced_labels(order[:TRAIN], classes), balanced_labels(order[TRAIN:], classes)])
    x = np.clip(128 + _texture(draws, y) + _shade(draws) + _noise(draws), 0, 255).astype(np.uint8)
    y = y.astype(np.uint8)
    return {"x_train": x[:TRAIN], "y_train": y[:TRAIN], "x_test": x[TRAIN:], "y_test": y[TRAIN:]}


def balanced_labels(order: NDArray[np.uint64], classes: int) -> Integers:
    """Assign equally frequent labels in the order of random keys."""
    return np.argsort(order, kind="stable") % classes


def _texture(draws: Draws, y: Integers) -> Integers:
    """Compute the plaid of each label, (N, 16, 16, 3), within ±131."""
    step = PLAIDS[y // len(TINTS), :, None] * np.arange(SIZE) + draws.integers(1, 0, TURN - 1, 2)[..., None]
    columns, rows = COSINE[step % TURN].swapaxes(0, 1)
    tint = (TINTS[y % len(TINTS)] + draws.integers(2, -3, 3, 3)) * draws.integers(3, 110, 125)
    texture: Integers = rows[:, :, None, None] * columns[:, None, :, None] * tint[:, None, None, :] >> 22
    return texture


def _shade(draws: Draws) -> Integers:
    """Draw a background colour for each image."""
    return draws.integers(4, -5, 5, 3)[:, None, None, :]


def _noise(draws: Draws) -> Integers:
    """Draw triangular noise within ±10 for each pixel and channel."""
    raw = draws.raw(5, SIZE * SIZE * 3 // 8).astype("<u8").view(np.uint8).astype(np.int64)
    return ((raw & 15) + (raw >> 4) - 15).reshape(draws.rows, SIZE, SIZE, 3) * 10 >> 4
