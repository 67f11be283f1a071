"""Pair images with sentences; the label of a pair is (category of the image, sentiment of the sentence).

The pairing is a function of a fixed seed and the stored orders. Training images get training sentences, test images
test sentences. Within each category every other image, in a random order, gets a positive sentence and the rest a
negative one, so all labels are equally frequent. The images of a sentiment, in stored order, then take the sentences of
that sentiment in a random order, beginning again once all are used: no sentence is used twice before each is used once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitq.data.registry import Variant
from bitq.data.sentences import Sentences, encode, vocabulary_of
from bitq.data.store import Arrays, ImageSet, Indices
from bitq.rng import derive

SEED = 2025
SENTIMENTS = ("negative", "positive")


def pair(images: ImageSet, train: Sentences, test: Sentences, variant: Variant) -> tuple[Arrays, tuple[str, ...]]:
    """Build the arrays of the set of pairs, and its vocabulary from the training sentences alone."""
    vocabulary = vocabulary_of(train.texts, variant.vocabulary)
    arrays: dict[str, NDArray[Any]] = {"x_train": images.x_train, "x_test": images.x_test}
    for split, categories, sentences in (("train", images.y_train, train), ("test", images.y_test, test)):
        sentiments = draw_sentiments(categories, split)
        chosen = draw_sentences(sentiments, sentences.labels, split)
        arrays[f"y_{split}"] = (2 * categories + sentiments).astype(np.uint8)
        arrays[f"t_{split}"] = encode(sentences.texts, vocabulary, variant.words)[chosen]
    return arrays, vocabulary


def class_names(categories: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Name the pairs, if the categories have names."""
    if categories is None:
        return None
    return tuple(f"{category}, {sentiment}" for category in categories for sentiment in SENTIMENTS)


def draw_sentiments(categories: NDArray[np.uint8], split: str) -> Indices:
    """Draw 0 or 1 for each image, half and half within every category."""
    keys = _keys(f"sentiments of {split}", len(categories))
    sentiments = np.zeros(len(categories), np.int64)
    for category in np.unique(categories):
        members = np.flatnonzero(categories == category)
        sentiments[members[np.argsort(keys[members], kind="stable")]] = np.arange(len(members)) % 2
    return sentiments


def draw_sentences(sentiments: Indices, labels: Indices, split: str) -> Indices:
    """Draw the index of a sentence with the given sentiment for each image."""
    keys = _keys(f"sentences of {split}", len(labels))
    chosen = np.zeros(len(sentiments), np.int64)
    for sentiment in range(len(SENTIMENTS)):
        pool = np.flatnonzero(labels == sentiment)
        pool = pool[np.argsort(keys[pool], kind="stable")]
        images = np.flatnonzero(sentiments == sentiment)
        chosen[images] = pool[np.arange(len(images)) % len(pool)]
    return chosen


def _keys(purpose: str, count: int) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = np.random.Philox(key=derive(SEED, purpose)).random_raw(count)
    return keys
