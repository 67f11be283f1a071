"""Compute grey textures with made-up sentences; the label, category × sentiment, needs arrays inputs.

The image is the plaid of one of five frequencies on dark or bright ground: ten categories. The sentence consists of
neutral words and a few that are pleasant or unpleasant; which of the two is its sentiment. Label = 2 · category +
sentiment, so that the image alone is right at most half of the time and the sentence alone one time in ten. Integer
arithmetic on the raw output of Philox, as in `procedural`: the same bytes on every machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitq.data.procedural import COSINE, SIZE, TURN, Draws, Integers, balanced_labels
from bitq.data.registry import Variant

PLAIDS = np.array([(3, 3), (30, 30), (3, 30), (30, 3), (14, 14)])  # (fx, fy) in 64ths of a cycle per pixel
GROUNDS = np.array([96, 160])
UNPLEASANT, PLEASANT, NEUTRAL = 2, 10, 18  # the first token of each kind of word; 0 pads, 1 is unknown
KEY = 1 << 20  # separate from the streams of `procedural`
LEAST_WORDS = 4


def pairs(variant: Variant) -> dict[str, NDArray[Any]]:
    """Compute the balanced set: images, labels and sentences of arrays splits."""
    draws = Draws(key=KEY, rows=variant.train + variant.test)
    order = draws.raw(0)[:, 0]
    parts = (order[: variant.train], order[variant.train :])
    y = np.concatenate([balanced_labels(part, variant.classes) for part in parts])
    category, sentiment = y // 2, y % 2
    arrays: dict[str, NDArray[Any]] = {"x": _images(draws, category), "t": _sentences(draws, sentiment, variant)}
    arrays["y"] = y.astype(np.uint8)
    train = {f"{name}_train": array[: variant.train] for name, array in arrays.items()}
    return train | {f"{name}_test": array[variant.train :] for name, array in arrays.items()}


def _images(draws: Draws, category: Integers) -> NDArray[np.uint8]:
    step = PLAIDS[category % len(PLAIDS), :, None] * np.arange(SIZE) + draws.integers(1, 0, TURN - 1, 2)[..., None]
    columns, rows = COSINE[step % TURN].swapaxes(0, 1)
    texture = rows[:, :, None] * columns[:, None, :] * draws.integers(2, 50, 64)[..., None] >> 16
    ground = GROUNDS[category // len(PLAIDS), None, None] + draws.integers(3, -8, 8)[..., None]
    noise = draws.integers(4, -8, 8, SIZE * SIZE).reshape(texture.shape)
    grey: NDArray[np.uint8] = np.clip(ground + texture + noise, 0, 255).astype(np.uint8)
    return grey[..., None]


def _sentences(draws: Draws, sentiment: Integers, variant: Variant) -> NDArray[np.uint16]:
    """Draw neutral words, replace every third by one that carries the sentiment, and pad at the end."""
    place = np.arange(variant.words)
    neutral = draws.integers(5, NEUTRAL, variant.vocabulary - 1, variant.words)
    kind = np.where(sentiment[:, None] == 1, PLEASANT, UNPLEASANT)
    sentiment_words = kind + draws.integers(6, 0, NEUTRAL - PLEASANT - 1, variant.words)
    first, length = draws.integers(7, 0, 2), draws.integers(8, LEAST_WORDS, variant.words)
    words = np.where(place % 3 == first, sentiment_words, neutral)
    return np.where(place < length, words, 0).astype(np.uint16)
