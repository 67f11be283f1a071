"""Intervals and tests for small samples: thin layers over scipy and statsmodels, for n from 0 up."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from bitq.records import Frozen
from bitq.stats.cells import Values

LEVEL = 0.95
TOST_LEVEL = 0.9  # two one-sided tests at 5 % ask whether the 90 % interval lies within the margin
ALPHA, POWER = 0.05, 0.8  # of detectable differences and needed seeds
D_Z_FROM = 10  # with fewer pairs the spread of differences is too uncertain to divide by
MOST_SEEDS = 1000  # more than that are not looked for

Interval = tuple[float, float]


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
    deviation = max(spread(values) or 0.0, resolution)
    if len(values) < 2 or not deviation:
        return None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def paired_test(a: Values, b: Values) -> Test | None:
    """Compute the paired t test; None where the differences have no spread."""
    if not spread(a - b):
        return None
    found = stats.ttest_rel(a, b)
    return Test(t=float(found.statistic), df=float(found.df), p=float(found.pvalue))


def welch_test(a: Values, b: Values) -> Test | None:
    """Compute the t test of two samples of unequal variance, without pairing."""
    if not spread(a) or not spread(b):
        return None
    found = stats.ttest_ind(a, b, equal_var=False)
    return Test(t=float(found.statistic), df=float(found.df), p=float(found.pvalue))


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


def detectable(differences: Values) -> float | None:
    """Compute the smallest true difference that a paired test at this n and spread detects with power POWER."""
    deviation = spread(differences)
    return None if deviation is None else detectable_d_z(len(differences)) * deviation


@cache
def detectable_d_z(n: int) -> float:
    """Compute the smallest detectable difference in standard deviations of the differences."""
    return float(TTestPower().solve_power(nobs=n, alpha=ALPHA, power=POWER, alternative="two-sided"))


def equivalence(
    a: Values, b: Values, margin: float, paired: bool = True, resolution: float = 0.0
) -> Equivalence | None:
    """Test equivalence by TOST at level ALPHA: paired, or of two samples in Welch's way."""
    if min(len(a), len(b)) < 2:
        return None
    if paired and (spread(a - b) or 0.0) < resolution:
        p = _tost(float((a - b).mean()), resolution / math.sqrt(len(a)), len(a) - 1, margin)
    elif paired and spread(a - b):
        p = float(ttost_paired(a, b, -margin, margin)[0])
    elif not paired and (spread(a) or spread(b)):
        p = float(ttost_ind(a, b, -margin, margin, usevar="unequal")[0])
    else:
        return None
    return Equivalence(margin=margin, p=p, equivalent=p < ALPHA)


def _tost(difference: float, error: float, freedom: float, margin: float) -> float:
    """Compute the larger p of two one-sided t tests from a difference and its standard error."""
    return float(
        max(stats.t.sf((difference + margin) / error, freedom), stats.t.sf((margin - difference) / error, freedom))
    )


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
