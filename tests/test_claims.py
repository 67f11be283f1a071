"""Claims are data: every headline is there, every kind decides as its numbers do, no verdict comes from n alone."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner

from bitq.cli import app
from bitq.errors import UsageError
from bitq.grid.expand import expand
from bitq.grid.study import studies
from bitq.io import canonical_json
from bitq.stats.claims import Claim, ClaimSet, Requires, claims
from bitq.stats.families import group_of
from bitq.stats.images import Images
from bitq.stats.judge import Verdict, judge, write_claims
from bitq.stats.layers import MOST_ZEROS
from bitq.stats.listing import listing
from bitq.stats.own import own_figures
from bitq.stats.predicates import Audited, Count, Predicate
from bitq.stats.published import TRUSTED, published
from tests.frames import SEEDS, Row, diverged, row, run, table
from tests.synthetic import pretend_all

BOOK = claims()
ALL = (*BOOK.claims, *BOOK.checks)
IDS = [claim.id for claim in ALL]
OF_RUNS = [claim.id for claim in ALL if not isinstance(claim.predicate, Audited)]
WISHES = ("holds", "fails", "undecided")
PLACE = {"datasets": ["cifar10"], "models": ["resnet18"]}

# What the four READMEs put first, as figures of published.yaml.
HEADLINES = {
    "readme.experiments.total", "readme.compute_gpu_hours", "readme.conv1.gap_recovery_range_pct",
    "readme.conv1.param_share_pct", "readme.kd.ternary_delta_range_pp", "readme.recipe.compression_x",
    "readme.cifar10.resnet18.fp32_acc", "readme.cifar10.resnet18.keep_conv1_acc", "readme.cifar10.resnet18.gap_pp",
    "readme.cifar100.resnet18.fp32_acc", "readme.cifar100.resnet18.keep_conv1_acc", "readme.cifar100.resnet18.gap_pp",
    "readme.tiny_imagenet.resnet18.fp32_acc", "readme.tiny_imagenet.resnet18.keep_conv1_acc",
    "readme.tiny_imagenet.resnet18.gap_pp", "readme.phase5.count", "readme.raw_count", "readme.raw_kd_count",
    "readme.stem.cifar10_gain_pp", "readme.stem.cifar100_gain_pp", "readme.seeds.extended",
    "ring.resnet20.ring4", "ring.resnet20.ring8", "ring.resnet32.ring4", "ring.resnet32.ring8",
    "ring.resnet20.fp32", "ring.resnet20.ring4.compression", "ring.resnet20.ring8.compression",
    "atq.accuracy", "atq.fp32", "atq.drop", "atq.memory", "atq.zeros",
    "precision.fp16", "precision.bf16", "precision.int8_ptq", "precision.int4_ptq", "precision.int8_qat",
    "precision.int4_qat", "precision.memory.fp16", "precision.memory.bf16",
    "readme.tables_count", "readme.figures_count", "readme.paper_pages",
}  # fmt: skip

CONTRADICTED_BY_THEIR_OWN_TABLES = {
    "bitnet.fp32.readme", "bitnet.recipe.readme", "bitnet.gap.capacity", "bitnet.conv1.recovery",
    "bitnet.conv1.most_sensitive_distilled", "bitnet.kd.helps_fp32", "bitnet.ttq.margin",
    "bitnet.ttq.recipe_beats_distilled", "ring.near_lossless.2bit",
    "ring.near_lossless.3bit", "precision.qat.int8", "precision.qat.near_full",
}  # fmt: skip


def claim_of(predicate: Row, **requires: Any) -> Claim:
    """A claim made up for a test."""
    where = None if predicate["kind"] in ("count", "audited") else Requires.model_validate({**PLACE, **requires})
    checked = TypeAdapter[Any](Predicate).validate_python(predicate)
    return Claim(id="x", work="bitnet", source="here", claim="so it is", requires=where, predicate=checked)


def verdict(predicate: Row, runs: pd.DataFrame, arms: Row | None = None, **requires: Any) -> Verdict:
    """The verdict on it."""
    return judge(ClaimSet(arms=arms or {}, claims=(claim_of(predicate, **requires),)), runs)[0]


def runs_of(column: str = "accuracy", **arms: tuple[float, ...]) -> pd.DataFrame:
    """Runs of CIFAR-10 and ResNet-18 by arm (_ stands for -), one value a seed."""
    return table(
        row(run(arm.replace("_", "-"), seed), **{column: value})
        for arm, values in arms.items()
        for seed, value in zip(SEEDS, values, strict=False)
    )


# The books


def test_every_claim_names_figures_that_are_published_and_works_that_exist() -> None:
    figures = published()
    assert len(BOOK.claims) >= 30 and len(figures.figures) >= 200
    for claim in BOOK.claims:
        assert set(claim.published) <= set(figures.figures), claim.id
        assert claim.work in {*figures.works, "ours"}, claim.id


def test_every_headline_of_the_four_readmes_is_a_claim() -> None:
    assert HEADLINES - {name for claim in ALL for name in claim.published} == set()


def test_an_arm_that_a_claim_names_is_in_the_grid_or_in_the_list() -> None:
    known = {each.arm for study in ("bitnet", "bitnet-extended") for each in expand(study, "full")} | {"atq-kd"}
    for claim in BOOK.claims:
        if claim.requires and not isinstance(claim.predicate, Count | Audited):
            needed = {arm.arm for each in claim.predicate.quantities(claim.requires.datasets[0]) for arm in each.arms}
            assert needed <= known | set(BOOK.arms), claim.id


@pytest.mark.parametrize(
    ("id", "value"),
    [
        ("acc.cifar10.resnet18.fp32", 96.07), ("recipe.tiny_imagenet.resnet18.recovery_pct", 3.8),
        ("readme.conv1.gap_recovery_range_pct", [30, 74]), ("kd.tiny_imagenet.resnet18.bitnet_kd_delta", -3.07),
        ("ring.snapped.resnet20.ring4", 10.7), ("atq.zeros", 95.67), ("precision.int8_ptq", 70.78),
    ],
)  # fmt: skip
def test_figures_carry_over(id: str, value: Any) -> None:
    figure = published().figures[id]
    assert figure.shown == value
    assert figure.source and published().statuses[figure.status]


def test_the_originals_own_tables_contradict_their_headlines_where_they_do() -> None:
    found = {claim.id: own_figures(claim, published()) for claim in BOOK.claims}
    assert {name for name, own in found.items() if own and own.verdict == "contradicts"} == (
        CONTRADICTED_BY_THEIR_OWN_TABLES
    )
    recovery = found["bitnet.conv1.recovery"]
    assert recovery and [round(each.estimate, 3) for each in recovery.figures] == [0.301, 0.192, 0.038]


def test_own_figures_are_held_to_the_limits_of_the_claim() -> None:
    for limits, expected in (({"between": [96.07, 97]}, "agrees"), ({"above": 96.07}, "contradicts")):
        own = own_figures(claim_of({"kind": "threshold", "arm": "fp32", **limits}), published())
        assert own and own.verdict == expected
    assert own_figures(claim_of({"kind": "threshold", "arm": "lsq2", "above": 0}), published()) is None


def test_old_pooled_and_typed_in_figures_are_nobody_s_own_data() -> None:
    means = published().own_means("bitnet")
    assert {figure.era for figure in published().figures.values() if figure.status in TRUSTED} == {"current"}
    assert means["cifar10", "resnet18", "bitnet", "accuracy"] == 94.64
    assert ("cifar10", "resnet50", "bitnet-keep_conv1", "accuracy") not in means


# The vocabulary: three differences of spread 0.1 have an interval of ± 0.248


@pytest.mark.parametrize(
    ("predicate", "limits", "column"),
    [
        ({"kind": "difference", "a": "bitnet", "b": "fp32"}, (-1.0, 0.248), "accuracy"),
        ({"kind": "threshold", "arm": "bitnet"}, (59.0, 0.248), "accuracy"),
        ({"kind": "ratio", "a": "bitnet", "b": "fp32"}, (59 / 60, 0.248 / 60), "accuracy"),
        ({"kind": "recovery", "kept": "bitnet", "low": "ttq", "high": "fp32"}, (0.9, 0.0248), "accuracy"),
        ({"kind": "interaction", "a": "bitnet", "b": "fp32", "c": "ttq", "d": "fp32"}, (9.0, 0.248), "accuracy"),
        ({"kind": "threshold", "arm": "bitnet", "column": "best_accuracy"}, (59.0, 0.248), "best_accuracy"),
    ],
)
def test_the_interval_against_the_limit_decides(predicate: Row, limits: tuple[float, float], column: str) -> None:
    center, half = limits
    runs = runs_of(column, bitnet=(59.0, 59.1, 58.9), fp32=(60, 60, 60), ttq=(50, 50, 50))
    for shift, expected in ((-1.1, "holds"), (-0.9, "undecided"), (0.9, "undecided"), (1.1, "fails")):
        assert verdict({**predicate, "above": center + shift * half, "column": column}, runs).verdict == expected
        assert verdict({**predicate, "below": center - shift * half, "column": column}, runs).verdict == expected
    inside = {**predicate, "between": (center - 2 * half, center + 2 * half), "column": column}
    assert verdict(inside, runs).verdict == "holds"
    found = verdict({**predicate, "above": 0, "column": column}, runs).evidence[0]
    assert found.estimate == pytest.approx(center)
    assert found.interval == pytest.approx((center - half, center + half), abs=half / 100)


def test_equivalence_asks_for_the_ninety_percent_interval() -> None:
    runs = runs_of(bitnet=(60.0, 60.1, 59.9), fp32=(60, 60, 60))  # ± 0.169
    for margin, expected in ((0.2, "holds"), (0.16, "undecided")):
        assert verdict({"kind": "equivalence", "a": "bitnet", "b": "fp32", "margin": margin}, runs).verdict == expected
    far = runs_of(bitnet=(61.0, 61.1, 60.9), fp32=(60, 60, 60))
    assert verdict({"kind": "equivalence", "a": "bitnet", "b": "fp32", "margin": 0.2}, far).verdict == "fails"


def test_an_ordering_needs_every_pair_and_fails_by_one() -> None:
    tiers = {"kind": "ordering", "tiers": [["fp32"], ["bitnet", "ttq"]]}
    values: dict[str, Any] = {"fp32": (60, 60, 60), "bitnet": (59.0, 59.1, 58.9)}
    for ttq, expected in (((50, 51, 50), "holds"), ((61, 61.1, 61), "fails"), ((59, 60, 61), "undecided")):
        assert verdict(tiers, runs_of(**values, ttq=ttq)).verdict == expected


def test_sizes_are_decided_by_every_file_even_by_one() -> None:
    size = {"kind": "size", "arm": "bitnet", "column": "compression", "between": [20.15, 20.25]}
    for values, expected in (((20.2,), "holds"), ((19.2, 19.2), "fails"), ((20.2, 19.2), "undecided")):
        assert verdict(size, runs_of("compression", bitnet=values)).verdict == expected
    to = {"kind": "size", "arm": "bitnet", "to": "fp32", "column": "file_bytes", "below": 0.1}
    assert verdict(to, runs_of("file_bytes", bitnet=(5, 5, 5), fp32=(80, 80, 80))).verdict == "holds"


def test_a_share_of_a_gap_that_may_not_exist_is_undecided_and_of_a_reversed_one_fails() -> None:
    share = {"kind": "recovery", "kept": "ttq", "low": "bitnet", "high": "fp32", "above": 0.3}
    for fp32, expected in (((60, 62, 61), "undecided"), ((50, 50.1, 50), "fails"), ((80, 80.1, 80), "holds")):
        found = verdict(share, runs_of(bitnet=(61, 61, 60.5), ttq=(70, 70, 70), fp32=fp32))
        assert found.verdict == expected
    assert "denominator" in verdict(share, runs_of(bitnet=(1, 2, 3), ttq=(1, 2, 3), fp32=(3, 1, 2))).reason


@pytest.mark.parametrize("spread", [0.001, 10.0])
def test_at_the_same_n_the_spread_decides(spread: float) -> None:
    runs = runs_of(bitnet=(61.0, 61 + spread, 61 - spread), fp32=(60, 60, 60))
    expected = "holds" if spread < 1 else "undecided"
    assert verdict({"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}, runs).verdict == expected


def test_one_run_has_no_interval_so_it_decides_nothing() -> None:
    found = verdict({"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}, runs_of(bitnet=(99,), fp32=(1,)))
    assert (found.verdict, found.evidence[0].n, found.evidence[0].interval) == ("missing", 1, None)


def test_diverged_runs_are_told_and_can_be_what_a_claim_is_about() -> None:
    rows = [row(run("fp32", seed), accuracy=50) for seed in SEEDS]
    rows += [diverged(run("ttq", seed)) for seed in SEEDS]
    rows += [row(run("bitnet", seed), accuracy=60) for seed in SEEDS[:2]] + [diverged(run("bitnet", SEEDS[2]))]
    runs = table(rows)
    found = verdict({"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}, runs)
    assert (found.verdict, found.evidence[0].n, found.evidence[0].n_diverged) == ("holds", 2, 1)
    assert "1 diverged" in found.reason
    stable = {"kind": "difference", "a": "ttq", "b": "fp32", "column": "diverged", "above": 0}
    found = verdict(stable, runs)  # three coins that fall alike: 1/8
    assert (found.verdict, found.needed and found.needed.seeds) == (
        "undecided",
        6,
    ) and "exact p = 0.125" in found.reason
    assert verdict({"kind": "threshold", "arm": "ttq", "above": 1}, runs).reason.count("no seed has a value")
    for n in (3, 7):  # from six seeds on, more of them are no remedy
        whole = table(row(run(arm, seed)) for arm in ("bitnet", "fp32") for seed in range(n))
        found = verdict({"kind": "difference", "a": "bitnet", "b": "fp32", "column": "diverged", "above": 0}, whole)
        assert (found.verdict, found.evidence[0].note) == ("undecided", "no run diverged in any arm")
        assert (found.needed is None) == (n == 7)


def test_an_arm_may_ask_for_so_many_classes() -> None:
    runs = table(row(run("bitnet", seed), accuracy=60, classes=20) for seed in SEEDS)
    for classes, expected in ((20, "holds"), (100, "missing")):
        asked = {"kind": "threshold", "arm": {"arm": "bitnet", "classes": classes}, "above": 50}
        assert verdict(asked, runs).verdict == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({"above": 0}, "undecided"), ({"below": 0.02}, "undecided"), ({"between": [-1, 1]}, "holds")],
)
def test_equal_counts_of_images_are_not_equal_accuracies(limits: Row, expected: str) -> None:
    """An image of 10,000 is the least spread: ± 4.3027 · 0.01 / √3 = ± 0.0248 points."""
    equal = runs_of(bitnet=(60, 61, 62), fp32=(60, 61, 62))
    assert verdict({"kind": "difference", "a": "bitnet", "b": "fp32", **limits}, equal).verdict == expected


def test_places_are_judged_apart_and_one_counterexample_is_enough() -> None:
    better = {"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}
    rows = [row(run("fp32", seed, d), accuracy=60) for seed in SEEDS for d in ("cifar10", "cifar100")]
    rows += [row(run("bitnet", seed), accuracy=61) for seed in SEEDS]
    both: dict[str, Any] = {"datasets": ["cifar10", "cifar100"]}
    found = verdict(better, table(rows), **both)
    assert (found.verdict, found.reason) == ("missing", "cifar100/resnet18: arm bitnet missing at this scale")
    assert verdict(better, table(rows), need="any", **both).verdict == "holds"
    worse = [row(run("bitnet", seed, "cifar10"), accuracy=59) for seed in SEEDS]
    assert verdict(better, table(rows[:6] + worse), **both).verdict == "fails"
    rows += [row(run("bitnet", seed, "cifar100"), accuracy=59) for seed in SEEDS]
    assert verdict(better, table(rows), **both).verdict == "fails"
    assert verdict(better, table(rows), need="any", **both).verdict == "holds"


def test_requirements_choose_the_runs_and_the_largest_scale_that_has_them_counts() -> None:
    claim = {"kind": "difference", "a": "fp32", "b": "ttq", "above": 0}
    rows = [row(run("ttq", seed), accuracy=55, scale="smoke", width=8) for seed in SEEDS]
    rows += [row(run(seed=seed), accuracy=50 + seed / 1000, scale="smoke", width=8) for seed in SEEDS]
    found = verdict(claim, table(rows), where={"width": 64})
    assert (found.verdict, found.scale) == ("missing", "smoke")
    assert found.reason.endswith("arm fp32, ttq missing at this scale with width 64")
    assert verdict(claim, table(rows)).verdict == "fails"
    rows += [row(run(arm, seed), accuracy=a, scale="mini") for arm, a in (("fp32", 60), ("ttq", 55)) for seed in SEEDS]
    own = {"scale": "a scale of one's own"}
    rows += [row(run(arm, seed), accuracy=a, **own) for arm, a in (("fp32", 40), ("ttq", 55)) for seed in SEEDS]
    assert [verdict(claim, table(rows)).scale, verdict(claim, table(rows)).verdict] == ["mini", "holds"]


def test_an_arm_can_be_taken_from_another_model_or_data_set_and_by_its_settings() -> None:
    deeper = {"kind": "difference", "a": "ring4", "b": {"arm": "ring4", "model": "resnet20"}, "above": 0}
    arms = {"ring4": {"method": "ring", "settings": {"levels": 4}}}
    described = {"resnet20": 60, "resnet32": 61}
    rows = [
        row(run("ring", seed, model=model, settings={"levels": 4, "wave": "sine"}), accuracy=accuracy)
        for model, accuracy in described.items()
        for seed in SEEDS
    ]
    assert verdict(deeper, table(rows), arms, models=["resnet32"]).verdict == "holds"


def test_a_claim_never_pools_arms() -> None:
    runs = table(row(run("bitnet", seed), machine=f"machine {seed}") for seed in SEEDS)
    with pytest.raises(UsageError, match="pools runs of machine"):
        verdict({"kind": "threshold", "arm": "bitnet", "above": 0}, runs)
    claim = claim_of({"kind": "threshold", "arm": "bitnet", "above": 0})
    assert judge(ClaimSet(arms={}, claims=(claim,)), runs, across=["machine"])[0].verdict == "holds"


@pytest.mark.parametrize(
    ("predicate", "why"),
    [
        ({"kind": "difference", "a": "x", "b": "y"}, "above and/or below"),
        ({"kind": "difference", "a": "x", "b": "y", "above": 0, "between": [0, 1]}, "above and/or below"),
        ({"kind": "python", "code": "1 < 2"}, "does not match any of the expected tags"),
        ({"kind": "threshold", "arm": "x", "above": 0, "eval": "1"}, "Extra inputs are not permitted"),
        ({"kind": "count", "study": "bitnet"}, "equals or between"),
        ({"kind": "count", "study": "bitnet", "equals": {"1": 2}}, "needs a mapping in equals"),
    ],
)
def test_what_is_no_predicate_is_refused(predicate: Row, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        claim_of(predicate)


# Every claim on tables that make it hold, fail and stay undecided


def limits_of(predicate: Row, dataset: str) -> tuple[float, float]:
    """The two limits as the file writes them."""
    if predicate["kind"] == "equivalence":
        return -predicate["margin"], predicate["margin"]
    if predicate["kind"] == "reached":
        value = published().figures[predicate["figures"][dataset]].value
        assert isinstance(value, int | float)
        return value - predicate["within"], value + predicate["within"]
    if predicate.get("per_dataset"):
        low, high = predicate["per_dataset"][dataset]
    else:
        low, high = predicate.get("between") or (predicate.get("above"), predicate.get("below"))
    return -math.inf if low is None else low, math.inf if high is None else high


def wished(limits: tuple[float, float], wish: str) -> tuple[float, float]:
    """A value that grants the wish, and how far it is from the nearest limit."""
    low, high = limits
    near = low if math.isfinite(low) else high
    step = (high - low) / 2 if math.isfinite(high - low) and high > low else max(1e-3, abs(near) / 10 or 1.0)
    if wish == "undecided":
        return near, step
    inward = 1 if near == low else -1
    inside = (low + high) / 2 if math.isfinite(high - low) else near + inward * step
    return (inside if wish == "holds" else near - inward * step), step


def means_of(predicate: Row, target: float) -> dict[str, float]:
    """Means of the arms (by role) at which the quantity is `target`; the first role is the one that gets noise."""
    kind = predicate["kind"]
    if kind in ("difference", "equivalence"):
        return {"a": 50 + target, "b": 50}
    if kind == "reached":
        return {"a": 50 + target, "b": 50} if predicate["b"] else {"a": target}
    if kind == "interaction":
        return {"a": 50 + target, "b": 45, "c": 50, "d": 45}
    if kind == "ratio":
        return {"a": 50 * target, "b": 50}
    if kind == "recovery":
        return {"kept": 50 + 4 * target, "low": 50, "high": 54}
    if kind == "size" and predicate.get("to"):
        return {"arm": 1e6 * target, "to": 1e6}
    return {"arm": target}


def arms_of(predicate: Row, dataset: str, wish: str) -> Iterator[tuple[Row, Sequence[float]]]:
    """Arms with one value a seed that grant the wish."""
    if predicate.get("column") == "diverged":
        # The exact test of pairs needs six that differ.
        a, b = {"holds": ([1] * 6, [0] * 6), "fails": ([0] * 6, [1] * 6)}.get(wish, ([1, 0, 0], [0, 0, 0]))
        yield from ((predicate["a"], a), (predicate["b"], b))
    elif predicate["kind"] == "ordering":
        for tier, arms in enumerate(predicate["tiers"]):
            height = {"holds": -tier, "fails": tier, "undecided": 0}[wish]
            yield from ((arm, [60 + height + noise * (tier + 1) for noise in (0.1, -0.1, 0.0)]) for arm in arms)
    else:
        target, step = wished(limits_of(predicate, dataset), wish)
        if (predicate["kind"], wish) == ("reached", "fails"):
            target += 20 * (target - sum(limits_of(predicate, dataset)) / 2)  # published means have a spread too
        means = means_of(predicate, target)
        per_unit = means_of(predicate, target + 1)
        for role, mean in means.items():
            noise = (per_unit[role] - mean) * step * (1 if wish == "undecided" else 1e-3)
            if predicate.get("column") == "wall_seconds":
                noise = noise or 1e-3  # no two times are equal
            if wish != "undecided" and predicate.get("between") == (1, 1):
                noise = 0  # no room between the limits
            yield predicate[role], [mean + noise, mean - noise, mean]


def rows_of(claim: Claim, wish: str) -> Iterator[Row]:
    """Runs of everything that a claim needs."""
    assert claim.requires
    predicate = claim.predicate.model_dump()
    for dataset in claim.requires.datasets:
        for model in claim.requires.models:
            for arm, values in arms_of(predicate, dataset, wish):
                criteria = BOOK.arms.get(arm["arm"], {})
                place = {"dataset": arm["dataset"] or dataset, "model": arm["model"] or model}
                changes = {**BOOK.where(claim, model), **criteria}
                changes |= {"classes": arm["classes"]} if arm["classes"] else {}
                changes |= {"study": claim.study or claim.work}
                changes |= {
                    "settings": canonical_json({"z": 0} | criteria.get("settings", {})),
                    "arm": criteria.get("arm", arm["arm"]),
                }
                for seed, value in zip((*SEEDS, 789, 1011, 1213), values, strict=False):
                    yield measured(place, seed, changes, predicate.get("column", "accuracy"), value)


def measured(place: Row, seed: int, changes: Row, column: str, value: float) -> Row:
    described = run(seed=seed, dataset=place["dataset"], model=place["model"])
    if column == "diverged":
        return (diverged(described) if value else row(described)) | changes
    column = "zeros" if column == MOST_ZEROS else column  # the layers of these tables are whole networks
    return row(described, **changes, **{column: round(value) if column.endswith("bytes") else value})


def counted(predicate: Count, wish: str) -> list[Row]:
    """A complete study whose numbers are as claimed, or not."""
    rows = [row(each) for each in expand(predicate.study, "full")]
    chosen = [each for each in rows if all(each.get(key) == value for key, value in predicate.where.items())] or rows
    wrong = wish == "fails"
    if predicate.of == "hours":
        assert predicate.between
        seconds = 3600 * sum(predicate.between) / 2 / len(rows) * (3 if wrong else 1)
        return [each | {"wall_seconds": seconds, "device": "cuda:0"} for each in rows]
    if predicate.of == "seeds":
        assert isinstance(predicate.equals, int)
        for number, each in enumerate(chosen):
            each["seed"] = number % (predicate.equals + wrong)
        return rows
    if predicate.by and wrong:
        chosen[0][predicate.by] = next(
            each[predicate.by] for each in rows if each[predicate.by] != chosen[0][predicate.by]
        )
        return rows
    return rows + rows[:1] * wrong


def alone(id: str) -> ClaimSet:
    """The book with this claim, or with this check, and no other."""
    claim = ALL[IDS.index(id)]
    return BOOK.model_copy(update={name: (claim,) * (claim in getattr(BOOK, name)) for name in ("claims", "checks")})


def judged(book: ClaimSet, runs: pd.DataFrame) -> list[Verdict]:
    """Verdicts on a book that holds a claim or a check; the packed layers are those of whole networks."""
    return judge(book, runs, layers=runs[["hash", "zeros"]], only_checks=not book.claims)


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("id", OF_RUNS)
def test_every_claim_can_hold_fail_and_stay_open(id: str, wish: str) -> None:
    claim, book = ALL[IDS.index(id)], alone(id)
    if isinstance(claim.predicate, Count):
        rows = counted(claim.predicate, wish)
        found = judged(book, table(rows if wish != "undecided" else rows[1:]))[0]
        assert found.verdict == wish, found.reason
    else:
        found = judged(book, table(rows_of(claim, wish)))[0]
        assert found.verdict == wish, found.reason
        assert all(each.n in (3, 6) and each.estimate is not None for each in found.evidence)
        assert found.weakest is not None and found.evidence[found.weakest].verdict == wish
        assert claim.predicate.kind == "size" or (found.needed is not None) == (wish == "undecided")
    assert found.reason


@pytest.mark.parametrize("id", OF_RUNS)
def test_every_claim_names_what_it_lacks(id: str) -> None:
    elsewhere = table([row(run("twn", dataset="mnist", model="vgg16"), study="other")])
    found = judged(alone(id), elsewhere)[0]
    assert found.verdict == "missing"
    assert re.search(r"(arm .+|study [\w-]+) missing at this scale", found.reason)


@pytest.mark.parametrize("id", [claim.id for claim in ALL if isinstance(claim.predicate, Count)])
def test_nothing_is_counted_at_a_scale_that_chooses_seeds(id: str) -> None:
    claim = ALL[IDS.index(id)]
    assert isinstance(claim.predicate, Count)
    runs = [row(each) for each in expand(claim.predicate.study, "mini")]
    found = judged(alone(id), table(runs))[0]
    assert (found.verdict, found.reason) == ("missing", "scale mini chooses its own number of seeds")


def test_verdicts_are_json_and_written_twice_alike(tmp_path: Path) -> None:
    table(rows_of(BOOK.claims[IDS.index("bitnet.kd.hurts")], "holds")).to_parquet(tmp_path / "runs.parquet")
    found = write_claims(tmp_path / "runs.parquet", tmp_path / "a.json")
    write_claims(tmp_path / "runs.parquet", tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    written = json.loads((tmp_path / "a.json").read_text())["verdicts"]
    assert [each["id"] for each in written] == IDS[: len(written)] == [each.id for each in found]
    checks = json.loads((tmp_path / "a.json").read_text())["checks"]
    assert [each["id"] for each in checks] == IDS[len(written) :]
    assert written[IDS.index("bitnet.kd.hurts")]["verdict"] == "holds"


def test_no_runs_at_all_leave_every_claim_missing() -> None:
    found = judge(BOOK, table([])) + judge(BOOK, table([]), only_checks=True)
    assert {each.verdict for each in found if each.about != "record" or "repository" not in each.id} == {"missing"}


# Corrections, protocol, sensitivity


def test_a_claim_at_three_places_fails_by_the_interval_at_a_third_of_alpha() -> None:
    """Differences of -1 ± 0.3: 95 % ends at -0.25, 98.3 % at +0.32."""
    better = {"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}
    sets = ("cifar10", "cifar100", "tiny_imagenet")
    rows = [row(run("fp32", seed, name), accuracy=60) for name in sets for seed in SEEDS]
    rows += [row(run("bitnet", seed), accuracy=59 + 0.3 * noise) for seed, noise in zip(SEEDS, (1, -1, 0), strict=True)]
    rows += [row(run("bitnet", seed, name), accuracy=62) for name in sets[1:] for seed in SEEDS]
    alone, three = (verdict(better, table(rows), datasets=list(of)) for of in (sets[:1], sets))
    assert (alone.verdict, three.verdict, three.places) == ("fails", "undecided", 3)
    assert three.evidence[0].level_family == pytest.approx(1 - 0.05 / 3)
    assert three.needed and three.needed.seeds and 3 < three.needed.seeds < 10
    assert three.weakest == 0 and "needs n ≥" in three.reason


def test_what_is_no_direction_is_judged_on_the_published_protocol_alone() -> None:
    for claim in BOOK.claims:
        if claim.requires and claim.about != "direction":
            assert BOOK.where(claim, claim.requires.models[0])["width"], claim.id
    fast = claim_of({"kind": "ratio", "a": "bitnet", "b": "fp32", "column": "wall_seconds", "below": 1})
    near = claim_of({"kind": "equivalence", "a": "bitnet", "b": "fp32", "margin": 5})
    share = claim_of({"kind": "size", "arm": "bitnet", "column": "compression", "above": 2})
    assert [each.about for each in (fast, near, share)] == ["hardware", "magnitude", "size"]
    changed: tuple[Row, ...] = ({"scale": "mini"}, {"variant": "cifar10-q5"}, {"width": 8})
    for changes in changed:
        rows = [row(run(arm, seed)) | changes for arm in ("fp32", "bitnet") for seed in SEEDS]
        found = judge(ClaimSet(arms={}, claims=(near, fast.model_copy(update={"id": "y"}))), table(rows))
        assert {each.verdict for each in found} == {"missing"}, changes


def test_checks_of_the_grid_are_no_claims() -> None:
    counted = {claim.id for claim in BOOK.claims}
    assert not counted & {"bitnet.runs", "bitnet.phases", "bitnet.distilled_runs", "ours.extension", "ours.coverage"}
    assert not any(isinstance(claim.predicate, Count) and claim.predicate.of != "hours" for claim in BOOK.claims)
    assert len(BOOK.checks) >= 9


def test_the_margin_at_which_a_verdict_turns_is_told() -> None:
    """Ninety percent: 1 ± 0.169. The claim holds from a margin of 1.169 on; it fails below 1 - 0.248."""
    runs = runs_of(bitnet=(61.0, 61.1, 60.9), fp32=(60, 60, 60))
    for margin, expected in ((0.5, "fails"), (1.0, "undecided"), (1.5, "holds")):
        found = verdict({"kind": "equivalence", "a": "bitnet", "b": "fp32", "margin": margin}, runs)
        assert found.verdict == expected and found.sensitivity
        turns = (found.sensitivity.kind, found.sensitivity.holds, found.sensitivity.fails)
        assert turns == ("margin", pytest.approx(1.1686, abs=1e-3), pytest.approx(1 - 0.2484, abs=1e-3))
    wide = verdict(
        {"kind": "equivalence", "a": "bitnet", "b": "fp32", "margin": 1},
        runs_of(bitnet=(50, 70, 61), fp32=(60, 60, 60)),
    )
    assert wide.sensitivity and wide.sensitivity.holds and wide.sensitivity.fails is None  # no margin is below zero
    above = verdict({"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}, runs).sensitivity
    assert above and (above.kind, above.holds) == ("above", pytest.approx(0.7516, abs=1e-3))


def test_a_published_mean_of_one_run_is_one_more_draw() -> None:
    """Three runs of SD 0.1 and one published: 0.1 · √(1/3 + 1) · 2.92 = ± 0.337."""
    reached = {"kind": "reached", "a": "bitnet", "figures": {"cifar10": "acc.cifar10.resnet18.bitnet"}, "within": 0.5}
    runs = runs_of(bitnet=(94.64, 94.74, 94.54))
    by_welch = verdict(reached, runs).evidence[0]  # SD 0.2, n = 3: 0.1291 · t(0.95, 2.94 degrees) = 0.1291 · 2.377
    assert by_welch.interval == pytest.approx((94.64 - 0.307, 94.64 + 0.307), abs=2e-3)
    single = {**reached, "figures": {"cifar10": "readme.cifar10.resnet18.fp32_acc"}, "n": 1}
    found = verdict(single, runs_of(bitnet=(93.01, 93.11, 92.91))).evidence[0]
    assert found.interval == pytest.approx((93.01 - 0.3372, 93.01 + 0.3372), abs=1e-3)
    assert (found.verdict, found.note) == ("holds", "1 published run, spread taken to be ours")


def test_predictions_widen_the_interval_to_new_images() -> None:
    rng = np.random.default_rng(1)
    rows = [row(run(arm, seed), accuracy=a) for arm, a in (("bitnet", 60.0), ("fp32", 50.0)) for seed in SEEDS]
    for number, each in enumerate(rows):
        each["accuracy"] += 0.1 * (number % 3) * (number > 2)
    frame, hard = table(rows), rng.random(500)
    correct = {name: hard + 0.1 * rng.random(500) < share / 100 for name, share in zip(frame["hash"], frame["accuracy"], strict=True)}  # fmt: skip # noqa: E501
    images = Images(correct, dict.fromkeys(correct, 0))
    book = ClaimSet(arms={}, claims=(claim_of({"kind": "difference", "a": "bitnet", "b": "fp32", "above": 0}),))
    old, new = judge(book, frame)[0].evidence[0], judge(book, frame, images=images)[0].evidence[0]
    assert old.interval == new.interval_seeds and old.interval and new.interval
    assert (old.new_images, new.new_images) == (False, True)
    assert new.interval[1] - new.interval[0] > old.interval[1] - old.interval[0]


# The verb


def claims_of(*options: str) -> Any:
    found = CliRunner().invoke(app, ["claims", *options])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_verb_lists_what_partial_results_decide_and_what_is_not_run_yet(tmp_path: Path) -> None:
    text = claims_of("--results", str(tmp_path), "--scale", "full", "--study", "bitnet")
    assert "not yet run  bitnet.kd.hurts" in text and "arm bitnet-kd, bitnet missing" in text
    arms = ("bitnet", "bitnet-kd")
    pretend_all([run for run in expand("bitnet", "smoke") if run.arm in arms and run.model == "resnet18"], tmp_path)
    found = json.loads(claims_of("--results", str(tmp_path), "--scale", "smoke", "--study", "bitnet", "--json"))
    verdicts = {each["id"]: each for each in found["verdicts"]}
    assert verdicts["bitnet.kd.hurts"]["verdict"] != "missing"
    assert verdicts["bitnet.kd.hurts"]["evidence"][0]["runs"] == [
        "smoke/bitnet/cifar10/resnet18/bitnet-kd/{s42,s123,s456}",
        "smoke/bitnet/cifar10/resnet18/bitnet/{s42,s123,s456}",
    ]
    text = claims_of("--results", str(tmp_path), "--scale", "smoke", "--study", "bitnet")
    assert "not judged   bitnet.kd.loss" in text and "not yet run  bitnet.ternary.costs" in text
    count = len(BOOK.of_studies(["bitnet"]).claims)
    assert "Checks of the grid" in text and text.rstrip().splitlines()[-1].startswith(f"{count} claims: ")
    assert "ring." not in text and "ours.kd.mixup" in text


def test_a_study_and_its_extension_decide_the_same_claims_and_every_claim_has_a_study() -> None:
    assert BOOK.of_studies(["bitnet"]) == BOOK.of_studies(["bitnet-extended"])
    groups = {group_of(study) for study in studies()}
    parts = [BOOK.of_studies([group]) for group in groups]
    assert sum(len(part.claims) for part in parts) == len(BOOK.claims)
    assert sum(len(part.checks) for part in parts) == len(BOOK.checks)


def test_a_claim_is_a_paragraph_where_a_terminal_is_too_narrow_for_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"verdicts": judge(BOOK.of_studies(["ring"]), table([])), "checks": []}
    assert max(map(len, listing(found, {"full"}).splitlines())) > 80
    monkeypatch.setattr("bitq.stats.listing.width_of_terminal", lambda: 80)
    narrow = listing(found, {"full"})
    assert max(map(len, narrow.splitlines())) <= 80
    assert "not yet run  ring.depth\n" in narrow and "limit above 0; published 89.29, 89.27;" in narrow


def test_a_table_of_runs_is_not_asked_for_a_selection(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["claims", "--runs", str(tmp_path / "runs.parquet"), "--scale", "full"])
    assert isinstance(found.exception, UsageError) and "give it alone" in str(found.exception)
