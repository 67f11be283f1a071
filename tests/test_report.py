"""Tables, figures and numbers: every cell is a query, any subset of runs renders, equal results give equal bytes."""

import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from bitq.errors import DataError, UsageError
from bitq.grid.select import Selection, grid
from bitq.grid.study import studies
from bitq.io import write_json
from bitq.report import contrasts, tex
from bitq.report.figures import figures, write_figures
from bitq.report.numberlint import asked
from bitq.report.numbers import Numbers, tex_of, write_numbers
from bitq.report.query import Query
from bitq.report.sources import Sources, load
from bitq.report.table import NOTHING
from bitq.report.tables import tables, write_tables
from bitq.report.values import Number
from bitq.results import costs
from bitq.results.columns import CURVES, Census
from bitq.run import Run
from bitq.stats.claims import claims
from bitq.stats.families import group_of
from bitq.stats.judge import as_json, judge
from bitq.stats.summary import stats
from bitq.studies.catalogue import printed, questions
from bitq.studies.precision import backends, efficiency
from bitq.verbs.remeasure import counted
from tests import frames
from tests.build import build_of

ROOT = Path(__file__).parents[1]
BITNET, BOTH = ["bitnet"], ["bitnet", "bitnet-extended"]
R18, R50 = "resnet18", "resnet50"


def accuracy(run: Run) -> float:
    """Different for every run, and the same every time."""
    return int(run.hash[:6], 16) % 9000 / 100 + 5


def measured(run: Run) -> dict[str, Any]:
    """Bytes and speed that differ from arm to arm."""
    share = int(run.hash[6:10], 16) / 2**16
    return {"file_bytes": 50_000 + round(9000 * share), "images_per_second": 500 + 900 * share, "zeros": share}


def table_of(runs: Iterable[Run], diverged: Callable[[Run], bool] = lambda run: False) -> pd.DataFrame:
    rows = (frames.row(run, accuracy=accuracy(run), best_accuracy=accuracy(run) + 0.2, **measured(run)) for run in runs)
    lost = {run.id for run in runs if diverged(run)}
    return frames.table(frames.diverged(run) if row["id"] in lost else row for run, row in zip(runs, rows, strict=True))


def curves_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Two epochs of every run, the same for all."""
    numbers = {column.name: 0.5 for column in CURVES if column.kind is float}
    return runs[["id", "hash"]].merge(pd.DataFrame({"epoch": [0, 1]} | numbers), how="cross")


def layers_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Two layers of every run, the same for all."""
    layer = {"levels": 3, "codes_used": 3, "values_per_scale": 3, "residual": 1, "weights": 6, "zeros": 0.4}
    rows = [
        {"layer": name, "histogram": [1, 2, 3], "signs": [-1, 0, 1], "bits_per_weight": 1.6} | layer
        for name in ("conv1", "fc")
    ]
    return runs[["id", "hash"]].merge(pd.DataFrame(rows), how="cross")


def sources(frame: pd.DataFrame, planned: int | None = None, of: Iterable[str] = BITNET, at: str = "smoke") -> Sources:
    expected = planned or len(frame)
    scales: dict[str, tuple[str, ...]] = {study: (at,) for study in of}
    census = Census(expected=expected, present=len(frame), missing=expected - len(frame), scales=scales, root="0" * 64)
    computed = json.loads(json.dumps(stats(frame, questions())))
    return Sources(frame, census, computed, verdicts(), printed=printed())


@cache
def verdicts() -> dict[str, Any]:
    """Of the study, judged once."""
    return judged(table_of(grid("smoke", BITNET)))


def judged(frame: pd.DataFrame) -> dict[str, Any]:
    """Verdicts and checks of the grid, as `bitq claims` writes them."""
    return as_json({"verdicts": judge(claims(), frame), "checks": judge(claims(), frame, only_checks=True)})


@pytest.fixture(scope="module")
def study() -> Sources:
    """The published study, whole."""
    return sources(table_of(grid("smoke", BITNET)))


@pytest.fixture(scope="module")
def extended() -> Sources:
    """Both studies, whole."""
    return sources(table_of(grid("smoke", BOTH)), of=BOTH)


@pytest.fixture(scope="module")
def everything() -> Sources:
    """All studies, whole."""
    whole = sources(table_of(grid("smoke")), of=studies())
    return replace(whole, all_curves=curves_of(whole.all_runs), all_layers=layers_of(whole.all_runs), _others={})


@pytest.fixture(scope="module")
def chosen() -> Sources:
    """All studies, whole, at a scale that chooses the seeds."""
    whole = sources(table_of(grid("mini")), of=studies(), at="mini")
    curves, layers = curves_of(whole.all_runs), layers_of(whole.all_runs)
    return replace(whole, claims=judged(whole.all_runs), all_curves=curves, all_layers=layers, _others={})


@pytest.fixture(scope="module")
def holed() -> Sources:
    """One run is missing and one diverged, both of FP32 ResNet-18 on CIFAR-10."""
    runs = [run for run in grid("smoke", BITNET) if run.id != "bitnet/cifar10/resnet18/fp32/s42"]
    frame = table_of(runs, diverged=lambda run: run.id == "bitnet/cifar10/resnet18/fp32/s123")
    return sources(frame, planned=153)


def text(name: str, of: Sources) -> str:
    return tables(of)[name]()


def cells(name: str, of: Sources) -> list[list[str]]:
    """The body of a table, cell by cell, without dollar signs."""
    whole = text(name, of)
    head = r"\endlastfoot" if r"\endlastfoot" in whole else r"\midrule"
    body = re.split(r"\\bottomrule|\\end\{longtable\}", whole.partition(head)[2])[0]
    lines = [line.strip() for line in re.split(r"\\\\(?:\*|\[\S+\])?\n", body)]
    return [[part.strip().replace("$", "") for part in line.split("&")] for line in lines if "&" in line]


def pick(frame: pd.DataFrame, dataset: str, model: str, arm: str, column: str = "accuracy") -> "pd.Series[float]":
    """An independent query: pandas alone."""
    found = frame.query("dataset == @dataset and model == @model and arm == @arm and phase != 'n10'")
    return found.set_index("seed")[column]


def shown(values: "pd.Series[float]") -> str:
    return rf"{values.mean():.2f} \pm {values.std(ddof=1):.2f}"


PLACES = [(model, dataset) for model in (R18, R50) for dataset in ("cifar10", "cifar100", "tiny_imagenet")]


# --- tables are queries -----------------------------------------------------------------------------------------------


def test_accuracies_and_their_loss(study: Sources) -> None:
    for (model, dataset), row in zip(PLACES, cells("accuracy", study), strict=True):
        arms = [pick(study.runs, dataset, model, arm) for arm in ("fp32", "bitnet", "ttq")]
        assert row[1:4] == [shown(values) for values in arms]
        assert row[4] == f"{(arms[1] - arms[0]).mean():+.2f}"


def test_recovered_shares_without_and_with_distillation(study: Sources) -> None:
    found = cells("layer_ablation", study)
    for place, dataset in enumerate(("cifar10", "cifar100", "tiny_imagenet")):
        rows = {row[0]: row for row in found[6 * place : 6 * place + 6]}
        for kept in ("conv1", "layer1", "layer4", "fc"):
            for side, suffix in ((1, ""), (4, "-kd")):
                names = (f"bitnet-keep_{kept}{suffix}", f"bitnet{suffix}", f"fp32{suffix}")
                some, low, high = (pick(study.runs, dataset, R18, arm) for arm in names)
                accuracies = [cell for cell in rows[kept] if r"\pm" in cell]
                assert accuracies[side // 4] == shown(some)
                recovery = study.recoveries[dataset, R18, *names]
                expected = (some - low).mean() / (high - low).mean()
                assert recovery["share"] == pytest.approx(expected)
                # Of a gap that may be zero no share can be told.
                assert (f"{100 * expected:.1f}" in rows[kept]) == bool(recovery["interval"])
    full = pick(study.runs, dataset, R18, "fp32")
    assert rows["all"][1] == shown(full) and full.size == 3


def signed(difference: float) -> str:
    """Write a difference as tables do: zero has no sign."""
    return f"{difference:+.2f}".replace("+0.00", "0.00").replace("-0.00", "0.00")


def test_effects_of_distillation(study: Sources) -> None:
    rows = iter(cells("kd_effect", study))
    for dataset in ("cifar10", "cifar100", "tiny_imagenet"):
        for student in ("fp32", "bitnet"):
            plain, distilled = (pick(study.runs, dataset, R18, arm) for arm in (student, f"{student}-kd"))
            row = next(rows)
            assert row[2:4] == [shown(plain), shown(distilled)]
            assert row[4] == signed((distilled - plain).mean())


@pytest.mark.parametrize(("table", "other"), [("recipe_vs_fp32", "fp32"), ("recipe_vs_ttq", "ttq")])
def test_the_recipe_against_others(extended: Sources, table: str, other: str) -> None:
    rows = iter(cells(table, extended))
    for model, dataset in PLACES:
        for kd in ("", "-kd"):
            recipe, rival = (pick(extended.runs, dataset, model, arm) for arm in (f"bitnet-keep_conv1{kd}", other))
            row = next(rows)
            assert row[1:5] == ["yes" if kd else "no", shown(recipe), shown(rival), signed((recipe - rival).mean())]


def test_bytes_are_those_of_the_files(study: Sources) -> None:
    rows = cells("model_size", study)
    arms = ["fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in ("conv1", "layer1", "layer4", "fc")), "ttq"]
    for arm, row in zip(arms, rows, strict=False):
        values = pick(study.runs, "cifar10", R18, arm, "file_bytes")
        assert row[2] == f"{round(values.mean()):,}".replace(",", r"\,")
        assert row[7] == f"{100 * pick(study.runs, 'cifar10', R18, arm, 'zeros').mean():.1f}"


def test_speeds_are_those_of_the_runs(study: Sources) -> None:
    for (model, dataset), row in zip(PLACES, cells("efficiency", study), strict=True):
        speeds = [pick(study.runs, dataset, model, arm, "images_per_second") for arm in ("fp32", "bitnet", "ttq")]
        assert row[6:9] == [f"{round(values.mean()):,}".replace(",", r"\,") for values in speeds]


def test_counts_add_up_to_the_grid(study: Sources, holed: Sources) -> None:
    assert [row[2:] for row in cells("run_counts", study)][-1] == [
        rf"\emph{{{count}}}" for count in (153, 63, 153, 0, 0)
    ]
    assert [row[2:] for row in cells("run_counts", holed)][-1] == [
        rf"\emph{{{count}}}" for count in (153, 63, 151, 1, 1)
    ]


def test_the_stem_has_two_sides_when_the_extension_is_there(extended: Sources) -> None:
    rows = cells("stem_effect", extended)
    old, new = (pick(extended.runs, "cifar10", R18, arm) for arm in ("fp32-imagenet_stem", "fp32"))
    assert rows[0][1:4] == [shown(old), shown(new), f"{(new - old).mean():+.2f}"]


def test_the_tables_of_the_study_leave_further_seeds_to_their_own_family(extended: Sources) -> None:
    assert r"\emph{What do ten seeds say?} (n = 10)" in text("controls", extended)
    assert {row[2] for row in cells("significance", extended)} == {"3"}


def test_every_test_is_printed_as_it_was_computed(study: Sources) -> None:
    computed = [record for name in ("bitnet_vs_fp32", "bitnet_vs_ttq") for record in study.families[name]["contrasts"]]
    for row, record in zip(cells("significance", study), computed, strict=True):
        assert row[2:4] == [str(record["n"]), tex.signed(record["difference"]).replace("$", "")]
        assert row[5:7] == [tex.p_value(p).replace("$", "") for p in (record["paired"]["p"], record["p_holm"])]


def test_every_contrast_has_a_cell_and_a_line_with_all_that_was_computed(study: Sources) -> None:
    computed = [record for family in study.families.values() for record in family["contrasts"]]
    printed = [cell for row in cells("contrasts", study) for cell in row[1:-1] if r"\pm" in cell]
    halves = [(record["interval"][1] - record["interval"][0]) / 2 for record in computed]
    bold = [rf"\mathbf{{{record['difference']:+.2f}}}" for record in computed if record["p_holm"] < 0.05]
    assert sorted(cell.partition(r"\pm ")[2] for cell in printed) == sorted(f"{half:.2f}" for half in halves)
    assert sorted(cell.partition(r"\pm")[0] for cell in printed if "mathbf" in cell) == sorted(bold)
    assert f"{len(bold)} of {len(computed)} differ from zero" in text("contrasts", study)
    lines = pd.read_csv(io.BytesIO(contrasts.csv(study)))
    assert list(lines["difference"]) == pytest.approx([record["difference"] for record in computed], rel=1e-5)
    assert list(lines["p_welch"]) == pytest.approx([record["welch"]["p"] for record in computed], rel=1e-5)


def test_every_claim_has_its_verdict(study: Sources) -> None:
    body = text("claims", study)
    judged = {verdict: count for verdict, count in study.verdicts.items() if verdict != "missing"}
    assert {verdict: body.count(rf"& {verdict} \\") for verdict in judged} == judged
    claims = [tex.escape(record["claim"]) for record in study.claims["verdicts"]]
    assert all(claim in body for claim in claims)
    assert body.count("Not judged, since no run shown has")


def test_verdicts_older_than_the_list_of_claims_are_refused(study: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [study.claims["verdicts"][0] | {"id": "gone"}]
    monkeypatch.setitem(study.claims, "verdicts", verdicts)
    with pytest.raises(DataError, match="judges gone, which config/claims.yaml lacks; write it anew"):
        text("claims", study)


def test_what_decided_a_claim_is_printed_with_its_unit(study: Sources) -> None:
    body = text("claims", study)
    assert re.search(r"less accurate than its FP32 twin.* & \$-?[\d.]+\$ points \$\[", body)
    assert r"& $7$ tables that generate\_tables.py writes &" in body


# --- any subset -------------------------------------------------------------------------------------------------------

SUBSETS = {
    "one run": Selection(datasets=["cifar10"], models=[R50], methods=["ttq"], seeds=[42]),
    "one seed of one set": Selection(datasets=["cifar100"], seeds=[42]),
    "no float network": Selection(methods=["bitnet", "ttq"]),
}


@pytest.mark.parametrize("name", SUBSETS)
def test_every_table_stands_for_any_subset(name: str) -> None:
    of = sources(table_of(grid("smoke", BITNET, SUBSETS[name])), planned=153)
    for render in tables(of).values():  # those of studies without any run, too
        body = render()
        assert body.count("{") == body.count("}") and not re.search(r"\bNone\b|\bnan\b", body)


@pytest.mark.parametrize("missing", ["bitnet", "ring", "atq", "precision", "multimodal"])
def test_the_report_stands_without_a_study(everything: Sources, missing: str) -> None:
    frame = everything.all_runs[everything.all_runs["study"].map(group_of) != missing]
    kinds = ("cells", "families", "recoveries")
    stats = {kind: [record for record in everything.stats[kind] if record["study"] != missing] for kind in kinds}
    scales = {name: at for name, at in everything.census.scales.items() if group_of(name) != missing}
    census = everything.census.model_copy(update={"scales": scales})
    of = replace(everything, all_runs=frame, stats=everything.stats | stats, census=census, study="", _others={})
    assert of.study != missing and not of.shows(missing)
    (own,) = (printed for printed in of.printed if printed.study == missing)
    for name in (*(table.name for table in own.tables), "configuration", "run_counts", "contrasts", "deviations"):
        body = tables(of)[name]()
        assert body.count("{") == body.count("}") and not re.search(r"\bNone\b|\bnan\b", body), name
    for figure in own.figures:
        drawn = figures(of)[figure.name]()
        assert (b"label" in drawn["tex"]) == ("pdf" in drawn) == (figure.name in ("ring_geometry", "efficiency")), (
            figure.name
        )
    numbers = Numbers(of)
    texts = {key: numbers[key].text for key in asked(ROOT, of.printed) if f".{missing}." in key}
    assert texts and {text for key, text in texts.items() if key.startswith("acc.")} <= {"--"}


@pytest.mark.slow
def test_every_table_and_figure_stands_where_a_scale_chooses_seeds(chosen: Sources) -> None:
    for name, render in tables(chosen).items():
        body = render()
        assert body.count("{") == body.count("}") and not re.search(r"\bNone\b|\bnan\b", body), name
    assert all(draw().get("pdf", b"%PDF").startswith(b"%PDF") for draw in figures(chosen).values())
    assert re.search("n = 2(–|--)5 seeds", text("accuracy", chosen))
    assert "What do ten seeds say?" not in text("controls", chosen)
    assert "Not judged, since no run shown has the official images" in text("claims", chosen)
    totals = re.findall(r"total} & \\emph{(\d+)}", text("run_counts", chosen))
    assert sum(map(int, totals)) == len(grid("mini"))


def test_arms_with_more_seeds_are_paired_as_far_as_their_partners_go(chosen: Sources) -> None:
    records = chosen.contrasts
    plain = records["bitnet_vs_fp32", "cifar10", R18, "bitnet", "fp32"]
    assert (plain["n"], plain["unpaired"]) == (5, 0)
    norm = records["norm", "cifar10", R18, "bitnet-norm", "bitnet"]
    assert (norm["n"], norm["unpaired"], norm["seeds"]) == (2, 3, [42, 123])


def test_a_name_that_is_missing_in_print_is_an_error(study: Sources) -> None:
    frame = study.all_runs.assign(model=study.all_runs["model"].replace("resnet50", "resnet101"))
    with pytest.raises(DataError, match="model 'resnet101' has no name in print; add it to bitq/report/names.py"):
        text("contrasts", sources(frame))


def test_the_teacher_is_told_with_its_seed(study: Sources) -> None:
    assert r"$\tau$ = 4, $\alpha$ = 0.9, teacher FP32 of the same seed" in text("configuration", study)


def test_the_methods_of_the_ring_stand_by_their_bits(everything: Sources) -> None:
    body = text("ring_methods", everything)
    names = [
        "BWN",
        "IR-Net",
        "TWN, scale a channel",
        "ParetoQ, 3 levels",
        "PARQ, 4 levels",
        "APoT, 3 bits",
        "LSQ, 4 bits",
    ]
    assert all(f"{name} & " in body for name in [*names, "LSQ, 2 bits, gradient by layer"])
    assert [re.sub(r"\\emph{(.+)}", r"\1", bits) for bits in re.findall(r"\\emph{\w+(?: bits?)?}", body)] == [
        "One bit", "Ternary", "Two bits", "Three bits", "Four bits",
    ]  # fmt: skip


def test_every_figure_stands_for_any_subset() -> None:
    of = sources(table_of(grid("smoke", BITNET, SUBSETS["no float network"])), planned=153)
    drawn = {name: draw() for name, draw in figures(of).items()}
    for name, files in drawn.items():
        if "pdf" in files:
            assert files["pdf"].startswith(b"%PDF")
            assert behind(files["tex"].decode()) and rf"\label{{fig:{name}}}".encode() in files["tex"]
    assert "pdf" in drawn["accuracy"] and "pdf" not in drawn["kd_plane"]  # which needs float networks


def test_a_table_without_runs_is_no_table(study: Sources) -> None:
    assert text("stem_effect", study) == NOTHING


def test_a_column_without_a_value_is_left_out_and_named() -> None:
    body = text("accuracy", sources(table_of(grid("smoke", BITNET, SUBSETS["one seed of one set"])), planned=153))
    assert "Without a value in these runs, and left out: interval." in body
    assert r"\begin{tabular}{@{}lcccr@{}}" in body and "--" not in body.partition(r"\toprule")[2]


def test_missing_and_diverged_runs_are_counted_and_footnoted(holed: Sources) -> None:
    body = text("accuracy", holed)
    assert "runs, 1 diverged.}" in body
    assert r"\textsuperscript{a}\,n = 1: seed 123 diverged, seed 42 missing." in body
    assert body.count(r"\textsuperscript{a}") == 2  # the mark and its text
    only = pick(holed.runs, "cifar10", R18, "fp32")[456]
    assert f"${only:.2f}$" + r"\textsuperscript{a}" in body


def test_sections_say_scale_and_data_once_and_captions_the_seeds(study: Sources) -> None:
    said = "Scale smoke: procedural@640 textures in place of each data set's images, width 8 of 64, 2 epochs, "
    said += "3 seeds an arm."
    assert Numbers(study)["setting of bitnet"].text == said
    for name in ("accuracy", "configuration", "run_counts", "contrasts", "claims", "published_vs_ours"):
        assert said not in text(name, study), name
    assert "n = 3 seeds" in text("accuracy", study)


def test_a_measurement_of_another_file_is_left_out(
    everything: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = everything.of("precision").runs
    shown = runs[(runs["arm"] == "int8-ptq_minmax") & (runs["seed"] == 123)].iloc[0]
    row = {"hash": shown["hash"], "arm": shown["arm"], "backend": "torchao", "seed": 123, "weights": 0.1, "ours": 9.0}
    row |= {"multiplications": 0.1, "accuracy": 9.0, "same_predictions": 1.0, "largest_difference": 0.0}
    monkeypatch.setattr(backends, "measured_dir", lambda: tmp_path)
    for digest, there in ((shown["file_sha256"], 1), ("another", 0)):
        write_json(
            tmp_path / backends.FILE, [row | {"file_sha256": digest}, {"arm": "int4-ptq_minmax", "scale": "smoke"}]
        )
        assert len(backends.measured(Query(everything.of("precision")))) == there
        body = text("precision_backends", everything)
        assert ("seed 123, n = 1." in body) == bool(there)
        assert (body == NOTHING) != bool(there)


def test_what_files_cost_to_run_is_read_from_the_measurement(
    everything: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficiency, "measured_dir", lambda: tmp_path)
    assert "tab:" not in text("efficiency_measured", everything)
    row = {"method": "int8", "activations": "static", "engine": "fast", "file_bytes": 9_700_400, "latency_ms": 2.96}
    row |= {"images_per_second": 1234.5, "peak_bytes": None}
    rows = [row | {"model": model} for model in efficiency.NETWORKS]
    rows.append(row | {"model": "vgg11", "method": "twn"})  # not yet measured in the other network
    write_json(tmp_path / efficiency.FILE, {"machine": "x86_64 AVX512", "versions": {}, "threads": 1, "rows": rows})
    measured = [r"9\,700", "3.0", r"1\,234"]  # a column without any value is left out
    assert cells("efficiency_measured", everything) == [["int8, static activations", "fast", *measured, *measured]]
    assert "(x86\\_64 AVX512)" in text("efficiency_measured", everything)


# --- provenance and bytes ---------------------------------------------------------------------------------------------


def behind(body: str) -> str:
    found = re.search(r"\\provenance\{bitq/(?:report|studies/\w+)/[\w\\]+\.py:[\w\\]+\}\{([0-9a-f]{12})\}", body)
    assert found
    return found[1]


def test_the_digest_of_a_table_follows_its_runs_and_no_others(study: Sources) -> None:
    def changed(arm: str) -> Sources:
        frame = study.all_runs.copy()
        frame.loc[(frame["arm"] == arm) & (frame["seed"] == 42), "file_bytes"] += 1
        return replace(study, all_runs=frame, _others={})

    before = behind(text("accuracy", study))
    assert behind(text("accuracy", changed("ttq"))) != before
    assert behind(text("accuracy", changed("bitnet-keep_fc"))) == before


def test_every_table_says_where_it_comes_from(study: Sources) -> None:
    assert len({behind(body) for render in tables(study).values() if (body := render()) != NOTHING}) > 5


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder as the pipeline leaves it."""
    runs = grid("smoke", BITNET, Selection(datasets=["cifar10"], models=[R50]))
    return build_of(runs, tmp_path_factory.mktemp("build"))


def test_equal_results_give_equal_bytes_at_another_time(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = load(build, printed())
    written: list[dict[Path, bytes]] = []
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        files = [*write_tables(of, tmp_path / "tables"), *write_figures(of, tmp_path / "figures")]
        files += write_numbers(Numbers(of), asked(ROOT, of.printed), tmp_path)
        written.append({file: file.read_bytes() for file in files})
    assert written[0] == written[1] and len(written[0]) > 3 + 2 * len(tables(of)) + len(figures(of))
    assert not any(b"/CreationDate" in data or b"/Type3" in data for data in written[0].values())


# --- numbers ----------------------------------------------------------------------------------------------------------


def by_key(of: Sources) -> dict[str, Number]:
    return {number.key: number for number in Numbers(of)}


def test_numbers_equal_queries(study: Sources) -> None:
    found = Numbers(study)
    values = pick(study.runs, "cifar100", R50, "bitnet")
    loss = values - pick(study.runs, "cifar100", R50, "fp32")
    assert found["acc.bitnet.cifar100.resnet50.bitnet"].text == rf"\ensuremath{{{values.mean():.2f}}}"
    assert found["sd.bitnet.cifar100.resnet50.bitnet"].text == rf"\ensuremath{{{values.std(ddof=1):.2f}}}"
    assert found["diff.bitnet_vs_fp32.cifar100.resnet50"].values == pytest.approx((loss.mean(),))
    assert found["present runs of bitnet"].text == found["expected runs of bitnet"].text == "153"
    assert found["hours of bitnet"].values == pytest.approx((153 * 60 / 3600,))
    assert found["pub.acc.cifar10.resnet18.fp32"].text == r"\ensuremath{96.07}"
    assert found["claims holds"].text == str(study.verdicts["holds"])
    assert found["stemshare.bitnet.cifar10.resnet18"].text == r"\ensuremath{0.0155}"


def test_keys_do_not_depend_on_which_runs_are_there(study: Sources, extended: Sources, holed: Sources) -> None:
    assert by_key(study).keys() == by_key(extended).keys() == by_key(holed).keys()
    assert by_key(study)["acc.bitnet.cifar10.resnet18.ttq_legacy"].text == "--"
    assert by_key(extended)["acc.bitnet.cifar10.resnet18.ttq_legacy"].text != "--"


def test_what_texts_ask_for_is_written_and_nothing_else(study: Sources, tmp_path: Path) -> None:
    keys = asked(ROOT, study.printed)
    files = write_numbers(Numbers(study), keys, tmp_path)
    assert set(re.findall(r"\\bqset\{([^}]+)\}", files[0].read_text())) == keys
    assert set(re.findall(r"^\| `([^`]+)` \|", files[1].read_text(), re.M)) == keys
    assert {"pub.atq.memory", "level"} < keys  # of a caption, and of a template


@pytest.mark.parametrize(
    "key",
    [
        "acc.bitnet.cifar10.resnet18.nobody",
        "acc.cifar10.resnet18.fp32",
        "diff.no_family.cifar10.resnet18",
        "level.of",
        "pub.nothing",
        "verdict.nothing",
        "",
    ],
)
def test_a_key_that_nothing_makes_is_an_error(study: Sources, key: str) -> None:
    with pytest.raises(UsageError, match=f"there is no number '{key}'"):
        Numbers(study)[key]


# --- parts ------------------------------------------------------------------------------------------------------------


@given(st.text())
def test_escaped_text_means_nothing_to_latex(text: str) -> None:
    escaped = tex.escape(text)
    plain = re.sub(r"\\text\w+\{\}|\\dots\{\}|\$\\?\^?\w+\$|\$-\$|\\[&%$#_{}]|~", "", escaped)
    assert not re.search(r"[\\&%$#_{}~^]", plain)


def test_templates_escape_what_they_are_given(study: Sources) -> None:
    strange = study.claims["verdicts"][0] | {"claim": "100 % of R&D_costs"}
    of = replace(study, claims={"verdicts": [strange], "checks": []}, _others={})
    assert r"100 \% of R\&D\_costs" in text("claims", of)


def test_a_template_that_names_what_does_not_exist_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="undefined"):
        tex.render("deviations.tex.j2")


def test_counted_costs_are_those_of_the_grid() -> None:
    runs = {costs.key_of(run): run for scale in ("smoke", "mini", "full") for run in grid(scale)}
    assert runs.keys() == costs.costs().keys(), "write them anew with: python -m bitq.verbs.remeasure costs"
    small = [run for run in runs.values() if run.scale == "smoke"]
    assert counted(small) == {costs.key_of(run): costs.cost_of(run) for run in small}
    (published,) = grid("full", BITNET, Selection(["1"], ["cifar10"], [R18], seeds=[42]))
    assert costs.cost_of(published) == {"macs": 555_422_720, "parameters": 11_173_962}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="TeX is not installed")
def test_every_table_and_figure_fits_the_page(everything: Sources, tmp_path: Path) -> None:
    names = []
    for name, render in tables(everything).items():
        (tmp_path / f"{name}.tex").write_text(render())
        names.append(name)
    (tmp_path / "figures").mkdir()
    for name, draw in figures(everything).items():
        files = draw()
        if "pdf" in files:
            (tmp_path / "figures" / f"{name}.pdf").write_bytes(files["pdf"])
        (tmp_path / f"figure-{name}.tex").write_bytes(files["tex"])
        names.append(f"figure-{name}")
    (tmp_path / "numbers.tex").write_text(tex_of(Numbers(everything)))
    body = "".join(rf"\input{{{name}}}\clearpage" for name in names)
    preamble = r"\documentclass[11pt]{article}\usepackage{bitq}\newcommand{\paperVersion}{0}\input{numbers}"
    (tmp_path / "all.tex").write_text(preamble + rf"\begin{{document}}{body}\end{{document}}")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TEXINPUTS": f"{ROOT / 'paper'}:"}
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    too_wide = re.findall(r"Overfull \\[hv]box \(([\d.]+)pt", done.stdout) + re.findall(r"too large.*", done.stdout)
    assert [points for points in too_wide if not points[0].isdigit() or float(points) > 5] == []


def test_a_query_remembers_only_what_it_was_asked(study: Sources) -> None:
    query = Query(study)
    query.score("cifar10", R18, "bitnet")
    assert query.counts() == "3 runs, none diverged." and query.seeds() == "3"
