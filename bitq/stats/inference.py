"""Intervals and tests for small samples: thin layers over scipy and statsmodels, for n from 0 up."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.power import TTestPower

from bitq.records import Frozen
from bitq.stats.cells import Values
from bitq.stats.spread import satterthwaite

LEVEL = 0.95
TOST_LEVEL = 0.9  # two one-sided tests at 5 % ask whether the 90 % interval lies within the margin
ALPHA, POWER = 0.05, 0.8  # of detectable differences and needed seeds
D_Z_FROM = 10  # with fewer pairs the spread of differences is too uncertain to divide by
MOST_SEEDS = 1000  # more than that are not looked for

Interval = tuple[float, float]
Resolutions = tuple[float, float]  # smallest steps of two measurements: no spread counts as less
CONTINUOUS: Resolutions = (0.0, 0.0)


class Difference(NamedTuple):
    """A mean difference with its standard error and degrees of freedom."""

    mean: float
    error: float
    freedom: float


class Test(Frozen):
    """A two-sided t test."""

    __test__ = False  # no test case of pytest

    t: float
    df: float
    p: float


class Equivalence(Frozen):
    """The result of two one-sided tests that the difference is less than the margin either way."""

    margin: float
    p: float
    equivalent: bool


def mean(values: Values) -> float | None:
    """Compute the mean, or None without values."""
    return float(values.mean()) if len(values) else None


def spread(values: Values) -> float | None:
    """Compute the sample standard deviation, exactly zero where only rounding errors are left."""
    if len(values) < 2:
        return None
    return 0.0 if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())) else float(values.std(ddof=1))


def t_interval(values: Values, level: float = LEVEL, resolution: float = 0.0) -> Interval | None:
    """Compute the t interval of the mean, its spread at least the resolution; None if its spread is unknown."""
    deviation = _least_spread(values, resolution)
    if len(values) < 2 or not deviation:
        return None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def paired_test(a: Values, b: Values, resolutions: Resolutions = CONTINUOUS) -> Test | None:
    """Compute the paired t test; None where the differences have no spread."""
    return _t_test(_of_pairs(a, b, resolutions))


def welch_test(a: Values, b: Values, resolutions: Resolutions = CONTINUOUS) -> Test | None:
    """Compute the t test of two samples of unequal variance, without pairing."""
    return _t_test(_of_samples(a, b, resolutions))


def _of_pairs(a: Values, b: Values, resolutions: Resolutions) -> Difference | None:
    if len(a) < 2:
        return None
    variance = _least_spread(a - b, max(resolutions)) ** 2 / len(a)
    return Difference(float((a - b).mean()), math.sqrt(variance), len(a) - 1.0) if variance else None


def _of_samples(a: Values, b: Values, resolutions: Resolutions) -> Difference | None:
    if min(len(a), len(b)) < 2:
        return None
    variances = [_least_spread(of, step) ** 2 / len(of) for of, step in zip((a, b), resolutions, strict=True)]
    freedom = float(satterthwaite(variances, [len(a) - 1.0, len(b) - 1.0]))
    return Difference(float(a.mean() - b.mean()), math.sqrt(sum(variances)), freedom) if sum(variances) else None


def _least_spread(values: Values, resolution: float) -> float:
    """Compute the standard deviation, no less than one step of the measurement: the interval counts the same."""
    return max(spread(values) or 0.0, resolution)


def _t_test(of: Difference | None) -> Test | None:
    if of is None:
        return None
    t = of.mean / of.error
    return Test(t=t, df=of.freedom, p=2 * float(stats.t.sf(abs(t), of.freedom)))


def cohens_d_z(a: Values, b: Values) -> float | None:
    """Compute the mean difference in standard deviations of the differences, from D_Z_FROM pairs on."""
    deviation = spread(a - b) if len(a) >= D_Z_FROM else None
    return float((a - b).mean()) / deviation if deviation else None


def correlation(a: Values, b: Values) -> float | None:
    """Compute the correlation of two arms over their seeds: what pairing is worth; None below three pairs."""
    if len(a) < 3 or not spread(a) or not spread(b):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def hedges_g(a: Values, b: Values) -> float | None:
    """Compute the mean difference in pooled standard deviations of the arms, corrected for small-sample bias."""
    if not spread(a) and not spread(b):
        return None
    return float(effectsize_smd(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))[0])


def detectable(differences: Values, resolution: float = 0.0) -> float | None:
    """Compute the smallest true difference that a paired test at this n and spread detects with power POWER."""
    if len(differences) < 2:
        return None
    return detectable_d_z(len(differences)) * _least_spread(differences, resolution)


@cache
def detectable_d_z(n: int) -> float:
    """Compute the smallest detectable difference in standard deviations of the differences."""
    return float(TTestPower().solve_power(nobs=n, alpha=ALPHA, power=POWER, alternative="two-sided"))


def equivalence(
    a: Values, b: Values, margin: float, paired: bool = True, resolutions: Resolutions = CONTINUOUS
) -> Equivalence | None:
    """Test equivalence by TOST at level ALPHA: paired, or of two samples in Welch's way."""
    of = (_of_pairs if paired else _of_samples)(a, b, resolutions)
    if of is None:
        return None
    one_sided = (stats.t.sf((margin + sign * of.mean) / of.error, of.freedom) for sign in (1, -1))
    p = float(max(one_sided))
    return Equivalence(margin=margin, p=p, equivalent=p < ALPHA)


class Exact(Frozen):
    """One-sided exact p values of two counts: that the first is larger, and that it is smaller."""

    larger: float
    smaller: float


def exact_paired(only_a: int, only_b: int) -> Exact:
    """Test paired events exactly: given that just one of two arms has it, each is as likely to be the one.

    >>> exact_paired(3, 0)
    Exact(larger=0.125, smaller=1.0)
    """
    if not only_a + only_b:
        return Exact(larger=1.0, smaller=1.0)
    larger, smaller = (
        stats.binomtest(only_a, only_a + only_b, alternative=side).pvalue for side in ("greater", "less")
    )
    return Exact(larger=float(larger), smaller=float(smaller))


def exact_independent(events_a: int, n_a: int, events_b: int, n_b: int) -> Exact:
    """Test two proportions of independent runs by Barnard's exact test."""
    if events_a * n_b == events_b * n_a:
        return Exact(larger=1.0, smaller=1.0)
    table = [[events_a, events_b], [n_a - events_a, n_b - events_b]]
    larger, smaller = (stats.barnard_exact(table, alternative=side).pvalue for side in ("greater", "less"))
    return Exact(larger=float(larger), smaller=float(smaller))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values by Holm's method within one family; a contrast without a test takes no part."""
    # Not statsmodels: it collects garbage in each call, which took half of the time of all statistics.
    tested = np.array([p for p in p_values if p is not None])
    order = tested.argsort(kind="stable")
    tested[order] = np.maximum.accumulate(tested[order] * np.arange(len(tested), 0, -1)).clip(max=1)
    adjusted = iter(tested.tolist())
    return [None if p is None else next(adjusted) for p in p_values]
