"""How many seeds, or test images, it would take to decide what is undecided."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bitq.records import Frozen
from bitq.stats.inference import MOST_SEEDS, POWER
from bitq.stats.spread import critical_value, satterthwaite


class Needed(Frozen):
    """What a decision would need, if the estimate and its spread were the true ones."""

    seeds: int | None = None  # in every arm; None if no number up to MOST_SEEDS is enough
    images: float | None = None  # times as many test images, where those limit


@dataclass(frozen=True)
class Spread:
    """What a quantity varies with: its seeds, its test images, and the published mean that it is compared with."""

    deviations: tuple[float, ...]  # over the seeds of each independent sample
    images: float = 0.0  # variance that the choice of test images adds
    published: float = 0.0  # variance of the published mean
    freedom: float | None = None  # of the published mean; None if its spread is taken to be that of the seeds


def needed(distance: float, of: Spread, level: float) -> Needed:
    """Find the fewest seeds with which a difference of `distance` is found with the power POWER."""
    if distance <= 0:
        return Needed()
    if _power(MOST_SEEDS, distance, of, level) < POWER:
        # Without any spread over seeds, the normal deviate of the images must fit into the distance.
        normal = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER))
        left = (distance / normal) ** 2 - of.published
        more = of.images / left if left > 0 else 0.0
        return Needed(images=math.ceil(10 * more) / 10 if more > 1 else None)
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, distance, of, level) >= POWER else (middle, high)
    return Needed(seeds=high)


def _power(n: int, distance: float, of: Spread, level: float) -> float:
    """Compute the power of the test at one end of an interval with n seeds in every sample."""
    variances = np.array([*(deviation**2 / n for deviation in of.deviations), of.published])
    total = float(variances.sum()) + of.images
    if not total:
        return 1.0
    last = n - 1.0 if of.freedom is None else of.freedom
    freedom = float(satterthwaite(variances, np.array([n - 1.0] * len(of.deviations) + [last])))
    critical = float(critical_value(level, variances.sum(), freedom, of.images))
    return float(stats.nct.sf(critical, freedom, distance / math.sqrt(total)))
