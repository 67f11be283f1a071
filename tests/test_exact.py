"""Exact tests, image tests and needed seeds against values worked out by hand or by another library."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from bitq.errors import DataError
from bitq.stats.cells import cell
from bitq.stats.decide import weigh
from bitq.stats.estimate import Block, Estimate
from bitq.stats.images import Images, Share, image_covariance, mcnemar_of, read_images
from bitq.stats.inference import exact_independent, exact_paired
from bitq.stats.needed import Spread, needed
from bitq.stats.predicates import ArmAt, Quantity
from tests.crossed import image_variance
from tests.frames import row, run, table


def test_paired_events_are_tosses_of_a_coin() -> None:
    assert exact_paired(3, 0).larger == 1 / 8  # three heads of three
    assert exact_paired(0, 6).smaller == 1 / 64  # the fewest that reach 2.5 %
    assert exact_paired(1, 4).smaller == 6 / 32  # none or one head of five
    assert exact_paired(0, 0).larger == 1.0


def test_independent_events_by_barnard() -> None:
    """3 of 3 against 0 of 3: the most extreme table, of chance π³(1 - π)³, which is largest at π = 1/2: 1/64."""
    assert exact_independent(3, 3, 0, 3).larger == pytest.approx(1 / 64)
    assert exact_independent(0, 3, 3, 3).smaller == pytest.approx(1 / 64)
    assert exact_independent(1, 3, 1, 3).larger == 1.0


def test_mcnemar_counts_only_the_images_on_which_two_files_differ() -> None:
    assert mcnemar_of(42, 1, 9).p == pytest.approx(2 * (1 + 10) / 2**10)  # none or one of ten, both sides
    assert mcnemar_of(42, 0, 0).p == 1.0


def test_what_images_add_by_hand() -> None:
    """Two seeds, two images. Images' means 1 and 0 have the variance 1/2, single answers none: (1/2) / 2."""
    assert image_variance([[1, 0], [1, 0]]) == 0.25
    # Means 1/2 and 0: variance 1/8. Residuals ±1/4: mean square 1/4, of two seeds 1/8. Nothing is left.
    assert image_variance([[1, 0], [0, 0]]) == 0.0


def test_the_closed_form_is_the_variance_of_a_bootstrap_over_seeds_and_images() -> None:
    """The bootstrap counts the spread of single answers once more (Owen 2007) and lacks n / (n - 1)."""
    rng = np.random.default_rng(3)
    n, m = 6, 200
    table = rng.normal(0, 1, (n, m)) + rng.normal(0, 2, (1, m)) + rng.normal(0, 0.3, (n, 1))
    means = [table[np.ix_(rng.integers(0, n, n), rng.integers(0, m, m))].mean() for _ in range(8000)]
    over_seeds, residual = table.mean(1).var() / n, table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    single = (residual**2).mean() / (n * m)
    over_images = table.mean(0).var() / m
    assert np.var(means) == pytest.approx(over_seeds + over_images + single, rel=0.06)
    mean_square = (residual**2).sum() / ((n - 1) * (m - 1))
    assert image_variance(table) == pytest.approx(over_images * m / (m - 1) - mean_square / (n * m))


def test_two_networks_on_the_same_images_share_their_difficulty() -> None:
    """What both get wrong cancels in their difference, though their seeds are not paired."""
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    answers = {f"{arm}{seed}": rng.random(400) > hard for arm in "ab" for seed in range(3)}
    images = Images(answers, dict.fromkeys(answers, 0))
    shares = [Share(tuple(f"{arm}{seed}" for seed in range(3)), (sign, 0.0), block) for arm, sign, block in (("a", 1.0, 0), ("b", -1.0, 1))]  # fmt: skip # noqa: E501
    alone, both = image_covariance(shares[:1], images), image_covariance(shares, images)
    assert alone is not None and both is not None and both[0, 0] < alone[0, 0] / 4
    table = 100.0 * np.stack([answers[f"a{seed}"] for seed in range(3)])
    assert alone[0, 0] == pytest.approx(image_variance(table))
    other_set = Images(answers, {name: int(name[0] == "b") for name in answers})
    apart = image_covariance(shares, other_set)
    assert apart is not None and apart[0, 0] > alone[0, 0]
    assert image_covariance(shares, Images({}, {})) is None


@pytest.mark.parametrize(("effect", "seeds"), [(2.0, 5), (1.0, 10), (0.5, 34), (0.25, 128)])
def test_needed_seeds_are_those_of_the_tables_of_power(effect: float, seeds: int) -> None:
    """Cohen's tables for a paired test at 5 %, two-sided, power 0.8: 34 pairs for half a standard deviation."""
    assert needed(effect, Spread((1.0,)), 0.95).seeds == seeds
    assert math.ceil(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)) == seeds


def test_needed_seeds_take_the_spread_of_each_arm_from_its_own_runs() -> None:
    """Two samples, three and ten runs of SD 1, half a point apart: 64 in each arm by Cohen's tables."""
    ten = np.arange(10.0)
    values = {"bitnet": (60.0, 61.0, 62.0), "fp32": 60.5 + (ten - ten.mean()) / ten.std(ddof=1)}
    stems = {"bitnet": "cifar", "fp32": "imagenet"}
    cells = {
        ArmAt(arm=arm): cell(table(row(run(arm, n), accuracy=x, stem=stems[arm]) for n, x in enumerate(values[arm])))
        for arm in values
    }
    a, b = cells
    found = weigh(Quantity("a - b", ((a, 1.0), (b, -1.0)), (0.0, math.inf)), cells)
    assert found.verdict == "undecided" and found.needed and found.needed.seeds == 64


def test_more_seeds_do_not_replace_more_images() -> None:
    """At any number of seeds a distance of (1.96 + 0.84) standard errors of the images is needed."""
    found = needed(1.0, Spread((1.0,), images=1.0), 0.95)
    assert (found.seeds, found.images) == (None, pytest.approx((1.959964 + 0.841621) ** 2, abs=0.1))
    assert needed(0.0, Spread((1.0,)), 0.95).seeds is None
    wide = needed(0.5, Spread((0.01,), published=0.0833, freedom=2.0), 0.9)  # SD 0.5 of three published runs
    assert (wide.seeds, wide.images) == (None, None)


def test_a_published_mean_is_compared_by_welch() -> None:
    """Ours 95.9, 96.0, 96.1; published 96.07, SD 0.15, n = 3. The ends of the 90 % interval are where TOST turns."""
    ours = np.array([95.9, 96.0, 96.1])
    block = Block((1, 2, 3), np.array([ours, np.zeros(3)]), 0.0)
    found = Estimate((block,), False, published=(0.15**2 / 3, 2.0)).interval(0.9)
    assert found
    for end, side in zip(found, ("less", "greater"), strict=True):
        turned = stats.ttest_ind_from_stats(
            96.0 - (end - 96.0), 0.1, 3, 96.0, 0.15, 3, equal_var=False, alternative=side
        )
        assert min(turned.pvalue, 1 - turned.pvalue) == pytest.approx(0.05, abs=1e-6)


def test_predictions_that_are_not_there_or_no_table(tmp_path: Path) -> None:
    assert not read_images(tmp_path / "predictions.parquet").correct
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="bitq aggregate"):
        read_images(tmp_path / "predictions.parquet")
