"""Grey textures with made-up sentences: pairs whose label, category × sentiment, neither half can tell alone.

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
KEY = 1 << 20  # its own streams
LEAST_WORDS = 4


def pairs(whole: Variant) -> dict[str, NDArray[Any]]:
    """The whole set, balanced: images, labels and sentences of both splits."""
    draws = Draws(key=KEY, rows=whole.train + whole.test)
    order = draws.raw(0)[:, 0]
    parts = (order[: whole.train], order[whole.train :])
    y = np.concatenate([balanced_labels(part, whole.classes) for part in parts])
    category, sentiment = y // 2, y % 2
    both: dict[str, NDArray[Any]] = {"x": _images(draws, category), "t": _sentences(draws, sentiment, whole)}
    both["y"] = y.astype(np.uint8)
    train = {f"{name}_train": array[: whole.train] for name, array in both.items()}
    return train | {f"{name}_test": array[whole.train :] for name, array in both.items()}


def _images(draws: Draws, category: Integers) -> NDArray[np.uint8]:
    step = PLAIDS[category % len(PLAIDS), :, None] * np.arange(SIZE) + draws.integers(1, 0, TURN - 1, 2)[..., None]
    columns, rows = COSINE[step % TURN].swapaxes(0, 1)
    texture = rows[:, :, None] * columns[:, None, :] * draws.integers(2, 50, 64)[..., None] >> 16
    ground = GROUNDS[category // len(PLAIDS), None, None] + draws.integers(3, -8, 8)[..., None]
    noise = draws.integers(4, -8, 8, SIZE * SIZE).reshape(texture.shape)
    grey: NDArray[np.uint8] = np.clip(ground + texture + noise, 0, 255).astype(np.uint8)
    return grey[..., None]


def _sentences(draws: Draws, sentiment: Integers, whole: Variant) -> NDArray[np.uint16]:
    """Neutral words, every third of them replaced by one that carries the sentiment; padded behind."""
    place = np.arange(whole.words)
    neutral = draws.integers(5, NEUTRAL, whole.vocabulary - 1, whole.words)
    kind = np.where(sentiment[:, None] == 1, PLEASANT, UNPLEASANT)
    telling = kind + draws.integers(6, 0, NEUTRAL - PLEASANT - 1, whole.words)
    first, length = draws.integers(7, 0, 2), draws.integers(8, LEAST_WORDS, whole.words)
    words = np.where(place % 3 == first, telling, neutral)
    return np.where(place < length, words, 0).astype(np.uint16)
