"""Intervals and tests for small samples: thin layers over scipy and statsmodels, for n from 0 up."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from bitq.records import Frozen
from bitq.stats.cells import Values

LEVEL = 0.95
ALPHA, POWER = 0.05, 0.8  # of the minimum detectable effect
RESAMPLES, BOOTSTRAP_SEED, BOOTSTRAP_FROM = 9999, 158, 5  # below five runs a bootstrap interval is too short

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
    p: float | None
    equivalent: bool


def mean(values: Values) -> float | None:
    """Compute the mean, or None without values."""
    return float(values.mean()) if len(values) else None


def spread(values: Values) -> float | None:
    """Compute the sample standard deviation, exactly zero where only rounding errors are left."""
    if len(values) < 2:
        return None
    return 0.0 if np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())) else float(values.std(ddof=1))


def t_interval(values: Values, level: float = LEVEL) -> Interval | None:
    """Compute the t interval of the mean: a point if all values are equal, None below two values."""
    deviation = spread(values)
    if deviation is None:
        return None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap_interval(values: Values) -> Interval | None:
    """Compute the BCa bootstrap interval of the mean, the same on every call."""
    if len(values) < BOOTSTRAP_FROM:
        return None
    if not spread(values):
        return t_interval(values)
    drawn = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, rng=np.random.default_rng(BOOTSTRAP_SEED)
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def ratio_interval(numerators: Values, denominators: Values, level: float = LEVEL) -> Interval | None:
    """Compute Fieller's interval for mean(numerators) / mean(denominators), paired; None if it is unbounded.

    It holds every ratio r for which numerators - r·denominators has a mean that a t test does not tell from zero.
    """
    n = len(numerators)
    if n < 2:
        return None
    means = np.array([numerators.mean(), denominators.mean()])
    spreads = np.cov(numerators, denominators) / n * stats.t.ppf((1 + level) / 2, n - 1) ** 2
    # (m₁ - r·m₂)² ≤ s₁₁ - 2·r·s₁₂ + r²·s₂₂ is a quadratic in r; it opens upwards only if m₂ surely is not zero.
    (c, b), (_, a) = np.outer(means, means) - spreads
    if a <= 0:
        return None
    root = math.sqrt(max(0.0, b * b - a * c))
    return float((b - root) / a), float((b + root) / a)


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
    """Compute the mean difference in standard deviations of the differences."""
    deviation = spread(a - b)
    return float((a - b).mean()) / deviation if deviation else None


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


def equivalence(a: Values, b: Values, margin: float) -> Equivalence | None:
    """Test equivalence by paired TOST at level ALPHA."""
    if len(a) < 2:
        return None
    if not spread(a - b):
        return Equivalence(margin=margin, p=None, equivalent=bool(abs((a - b).mean()) < margin))
    p = float(ttost_paired(a, b, -margin, margin)[0])
    return Equivalence(margin=margin, p=p, equivalent=p < ALPHA)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p values by Holm's method within one family; a contrast without a test takes no part."""
    # Not statsmodels: it collects garbage in each call, which took half of the time of all statistics.
    tested = np.array([p for p in p_values if p is not None])
    order = tested.argsort(kind="stable")
    tested[order] = np.maximum.accumulate(tested[order] * np.arange(len(tested), 0, -1)).clip(max=1)
    adjusted = iter(tested.tolist())
    return [None if p is None else next(adjusted) for p in p_values]
