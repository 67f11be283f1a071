"""One arm at a time, honest intervals, nothing dropped; every number against another way of computing it."""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from bitq.errors import DataError, UsageError
from bitq.grid.select import grid
from bitq.run import Parent, Run
from bitq.stats import inference
from bitq.stats.cells import Cell, cell, find
from bitq.stats.contrast import contrast, recovery
from bitq.stats.estimate import Block, Estimate, estimate, share_draws
from bitq.stats.families import Family, group_of
from bitq.stats.summary import Questions, stats, write_stats
from bitq.studies.catalogue import families, gaps, questions
from tests.frames import SEEDS, diverged, frame, row, run, table

# Student's sleep data: extra hours of ten patients under two drugs. R's t.test gives the values asserted below.
DRUG_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
DRUG_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)

OTHER_VALUES: dict[str, Any] = {
    "scale": "mini", "dataset": "cifar100", "variant": "cifar10-q5", "data_digest": "other", "classes": 100,
    "image_size": 64, "model": "resnet50", "width": 16, "stem": "imagenet", "norm": "layer", "method": "ttq",
    "settings": '{"levels":4}', "keep": "conv1", "tag": "again", "kd": True, "teacher": "bitnet/x/fp32",
    "start": "bitnet/y/fp32", "temperature": 2.0, "alpha": 0.5, "mixup": 0.2, "label_smoothing": 0.1, "epochs": 7,
    "batch": 32, "lr": 0.2, "weight_decay": 0.1, "optimizer": "adamw", "augment": "full", "precision": "fp32",
    "device": "cuda", "machine": "H200", "mode": "fast",
}  # fmt: skip

samples = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 10_000), min_size=n, max_size=n) for _ in "ab"])
)


def of(values: tuple[float, ...], arm: str = "bitnet", **changes: Any) -> Cell:
    """A cell with these accuracies."""
    return cell(table(row(run(arm, seed), accuracy=value, **changes) for seed, value in enumerate(values)))


def accuracy(of: Run) -> float:
    """Something that depends on the arm and the seed, and on nothing else."""
    effects = {"bitnet": -2.0, "ttq": -3.0, "bitnet_legacy": -2.1, "ttq_legacy": -5.0}
    noise = int.from_bytes(of.hash.encode()[:2], "big") % 100 / 500
    return 90 + effects.get(of.method, 0) - (of.distillation is not None) + 0.4 * ("conv1" in of.keep) + noise


@pytest.fixture(scope="module")
def whole_grid() -> pd.DataFrame:
    return frame(grid("full", ["bitnet", "bitnet-extended"]), accuracy)


@pytest.fixture(scope="module")
def summary(whole_grid: pd.DataFrame) -> dict[str, Any]:
    return stats(whole_grid, questions())


# Cells


@pytest.mark.parametrize("column", OTHER_VALUES)
def test_a_selection_that_pools_two_arms_is_refused_by_the_name_of_the_column(column: str) -> None:
    runs = table([row(run(seed=1)), row(run(seed=2), **{column: OTHER_VALUES[column]})])
    with pytest.raises(UsageError, match=f"pools runs of {column} "):
        cell(runs, study="bitnet")
    assert cell(runs, **{column: OTHER_VALUES[column]}).seeds == (2,)


def test_hardware_can_be_mixed_on_purpose_which_is_recorded() -> None:
    runs = table([row(run(seed=1)), row(run(seed=2), machine="H200", torch="9.9")])
    assert cell(runs, across=["machine"]).mixed == ("machine", "torch")
    with pytest.raises(UsageError, match=r"across=\['machine'\]"):
        cell(runs)
    with pytest.raises(UsageError, match="unknown column to mix 'method'"):
        cell(runs, across=["method"])


def test_software_and_threads_are_no_arm() -> None:
    runs = table([row(run(seed=1)), row(run(seed=2), code_sha256="other", threads=4)])
    assert cell(runs).mixed == ("threads", "code_sha256")


def test_two_gpus_of_a_machine_are_one_device_and_own_starts_are_one_arm() -> None:
    starts = [Parent(id=f"bitnet/cifar10/resnet18/fp32/s{seed}", hash="0") for seed in (1, 2)]
    runs = [row(run(seed=seed, start=start), device=f"cuda:{seed}") for seed, start in enumerate(starts)]
    assert cell(table(runs)).seeds == (0, 1)


def test_the_teachers_of_further_seeds_are_one_arm_with_those_of_the_study_they_extend() -> None:
    def student(study: str, seed: int, teacher: str) -> dict[str, Any]:
        return row(run("bitnet-kd", seed, study=study)) | {"teacher": f"{teacher}/cifar10/resnet18/fp32/s{seed}"}

    runs = [student("bitnet", 42, "bitnet"), student("bitnet-extended", 789, "bitnet-extended")]
    assert cell(table(runs)).kinds["teacher"] == ("bitnet/cifar10/resnet18/fp32",)
    with pytest.raises(UsageError, match="pools runs of teacher"):
        cell(table([runs[0], student("bitnet-extended", 789, "ring")]))


def test_one_seed_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="one seed twice"):
        cell(table([row(run()), row(run(), study="bitnet-extended")]))


def test_values_come_in_the_order_of_the_seeds() -> None:
    shuffled = cell(table(row(run(seed=seed), accuracy=100 - seed) for seed in (3, 1, 2)))
    assert (shuffled.seeds, list(shuffled.values())) == ((1, 2, 3), [99, 98, 97])


def test_what_is_not_there_is_said_with_what_is() -> None:
    runs = table([row(run("bitnet-kd"))])
    with pytest.raises(UsageError, match="unknown arm 'bitnet-dk'.*Did you mean 'bitnet-kd'"):
        cell(runs, dataset="cifar10", arm="bitnet-dk")
    with pytest.raises(UsageError, match="unknown criterion 'amr'"):
        cell(runs, amr="bitnet-kd")
    with pytest.raises(DataError, match="no column 'machine'"):
        cell(runs.drop(columns="machine"))
    with pytest.raises(UsageError, match="no runs"):
        cell(runs[:0])
    assert find(runs, arm="bitnet-dk") is None


def test_settings_are_found_by_what_they_contain() -> None:
    rings = table(row(run("ring", settings={"levels": levels, "wave": "sine"}), seed=levels) for levels in (4, 8))
    assert cell(rings, settings={"levels": 8}).seeds == (8,)
    assert find(rings, settings={"levels": 16}) is None


def test_a_diverged_run_is_counted_and_named() -> None:
    runs = table([row(run("bitnet", 1)), row(run("bitnet", 2)), diverged(run("bitnet", 3))])
    found = cell(runs)
    assert (found.seeds, found.diverged, len(found.values())) == ((1, 2, 3), (3,), 2)
    assert found.by_seed("diverged") == {1: 0.0, 2: 0.0, 3: 1.0}


# Contrasts


def test_sleep_data_gives_what_r_gives() -> None:
    found = contrast(of(DRUG_1), of(DRUG_2, "fp32"))
    assert found.paired and found.welch and found.interval
    assert found.difference == pytest.approx(-1.58)
    assert found.interval == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert (found.paired.t, found.paired.df, found.paired.p) == pytest.approx((-4.0621, 9, 0.002833), abs=5e-5)
    assert (found.welch.t, found.welch.df, found.welch.p) == pytest.approx((-1.8608, 17.776, 0.07939), abs=5e-4)
    assert found.d_z == pytest.approx(-4.0621 / np.sqrt(10), abs=1e-4)  # t over the root of n
    assert found.detectable == pytest.approx(1.225, abs=1e-3)  # 0.996 standard deviations of 1.23 hours


def test_hedges_g_by_its_definition() -> None:
    a, b = np.array(DRUG_1), np.array(DRUG_2)
    pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    small_sample = 1 - 3 / (4 * (len(a) + len(b)) - 9)
    assert inference.hedges_g(a, b) == pytest.approx((a.mean() - b.mean()) / pooled * small_sample)


@given(samples)
@settings(max_examples=30)
def test_tests_and_intervals_agree_with_another_library(pair: tuple[list[int], list[int]]) -> None:
    a, b = (np.array(values) / 100 for values in pair)
    if min(np.ptp(a), np.ptp(b), np.ptp(a - b)) < 0.01:
        return
    found = contrast(of(tuple(a)), of(tuple(b), "fp32"))
    assert found.paired and found.welch and found.interval
    t, p, df = DescrStatsW(a - b).ttest_mean()
    assert (found.paired.t, found.paired.p, found.paired.df) == pytest.approx((t, p, df))
    assert found.interval == pytest.approx(DescrStatsW(a - b).tconfint_mean(), rel=1e-6, abs=1e-9)
    welch = CompareMeans(DescrStatsW(a), DescrStatsW(b)).ttest_ind(usevar="unequal")
    assert (found.welch.t, found.welch.p, found.welch.df) == pytest.approx(welch)


@given(samples, st.floats(0.1, 50))
@settings(max_examples=30)
def test_equivalence_is_two_one_sided_tests(pair: tuple[list[int], list[int]], margin: float) -> None:
    a, b = (np.array(values) / 100 for values in pair)
    found = inference.equivalence(a, b, margin)
    if np.ptp(a - b) < 0.01:
        assert found is None
        return
    assert found
    lower = reference.ttest_1samp(a - b, -margin, alternative="greater").pvalue
    upper = reference.ttest_1samp(a - b, margin, alternative="less").pvalue
    assert found.p == pytest.approx(max(lower, upper))
    low, high = inference.t_interval(a - b, 0.9) or (0, 0)
    assert found.equivalent == (-margin < low and high < margin)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_the_detectable_effect_has_the_promised_power(n: int) -> None:
    effect, critical = inference.detectable_d_z(n), reference.t.ppf(0.975, n - 1)
    noncentral = reference.nct(n - 1, effect * np.sqrt(n))
    assert noncentral.sf(critical) + noncentral.cdf(-critical) == pytest.approx(0.8, abs=1e-5)


def ratio(top: Any, bottom: Any, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of mean(top) / mean(bottom), paired."""
    block = Block(tuple(range(len(top))), np.array([top, bottom], dtype=float), 0.0)
    return Estimate((block,), is_ratio=True).interval(level)


@given(samples)
@settings(max_examples=30)
def test_the_ends_of_a_ratio_interval_are_where_a_t_test_turns(pair: tuple[list[int], list[int]]) -> None:
    top, bottom = np.array(pair[0]) / 100, 50 + np.array(pair[1]) / 1000
    if np.ptp(top) < 0.1 or (found := ratio(top, bottom)) is None:
        return
    assert found[0] <= top.mean() / bottom.mean() <= found[1]
    for end in found:
        assert reference.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(0.05, rel=1e-4)


def test_a_ratio_over_what_may_be_zero_has_no_interval() -> None:
    assert ratio([1.0, 2.0, 1.5], [0.5, -0.4, 0.1]) is None


def test_holm_as_r_adjusts_it_without_those_that_have_no_test() -> None:
    assert inference.holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert inference.holm([None]) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_agrees_with_another_library(p_values: list[float]) -> None:
    gc.freeze()  # statsmodels collects garbage at every call: half a second of all that a test process has loaded
    try:
        assert inference.holm(p_values) == multipletests(p_values, method="holm")[1].tolist()
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("n", "half"), [(0, None), (1, None), (2, 12.7062 * 0.01 / 2**0.5), (3, 4.3027 * 0.01 / 3**0.5)]
)
def test_few_or_equal_runs_claim_no_more_than_they_know(n: int, half: float | None) -> None:
    """No spread over seeds counts as less than one of 10,000 test images, 0.01 points, in intervals as in tests."""
    a, b = of(tuple(range(5))), of(tuple(value - 2 for value in range(5)), "fp32")
    found = contrast(Cell(a.rows[:n]) if n else Cell(a.rows[4:]), Cell(b.rows[:n]) if n else Cell(b.rows[:1]), 0.5)
    assert (found.n, found.d_z) == (n, None)
    expected = None if half is None else 2 * reference.t.sf(2 / (0.01 / n**0.5), n - 1)
    assert (found.paired and found.paired.p) == (None if expected is None else pytest.approx(expected))
    assert found.p == (None if found.paired is None else found.paired.p)
    assert found.interval == (None if half is None else pytest.approx((2 - half, 2 + half), abs=1e-6))
    assert found.difference == (2.0 if n else None)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_three_equal_differences_of_one_image_of_five_hundred_show_no_difference() -> None:
    small: dict[str, Any] = {"images": 500}
    found = contrast(of((60.2, 61.2, 62.2), **small), of((60, 61, 62), "fp32", **small))
    assert found.interval == pytest.approx((0.2 - 0.4968, 0.2 + 0.4968), abs=1e-4)  # 4.3027 · 0.2 / √3
    assert found.p == pytest.approx(2 * reference.t.sf(3**0.5, 2))  # t = 0.2 / (0.2 / √3), two degrees of freedom


@pytest.mark.parametrize("gains", [(1, 1, 2), (1, 2, 1, 1, 1, 1, 1, 1, 1, 1), (0, 0, 0, 1), (3, 3, 3, 3)])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_a_test_and_its_interval_never_disagree(gains: tuple[int, ...], stem: str) -> None:
    """p below 5 % where the interval leaves zero out, also where seeds differ by less than an image of 500."""
    b = tuple(60.0 for _ in gains)
    a = tuple(60.0 + 0.2 * gain for gain in gains)
    found = contrast(of(a, images=500), of(b, "fp32", images=500, stem=stem), margin=0.3)
    assert found.shares_draws == (stem == "cifar") and found.interval and found.p is not None and found.equivalence
    assert (found.p < 0.05) == (not found.interval[0] <= 0 <= found.interval[1])
    sd = max(np.std(a, ddof=1), 0.2)
    expected = (
        reference.ttest_ind_from_stats(np.mean(a), sd, len(a), 60, 0.2, len(a), equal_var=False).pvalue
        if stem == "imagenet"
        else 2 * reference.t.sf(np.mean(gains) * 0.2 / (sd / len(a) ** 0.5), len(a) - 1)
    )
    assert found.p == pytest.approx(expected)


def test_arms_are_paired_only_where_they_share_initial_weights_and_batches() -> None:
    a, same = of((60, 61, 62)), {"lr": 0.2, "norm": "layer", "method": "ttq"}
    others = {"model": "resnet50", "width": 16, "stem": "imagenet", "batch": 32, "classes": 100}
    assert all(share_draws(a, of((1, 2, 3), "fp32", **{name: value})) for name, value in same.items())
    assert not any(share_draws(a, of((1, 2, 3), "fp32", **{name: value})) for name, value in others.items())
    untrained = of((1, 2, 3), "int8", epochs=0, batch=32)
    assert share_draws(a, untrained) and share_draws(untrained, a)


def test_arms_that_share_no_draws_are_compared_by_welch() -> None:
    a, b = of(DRUG_1), of(DRUG_2, "fp32", stem="imagenet")
    found = contrast(a, b, margin=0.5)
    assert (found.shares_draws, found.paired, found.correlation, found.detectable) == (False, None, None, None)
    assert found.welch and found.p == found.welch.p
    assert found.interval == pytest.approx((-3.3654832, 0.2054832), abs=1e-6)  # R: t.test(extra ~ group)
    assert contrast(a, of(DRUG_2, "fp32")).correlation == pytest.approx(0.7951702, abs=1e-6)  # R: cor


def test_differences_of_two_networks_are_paired_within_each() -> None:
    """(a - b) - (c - d): two samples of differences, compared by Welch's test."""
    values = {"a": (60, 61, 63), "b": (50, 52, 51), "c": (70, 71, 71), "d": (66, 65, 69)}
    cells = {name: of(tuple(v), model="resnet18" if name in "ab" else "resnet50") for name, v in values.items()}
    weights = {"a": (1.0, 0.0), "b": (-1.0, 0.0), "c": (-1.0, 0.0), "d": (1.0, 0.0)}
    found = estimate(cells, weights, "accuracy")
    first, second = (np.array(values[x]) - np.array(values[y]) for x, y in ("ab", "cd"))
    expected = reference.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.interval(0.95) == pytest.approx((expected.low, expected.high))


def test_a_contrast_pairs_by_seed_and_says_what_it_left_out() -> None:
    a = cell(table([row(run("bitnet", seed), accuracy=seed) for seed in (1, 2, 3, 4)]))
    b = cell(table([row(run("fp32", seed), accuracy=2 * seed) for seed in (2, 3)] + [diverged(run("fp32", 4))]))
    found = contrast(a, b)
    assert (found.seeds, found.mean_a, found.mean_b, found.difference) == ((2, 3), 2.5, 5.0, -2.5)
    assert (found.unpaired, found.n_diverged, found.diverged_b, found.partial) == (2, 1, (4,), True)


@pytest.mark.parametrize("column", ["scale", "dataset", "variant", "data_digest", "device", "machine", "mode"])
def test_arms_on_other_data_or_hardware_are_no_contrast(column: str) -> None:
    a, b = of((1, 2, 3)), of((1, 2, 3), "fp32", **{column: OTHER_VALUES[column]})
    with pytest.raises(UsageError, match=f"differ in {column}"):
        contrast(a, b)
    if column in ("device", "machine", "mode"):
        assert contrast(a, b, across=[column]).mixed == (column,)


def test_a_contrast_names_everything_in_which_its_arms_differ() -> None:
    assert contrast(of((1, 2, 3), "bitnet-keep_conv1"), of((1, 2, 3))).differs == ("keep",)
    assert contrast(of((1, 2), mixup=0.0), of((1, 2), "fp32", mixup=0.2)).differs == ("method", "mixup")


def test_recovery_is_the_share_of_the_gap() -> None:
    low, high, kept = of((60, 61, 62)), of((70, 71, 72), "fp32"), of((63, 64.5, 65.1), "bitnet-keep_conv1")
    found = recovery(kept, low, high)
    assert found.share == pytest.approx(np.mean([3, 3.5, 3.1]) / 10)
    assert found.interval == pytest.approx(tuple(np.array(DescrStatsW([3, 3.5, 3.1]).tconfint_mean()) / 10))
    assert recovery(kept, low, low).share is None


def test_the_family_with_most_seeds_is_primary_where_the_claims_file_names_it(summary: dict[str, Any]) -> None:
    """One answer to one question: ten seeds where there are ten, three at the network that has no more."""

    def primary(family: str, a: str, b: str) -> dict[str, bool]:
        record = next(each for each in summary["families"] if each["family"] == family)
        there = [each for each in record["contrasts"] if (each["arm_a"], each["arm_b"]) == (a, b)]
        return {each["model"]: each["primary"] for each in there}

    assert primary("n10", "bitnet", "fp32") == {"resnet18": True}
    assert primary("bitnet_vs_fp32", "bitnet", "fp32") == {"resnet18": False, "resnet50": True}
    assert primary("kd", "fp32-kd", "fp32") == {"resnet18": False}
    assert primary("bitnet_vs_ttq", "bitnet", "ttq") == {"resnet18": True, "resnet50": True}


def test_every_contrast_of_two_families_has_a_primary_one() -> None:
    asked: dict[tuple[str, tuple[str, str]], set[str]] = {}
    for family in families():
        for pair in family.pairs:
            asked.setdefault((family.study, pair), set()).add(family.name)
    named = {(of.study, pair): set(of.families) for of in questions().primary for pair in of.pairs}
    assert {key: names for key, names in asked.items() if len(names) > 1} == named


def test_a_question_goes_to_the_first_family_that_has_runs() -> None:
    asked = Questions(
        families=(Family("more", "?", (("bitnet", "fp32"),), all_seeds=True, study="bitnet"),
                  Family("few", "?", (("bitnet", "fp32"),), study="bitnet")),
        primary=questions().primary[:1],
    )  # fmt: skip
    runs = table(row(run(arm, seed)) for arm in ("bitnet", "fp32") for seed in SEEDS)
    found = stats(runs, asked)["families"]
    assert [[each["primary"] for each in record["contrasts"]] for record in found] == [[], [True]]


# All statistics of a table


def test_every_question_of_the_study_is_answered_from_the_whole_grid(summary: dict[str, Any]) -> None:
    counts = {record["family"]: len(record["contrasts"]) for record in summary["families"]}
    assert counts == {
        "bitnet_vs_fp32": 6, "recipe_vs_fp32": 12, "bitnet_vs_ttq": 6, "recipe_vs_ttq": 12, "kd": 6,
        "kd_with_kept_layers": 15, "layers": 15, "layers_with_kd": 12, "first_against_other_layers": 18, "norm": 6,
        "legacy": 6, "mixup": 4, "kd_as_published": 4, "kd_alpha": 6, "stem": 3, "ttq_as_published": 6, "ttq_unit": 1,
        "n10": 15,
    }  # fmt: skip
    assert len(summary["recoveries"]) == 33
    json.dumps(summary, allow_nan=False)


def test_the_published_contrasts_have_three_seeds_and_their_extension_ten(summary: dict[str, Any]) -> None:
    for record in summary["families"]:
        of_resnet18 = {each["n"] for each in record["contrasts"] if each["model"] == "resnet18"}
        assert of_resnet18 == ({10} if record["family"] == "n10" else {3})
        assert all((each["d_z"] is not None) == (each["n"] >= 10) for each in record["contrasts"])


def test_a_contrast_of_the_summary_is_that_of_its_cells(whole_grid: pd.DataFrame, summary: dict[str, Any]) -> None:
    family = next(record for record in summary["families"] if record["family"] == "kd")
    record = next(each for each in family["contrasts"] if each["dataset"] == "cifar100" and each["arm_b"] == "bitnet")
    place: dict[str, Any] = {"dataset": "cifar100", "model": "resnet18", "seed": list(SEEDS)}
    again = contrast(cell(whole_grid, **place, arm="bitnet-kd"), cell(whole_grid, **place, arm="bitnet"))
    assert record["difference"] == again.difference and record["interval"] == list(again.interval or ())
    raw = [each["paired"]["p"] for each in family["contrasts"]]
    assert [each["p_holm"] for each in family["contrasts"]] == inference.holm(raw)


def test_the_original_s_distillation_contrast_is_shown_to_be_confounded(summary: dict[str, Any]) -> None:
    for record in summary["families"]:
        confounded = ["mixup" in each["differs"] and "kd" in each["differs"] for each in record["contrasts"]]
        assert any(confounded) == (record["family"] == "kd_as_published")


def test_parity_is_tested_where_it_is_claimed(summary: dict[str, Any]) -> None:
    for record in summary["families"]:
        assert all((each["equivalence"] is not None) == bool(record["margin"]) for each in record["contrasts"])


def test_arms_that_are_not_there_are_left_out_and_scales_kept_apart() -> None:
    runs = [each for each in (*grid("full", ["bitnet"]), *grid("mini", ["bitnet"])) if each.method == "fp32"]
    found = stats(frame(runs, accuracy), questions())
    assert {(r["family"], r["scale"]) for r in found["families"] if r["contrasts"]} == {("kd", "full"), ("kd", "mini")}
    seeds = {"full": 3, "mini": 5}
    assert all(each["n"] == seeds[each["scale"]] or each["model"] == "resnet50" for each in found["cells"])


def test_divergence_reaches_the_summary() -> None:
    runs = [run(arm, seed) for arm in ("bitnet", "fp32") for seed in SEEDS]
    rows = [
        diverged(each) if (each.method, each.seed) == ("bitnet", 42) else row(each, accuracy=each.seed) for each in runs
    ]
    found = stats(table(rows), questions())
    assert found["diverged"] == ["bitnet/cifar10/resnet18/bitnet/s42"]
    assert [each["n_diverged"] for each in found["cells"]] == [1, 0]
    assert [(each["n"], each["n_diverged"], each["partial"]) for each in found["families"][0]["contrasts"]] == [
        (2, 1, True)
    ]


def test_arms_of_the_families_are_arms_of_the_grid() -> None:
    known = {(group_of(each.study), each.arm) for each in grid("full")}
    assert {(family.study, arm) for family in families() for pair in family.pairs for arm in pair} <= known
    assert {(gap.study, arm) for gap in gaps() for arm in (gap.kept, gap.low, gap.high)} <= known


def test_statistics_are_written_from_the_table_twice_alike(tmp_path: Path, whole_grid: pd.DataFrame) -> None:
    whole_grid.head(60).to_parquet(tmp_path / "runs.parquet")
    texts = []
    for name in ("a.json", "b.json"):
        write_stats(tmp_path / "runs.parquet", tmp_path / name, questions())
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]
    with pytest.raises(DataError, match="bitq aggregate"):
        write_stats(tmp_path / "none.parquet", tmp_path / "c.json", questions())
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="bitq aggregate"):
        write_stats(tmp_path / "torn.parquet", tmp_path / "c.json", questions())
