"""The error rates that docs/statistics.md promises, counted in 10,000 simulated studies each."""

import numpy as np
import pytest
from scipy import stats

from bitq.stats.estimate import Block, Estimate
from bitq.stats.inference import ALPHA, LEVEL, TOST_LEVEL
from bitq.stats.spread import half_width, satterthwaite
from tests.crossed import image_variance

DRAWS = 10_000
SEEDS = (3, 5, 10)
pytestmark = pytest.mark.slow


def drawn(*shape: int, scale: float = 1.0, stream: int = 0) -> np.ndarray:
    """Normal values, the same in every call of a test."""
    return np.random.default_rng([*shape, round(1000 * scale), stream]).normal(0.0, scale, (DRAWS, *shape))


def variance_of_mean(values: np.ndarray) -> np.ndarray:
    return values.var(-1, ddof=1) / values.shape[-1]


@pytest.mark.parametrize("places", [3, 6, 9])
@pytest.mark.parametrize("n", SEEDS)
def test_a_claim_that_is_true_at_its_limit_fails_in_at_most_five_of_a_hundred_studies(places: int, n: int) -> None:
    values = drawn(places, n)  # every difference is truly zero, the limit
    variances = variance_of_mean(values)[..., None]

    def fails(level: float) -> float:
        upper = values.mean(-1) + half_width(level, variances, [n - 1.0])
        return float((upper < 0).any(-1).mean())

    assert fails(1 - ALPHA / places) <= 0.05
    assert fails(1 - ALPHA / places) == pytest.approx(0.025, abs=0.006)  # one of two sides
    assert fails(LEVEL) == pytest.approx(1 - 0.975**places, abs=0.012)  # 7, 14 and 20 % without the correction


@pytest.mark.parametrize("n", SEEDS)
def test_a_false_claim_holds_in_at_most_one_of_forty_studies(n: int) -> None:
    """All places must hold: the interval of the one that is false decides, without a correction."""
    values = drawn(3, n) + np.array([0.0, 3.0, 3.0])[:, None]
    lower = values.mean(-1) - half_width(LEVEL, variance_of_mean(values)[..., None], [n - 1.0])
    assert (lower > 0).all(-1).mean() <= 0.025 + 0.005


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("level", [LEVEL, TOST_LEVEL])
def test_paired_intervals_cover_what_they_promise(n: int, level: float) -> None:
    values = drawn(n)
    half = half_width(level, variance_of_mean(values)[:, None], [n - 1.0])
    assert (abs(values.mean(-1)) < half).mean() == pytest.approx(level, abs=0.01)


WELCH = [((3, 3), 1), ((3, 3), 2), ((5, 5), 1), ((5, 5), 3), ((10, 10), 3), ((3, 10), 3)]


@pytest.mark.parametrize(("sizes", "ratio"), WELCH)
def test_welch_intervals_cover_what_they_promise(sizes: tuple[int, int], ratio: float) -> None:
    """With three seeds of equal spread Welch's interval is a little too long: 96.5 %."""
    one, other = drawn(sizes[0]), drawn(sizes[1], scale=ratio, stream=1)
    variances = np.stack([variance_of_mean(one), variance_of_mean(other)], axis=-1)
    half = half_width(LEVEL, variances, [size - 1.0 for size in sizes])
    covered = (abs(one.mean(-1) - other.mean(-1)) < half).mean()
    assert 0.94 <= covered <= (0.97 if sizes == (3, 3) else 0.96)


@pytest.mark.parametrize("n", [3, 5])
def test_the_set_of_ratios_of_fieller_covers_what_it_promises(n: int) -> None:
    """Numerator 2, denominator 10, correlated; intervals come from the estimate that judges claims."""
    shared, noise = drawn(n), drawn(2, n, scale=0.7)
    top, bottom = 2 + 0.5 * shared + noise[:, 0], 10 + shared + noise[:, 1]
    covered = unbounded = 0
    for a, b in zip(top, bottom, strict=True):
        found = Estimate((Block(tuple(range(n)), np.array([a, b]), 0.0),), is_ratio=True).interval(LEVEL)
        unbounded += found is None
        covered += found is not None and found[0] <= 0.2 <= found[1]
    assert covered / (DRAWS - unbounded) == pytest.approx(0.95, abs=0.01)
    assert unbounded / DRAWS < 0.01


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(("of_seeds", "of_images", "of_both"), [(0.5, 10, 30), (0.2, 15, 30)])
def test_intervals_over_seeds_and_images_cover_what_they_promise(
    n: int, of_seeds: float, of_images: float, of_both: float
) -> None:
    """500 new images and n new seeds: Student's interval for the old images covers less, down to three quarters."""
    images, rng = 500, np.random.default_rng([n, round(10 * of_seeds)])
    with_images, without = [], []
    for _ in range(DRAWS // 500):
        table = rng.normal(0, of_both, (500, n, images))
        table += rng.normal(0, of_images, (500, 1, images)) + rng.normal(0, of_seeds, (500, n, 1))
        variances, center = variance_of_mean(table.mean(-1))[:, None], abs(table.mean((1, 2)))
        with_images.append(center < half_width(LEVEL, variances, [n - 1.0], image_variance(table)))
        without.append(center < half_width(LEVEL, variances, [n - 1.0]))
    assert 0.94 <= np.mean(with_images) <= (0.97 if n == 3 else 0.965)
    assert np.mean(without) < np.mean(with_images)


@pytest.mark.parametrize("published_sd", [0.1, 0.3])
def test_a_published_mean_that_is_true_is_reached_and_one_beyond_the_margin_is_not(published_sd: float) -> None:
    """Three seeds of SD 0.15 against three published runs, margin 0.5."""
    ours = drawn(3, scale=0.15)
    shift = np.random.default_rng(7).normal(0, published_sd / 3**0.5, DRAWS)
    spread = published_sd * np.sqrt(np.random.default_rng(8).chisquare(2, DRAWS) / 2)
    variances = np.stack([variance_of_mean(ours), spread**2 / 3], axis=-1)
    half = half_width(TOST_LEVEL, variances, [2.0, 2.0])

    def reached(truth: float) -> float:
        return float((abs(ours.mean(-1) - shift + truth) + half < 0.5).mean())

    assert reached(0.5) <= 0.05 + 0.005
    assert reached(0.0) > (0.9 if published_sd == 0.1 else 0.35)


def test_a_percentile_bootstrap_of_three_seeds_would_cover_too_little() -> None:
    """Why none is printed: resampling three seeds knows neither their few degrees of freedom nor n - 1."""
    values, rng = drawn(3), np.random.default_rng(5)
    means = np.stack([values[:, rng.integers(0, 3, 3)].mean(-1) for _ in range(400)], axis=-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=-1)
    assert ((low < 0) & (high > 0)).mean() < 0.8


def test_degrees_of_freedom_are_those_of_welch() -> None:
    a, b = drawn(4)[0], drawn(7, scale=2.0)[0]
    expected = stats.ttest_ind(a, b, equal_var=False).df
    assert satterthwaite([variance_of_mean(a), variance_of_mean(b)], [3.0, 6.0]) == pytest.approx(expected)
