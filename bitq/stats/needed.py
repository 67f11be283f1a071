"""How many seeds, or test images, it would take to decide what is undecided."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from bitq.records import Frozen
from bitq.stats.inference import MOST_SEEDS, POWER
from bitq.stats.spread import critical_value, satterthwaite


class Needed(Frozen):
    """What a decision would need, if the estimate and its spread were the true ones."""

    seeds: int | None = None  # in every arm; None if no number up to MOST_SEEDS is enough
    images: float | None = None  # times as many test images, where those limit


def needed(distance: float, deviations: Sequence[float], images: float, level: float) -> Needed:
    """Find the fewest seeds with which a difference of `distance` is found with the power POWER.

    `deviations` are the standard deviations over seeds of each independent sample, `images` is the variance that the
    choice of test images adds.
    """
    if distance <= 0:
        return Needed()
    if _power(MOST_SEEDS, distance, deviations, images, level) < POWER:
        # Without any spread over seeds, the normal deviate of the images alone must fit into the distance.
        normal = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER))
        more = normal**2 * images / distance**2
        return Needed(images=math.ceil(10 * more) / 10 if more > 1 else None)
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, distance, deviations, images, level) >= POWER else (middle, high)
    return Needed(seeds=high)


def _power(n: int, distance: float, deviations: Sequence[float], images: float, level: float) -> float:
    """Compute the power of the test at one end of an interval with n seeds in every sample."""
    variances = np.array(deviations) ** 2 / n
    total = float(variances.sum()) + images
    if not total:
        return 1.0
    freedom = float(satterthwaite(variances, np.full(len(variances), n - 1.0))) if variances.any() else n - 1.0
    critical = float(critical_value(level, variances.sum(), freedom, images))
    return float(stats.nct.sf(critical, freedom, distance / math.sqrt(total)))
