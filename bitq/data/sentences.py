"""Read sentences with a sentiment from a Parquet table, and encode them as tokens of a vocabulary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitq.data.store import Tokens
from bitq.errors import DataError, UsageError

PADDING, UNKNOWN = "", "<unknown>"  # tokens 0 and 1
TRAIN, TEST = ("train",), ("validation", "train_dev")  # values of the column `split`
COLUMNS = ("split", "text", "label")


@dataclass(frozen=True)
class Sentences:
    """Texts in the order of their table, and whether each is positive (1) or negative (0)."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]


def read_sentences(file: Path) -> tuple[Sentences, Sentences]:
    """Read the training and the test sentences; a test sentence whose exact text is in training is left out."""
    import pyarrow
    import pyarrow.parquet

    if file.suffix != ".parquet" or not file.is_file():
        raise UsageError(f"{file} was given; allowed: a .parquet file with the columns {', '.join(COLUMNS)}.")
    try:
        rows = pyarrow.parquet.read_table(file, columns=list(COLUMNS)).to_pylist()
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} cannot be read as a table of {', '.join(COLUMNS)} ({error}).") from error
    known = {row["text"] for row in rows if row["split"] in TRAIN}
    train = [row for row in rows if row["split"] in TRAIN]
    test = [row for split in TEST for row in rows if row["split"] == split and row["text"] not in known]
    return _sentences(file, "training", train), _sentences(file, "test", test)


def _sentences(file: Path, side: str, rows: Sequence[dict[str, object]]) -> Sentences:
    labels = {row["label"] for row in rows}
    if labels != {0, 1}:
        raise DataError(f"{file}: its {side} sentences have the labels {sorted(map(str, labels))}; expected 0 and 1.")
    return Sentences(tuple(str(row["text"]) for row in rows), np.array([row["label"] for row in rows], np.int64))


def words_of(text: str) -> list[str]:
    """Lower-case a text and cut it at white space: the sentences come with their punctuation set apart.

    >>> words_of("It 's Charming .")
    ['it', "'s", 'charming', '.']
    """
    return text.lower().split()


def vocabulary_of(texts: Sequence[str], size: int) -> tuple[str, ...]:
    """Build a vocabulary: padding, unknown, then the most frequent words, ties in alphabetical order.

    >>> vocabulary_of(["b a b", "c a"], 4)
    ('', '<unknown>', 'a', 'b')
    """
    counts = Counter(word for text in texts for word in words_of(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return (PADDING, UNKNOWN, *ranked[: size - 2])


def encode(texts: Sequence[str], vocabulary: Sequence[str], words: int) -> Tokens:
    """Encode sentences as tokens (N, words): longer ones are cut, shorter ones padded at the end.

    >>> encode(["a b", "b z a a"], ("", "<unknown>", "a", "b"), 3).tolist()
    [[2, 3, 0], [3, 1, 2]]
    """
    token = {word: index for index, word in enumerate(vocabulary)}
    tokens = np.zeros((len(texts), words), np.uint16)
    for row, text in zip(tokens, texts, strict=True):
        found = [token.get(word, 1) for word in words_of(text)[:words]]
        row[: len(found)] = found
    return tokens
