"""Estimate sums over arms and ratios of two sums: pairs by seed where draws are shared, Welch's way elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bitq.stats.cells import DRAWS, Cell, Values
from bitq.stats.images import NONE, Images, Matrix, Share, image_covariance
from bitq.stats.inference import Interval
from bitq.stats.spread import critical_value, half_width, satterthwaite

Weights = Mapping[str, tuple[float, float]]  # of each arm, in the numerator and in the denominator


@dataclass(frozen=True)
class Block:
    """Sums over arms that share initial weights and batches: numerator and denominator, one column a seed."""

    seeds: tuple[int, ...]
    sums: Values  # 2 × seeds
    resolution: float  # no spread over seeds counts as less: equal counts of images are not equal accuracies

    @cached_property
    def covariance(self) -> Matrix:
        """Covariance of the two means."""
        n = len(self.seeds)
        if n < 2:
            return np.zeros((2, 2))
        found = np.cov(self.sums)
        floor = self.resolution**2
        if found[0, 0] < floor:
            found = np.diag([floor, found[1, 1]])
        covariance: Matrix = found / n
        return covariance

    def variance(self, ratio: float) -> float:
        """Return the variance of the mean of numerator - ratio · denominator."""
        c = np.array([1.0, -ratio])
        return max(float(c @ self.covariance @ c), self.resolution**2 / max(len(self.seeds), 1), 0.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or the ratio of two, with everything that its uncertainty consists of."""

    blocks: tuple[Block, ...]
    is_ratio: bool
    images: Matrix | None = None  # covariance that new test images add
    published: tuple[float, float] | None = None  # variance and degrees of freedom of a published mean
    inflation: float = 1.0  # of the variance over seeds, for a published mean of runs as variable as ours
    columns: dict[str, Values] = field(default_factory=dict)  # values of the arms, over the seeds that count

    @property
    def n(self) -> int:
        """Number of seeds, the smallest one should blocks have different numbers."""
        return min((len(block.seeds) for block in self.blocks), default=0)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that count."""
        return tuple(sorted({seed for block in self.blocks for seed in block.seeds}))

    @cached_property
    def means(self) -> Values:
        """Means of numerator and denominator."""
        found = np.sum([block.sums.mean(1) for block in self.blocks], axis=0)
        return found if self.is_ratio else np.array([found[0], 1.0])

    @property
    def value(self) -> float | None:
        """Estimate of the quantity."""
        if not self.n or not self.means[1]:
            return None
        return float(self.means[0] / self.means[1])

    def spread(self, ratio: float) -> tuple[list[float], list[float], float]:
        """Return the variances over seeds with their degrees of freedom, and the variance over images.

        They are those of numerator - ratio · denominator, or of the numerator where the quantity is no ratio.
        """
        at = ratio if self.is_ratio else 0.0
        variances = [self.inflation * block.variance(at) for block in self.blocks]
        freedom = [len(block.seeds) - 1.0 for block in self.blocks]
        if self.published:
            variances, freedom = [*variances, self.published[0]], [*freedom, self.published[1]]
        c = np.array([1.0, -at])
        return variances, freedom, 0.0 if self.images is None else max(0.0, float(c @ self.images @ c))

    def half(self, ratio: float, level: float) -> float | None:
        """Compute half of the interval of numerator - ratio · denominator; None if its spread is unknown."""
        variances, freedom, images = self.spread(ratio)
        if self.n < 2 or not sum(variances):
            return None
        return float(half_width(level, variances, freedom, images))

    def distance(self, limit: float, level: float) -> Interval:
        """Return the interval of numerator - limit · denominator, which asks for no division."""
        center, half = float(self.means[0] - limit * self.means[1]), self.half(limit, level)
        return (-math.inf, math.inf) if half is None else (center - half, center + half)

    def interval(self, level: float) -> Interval | None:
        """Compute the interval of the quantity: Fieller's of a ratio, None if that is unbounded."""
        if self.n < 2 or self.value is None:
            return None
        if self.is_ratio:
            return self._fieller(level)
        half = self.half(0.0, level)
        return None if half is None else (self.value - half, self.value + half)

    def denominator(self, level: float) -> Interval:
        """Return the interval of the denominator."""
        swapped = [
            Block(block.seeds, block.sums[::-1], 0.0 if not block.sums[1].any() else block.resolution)
            for block in self.blocks
        ]
        images = None if self.images is None else self.images[::-1, ::-1]
        return Estimate(tuple(swapped), False, images).distance(0.0, level)

    def _fieller(self, level: float) -> Interval | None:
        """Solve (m₁ - r·m₂)² ≤ c²·(s₁₁ - 2·r·s₁₂ + r²·s₂₂), a quadratic in r."""
        variances, freedom, images = self.spread(self.value or 0.0)
        if not sum(variances):
            return None
        crit = float(critical_value(level, sum(variances), satterthwaite(variances, freedom), images))
        spreads = np.sum([block.covariance for block in self.blocks], axis=0)
        spreads = crit**2 * (spreads if self.images is None else spreads + self.images)
        (c, b), (_, a) = np.outer(self.means, self.means) - spreads
        if a <= 0:  # the denominator may be zero
            return None
        root = math.sqrt(max(0.0, b * b - a * c))
        return float((b - root) / a), float((b + root) / a)


def draws(of: Cell) -> tuple[object, ...]:
    """Return what decides the random draws of a seed; arms that agree in it are paired.

    What is not trained has no batches, and those of its start are the ones that count.
    """
    untrained = of.kinds["epochs"][0] == 0
    return tuple(None if untrained and column == "batch" else of.kinds[column][0] for column in DRAWS)


def share_draws(a: Cell, b: Cell) -> bool:
    """Return whether two arms of one seed have the same initial weights and the same batches."""
    return all(x == y for x, y in zip(draws(a), draws(b), strict=True) if x is not None and y is not None)


def grouped(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Group the arms that share their draws."""
    groups: list[list[str]] = []
    for name, of in cells.items():
        same = next((group for group in groups if share_draws(cells[group[0]], of)), None)
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return groups


def estimate(
    cells: Mapping[str, Cell], weights: Weights, column: str, is_ratio: bool = False, images: Images = NONE
) -> Estimate:
    """Estimate the weighted sum of arms, or the ratio of two, over the seeds that arms which share draws have."""
    blocks: list[Block] = []
    shares: list[Share] = []
    columns: dict[str, Values] = {}
    for number, group in enumerate(grouped(cells)):
        block, of_group = _block(group, cells, weights, column)
        blocks.append(block)
        columns |= of_group
        shares += [_share(cells[name], block.seeds, weights[name], number) for name in group]
    whole = all(block.seeds for block in blocks) and column == "accuracy"
    covariance = image_covariance(shares, images) if whole and images.correct else None
    return Estimate(tuple(blocks), is_ratio, covariance, columns=columns)


def _block(
    group: Sequence[str], cells: Mapping[str, Cell], weights: Weights, column: str
) -> tuple[Block, dict[str, Values]]:
    by_seed = {name: cells[name].by_seed(column) for name in group}
    seeds = tuple(sorted(set.intersection(*(set(of) for of in by_seed.values()))))
    columns = {name: np.array([of[seed] for seed in seeds]) for name, of in by_seed.items()}
    sums = np.array([sum(weights[name][part] * columns[name] for name in group) for part in (0, 1)])
    steps = [abs(weights[name][0]) * cells[name].resolution(column) for name in group]
    return Block(seeds, sums.reshape(2, len(seeds)), max(steps)), columns


def _share(of: Cell, seeds: Sequence[int], weights: tuple[float, float], block: int) -> Share:
    return Share(tuple(of.hashes[seed] for seed in seeds), weights, block)
