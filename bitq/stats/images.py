"""Which test images every run classifies correctly, and how much a difference would change with new images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from bitq.errors import DataError
from bitq.records import Frozen
from bitq.results.columns import PREDICTED
from bitq.stats.cells import Cell, Values

FILE = "predictions.parquet"  # beside runs.parquet
Correct = NDArray[np.bool_]
Matrix = NDArray[np.float64]


class McNemar(Frozen):
    """The exact test of two files on the same images: those that only one of them classifies correctly."""

    seed: int
    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Images:
    """Correct classifications by the hash of a run, and the name of the set of images that they are of."""

    correct: Mapping[str, Correct]
    of_set: Mapping[str, int]

    def have(self, hashes: Sequence[str]) -> bool:
        """Return whether the predictions of all these runs are known."""
        return all(each in self.correct for each in hashes)


NONE = Images({}, {})


def read_images(parquet: Path) -> Images:
    """Read the predictions that `bitq aggregate` wrote; without the file no interval speaks of new images."""
    if not parquet.exists():
        return NONE
    try:
        table = pq.read_table(parquet, columns=[column.name for column in PREDICTED])
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{parquet} cannot be read ({error}); write it with: bitq aggregate.") from error
    return _decoded(_rows(table))


def _rows(table: pa.Table) -> Iterator[tuple[str, bytes, bytes]]:
    for batch in table.to_batches():
        columns = (batch.column(name).to_pylist() for name in ("hash", "labels", "predictions"))
        yield from zip(*columns, strict=True)


def _decoded(rows: Iterator[tuple[str, bytes, bytes]]) -> Images:
    sets: dict[bytes, int] = {}
    correct: dict[str, Correct] = {}
    of_set: dict[str, int] = {}
    for name, labels, predictions in rows:
        if len(labels) != len(predictions):
            raise DataError(
                f"run {name[:12]} has {len(predictions)} predictions for {len(labels)} labels; call bitq verify."
            )
        correct[name] = np.frombuffer(predictions, np.uint8) == np.frombuffer(labels, np.uint8)
        of_set[name] = sets.setdefault(labels, len(sets))
    return Images(correct, of_set)


def mcnemar(a: Cell, b: Cell, seeds: Sequence[int], images: Images) -> tuple[McNemar, ...]:
    """Test two arms on the same images, one exact McNemar test for each seed whose predictions are known."""
    found = []
    for seed in seeds:
        pair = (a.hashes[seed], b.hashes[seed])
        if images.have(pair) and images.of_set[pair[0]] == images.of_set[pair[1]]:
            left, right = (images.correct[name] for name in pair)
            found.append(mcnemar_of(seed, int((left & ~right).sum()), int((right & ~left).sum())))
    return tuple(found)


def mcnemar_of(seed: int, only_a: int, only_b: int) -> McNemar:
    """Compute the two-sided exact test: under equality each disagreement is the toss of a coin."""
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(seed=seed, only_a=only_a, only_b=only_b, p=p)


@dataclass(frozen=True)
class Share:
    """An arm's part in a sum: its runs, one a seed, its weights in numerator and denominator, and its block."""

    hashes: tuple[str, ...]
    weights: tuple[float, float]
    block: int


def image_covariance(shares: Sequence[Share], images: Images) -> Matrix | None:
    """Estimate the covariance that the choice of test images gives two sums of accuracies in percent."""
    if not shares or not images.have([name for share in shares for name in share.hashes]):
        return None
    sets: dict[int, list[Share]] = {}
    for share in shares:
        sets.setdefault(images.of_set[share.hashes[0]], []).append(share)
    total: Matrix = np.sum([_of_set(of_set, images) for of_set in sets.values()], axis=0)
    return total


def _of_set(shares: Sequence[Share], images: Images) -> Matrix:
    """Estimate it for one set of images; the spread of single answers counts with the seeds (see spread.py)."""
    blocks: dict[int, list[Share]] = {}
    for share in shares:
        blocks.setdefault(share.block, []).append(share)
    tables = [np.sum([_weighted(share, images) for share in block], axis=0) for block in blocks.values()]
    count = tables[0].shape[-1]
    of_images = np.sum([table.mean(1) for table in tables], axis=0)
    single = np.sum([_residual(table) / table.shape[1] for table in tables], axis=0)
    found = np.atleast_2d(np.cov(of_images)) - single
    kept = np.diag(found) > 0
    covariance: Matrix = np.where(np.outer(kept, kept), found, 0.0) / count
    return covariance


def _weighted(share: Share, images: Images) -> Values:
    """Stack numerator and denominator: 2 × seeds × images."""
    answers = 100.0 * np.stack([images.correct[name] for name in share.hashes])
    return np.stack([weight * answers for weight in share.weights])


def _residual(table: Values) -> Matrix:
    """Compute the covariance of what neither the seed nor the image explains."""
    _, seeds, count = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(2, keepdims=True) + table.mean((1, 2), keepdims=True)
    flat = rest.reshape(2, -1)
    covariance: Matrix = (flat @ flat.T) / (max(seeds - 1, 1) * (count - 1))
    return covariance
