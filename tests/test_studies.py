"""Several studies in one paper: each is queried by itself, also where its arms have the names of another's."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from bitq.errors import UsageError
from bitq.grid.select import Selection, grid
from bitq.report.figures import Figure, write_figures
from bitq.report.numbers import Numbers
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.sources import Sources, load
from bitq.report.tables import tables, write_tables
from bitq.report.values import Number, count
from bitq.studies.catalogue import printed
from tests.build import build_of

ROOT = Path(__file__).parents[1]
PLACE = ("cifar10", "resnet18", "fp32")
OTHER = """
study: other
title: Networks that another study calls by the same names
runs: 6
distilled: 0
datasets: {cifar10: {}}
deviations: [{what: the rule, original: loose, here: strict, why: it is tested}]
phases:
  - phase: only
    title: All there is
    runs: 6
    blocks:
      - {models: [resnet18], datasets: [cifar10], seeds: [1, 2, 3], arms: [{method: fp32}, {method: twn}]}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration with a further study."""
    folder = Path(shutil.copytree(ROOT / "config", tmp_path_factory.mktemp("other") / "config"))
    (folder / "studies" / "other.yaml").write_text(OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITQ_CONFIG", str(folder))
        yield folder


@pytest.fixture(scope="module")
def build(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder of both studies."""
    chosen = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "bitnet"])
    runs = [*chosen.of(grid("smoke", ["bitnet"])), *grid("smoke", ["other"])]
    return build_of(runs, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def both(build: Path) -> Sources:
    return load(build, printed())


@pytest.fixture(scope="module")
def without(both: Sources) -> Sources:
    """The same, but no run of the further study came."""
    return replace(both, all_runs=both.all_runs[both.all_runs["study"] == "bitnet"], _others={})


def test_one_name_in_two_studies_is_two_arms(both: Sources) -> None:
    runs = both.all_runs[both.all_runs["arm"] == "fp32"]
    for study in ("bitnet", "other"):
        score = Query(both.of(study)).score(*PLACE)
        assert score and score.mean == pytest.approx(runs.loc[runs["study"] == study, "accuracy"].mean())
        assert not score.missing


def test_families_are_of_one_study(both: Sources) -> None:
    assert both.of("other").families == {} and both.families["bitnet_vs_fp32"]["contrasts"]


def test_every_study_has_its_scale_and_its_plan(both: Sources) -> None:
    census = both.census.model_copy(update={"scales": {"bitnet": ("smoke",), "other": ("mini",)}})
    mixed = replace(both, census=census, _others={})
    assert (mixed.scale, mixed.of("other").scale, mixed.of("other").of("bitnet").scale) == ("smoke", "mini", "smoke")
    assert len(mixed.of("other").planned) == 6 and mixed.of("other").runs.empty


def test_a_query_remembers_what_it_asked_of_another_study(both: Sources) -> None:
    query = Query(both)
    query.score(*PLACE)
    query.of("other").score(*PLACE)
    assert query.counts().startswith("6 runs,")


def test_curves_and_layers_are_those_of_the_arm(both: Sources) -> None:
    query = Query(both.of("other"))
    curves, layers = query.curves("cifar10", "resnet18", "twn"), query.layers("cifar10", "resnet18", "twn")
    assert set(curves["id"]) == set(layers["id"]) == {f"other/cifar10/resnet18/twn/s{seed}" for seed in (1, 2, 3)}
    assert list(curves["epoch"]) == [0, 1] * 3 and set(curves["seed"]) == set(layers["seed"]) == {1, 2, 3}
    assert curves["zeros"].between(0, 1).all() and list(layers["histogram"].iloc[0]) == [1, 2, 3]
    assert query.layers(*PLACE).empty


def test_what_a_study_does_not_know_is_an_error(both: Sources) -> None:
    query = Query(both.of("other"))
    for place, unknown in (
        (("cifar11", "resnet18", "fp32"), "data set of study 'other': 'cifar11'; allowed: cifar10"),
        (("cifar10", "resnet", "fp32"), "network of study 'other': 'resnet'; allowed: resnet18"),
        (("cifar10", "resnet18", "ttq"), "arm of study 'other': 'ttq'; allowed: fp32, twn"),
    ):
        with pytest.raises(UsageError, match=f"unknown {unknown}"):
            query.score(*place)
    with pytest.raises(UsageError, match="unknown family of contrasts of study 'bitnet': 'bitnet_vs_ring'"):
        list(Query(both).family("bitnet_vs_ring"))
    with pytest.raises(UsageError, match="unknown contrast of family 'kd': 'fp32 - bitnet'"):
        Query(both).contrast("kd", "cifar10", "resnet18", "fp32", "bitnet")


def test_tables_of_the_protocol_cover_all_studies(both: Sources) -> None:
    for name in ("configuration", "run_counts", "deviations"):
        body = tables(both)[name]()
        assert r"\emph{bitnet" in body and r"\emph{other" in body, name
    assert "it is tested" in body


def drawn(query: Query, canvas: Canvas) -> None:
    canvas.subplots().plot([1.0])


def own(query: Query) -> Iterator[Number]:
    yield count("other.runs", len(query.everything()))


OTHERS = Printed(study="other", figures=(Figure("other", drawn, 1.0, "Nothing."),), numbers=own)


def test_what_every_study_prints_is_written_with_and_without_its_results(
    both: Sources, without: Sources, tmp_path: Path
) -> None:
    for place, sources in (("both", both), ("without", without)):
        of = replace(sources, printed=(*printed(), OTHERS), _others={})
        written = [*write_tables(of, tmp_path / place), *write_figures(of, tmp_path / place)]
        assert {"other.pdf", "other.tex", "deviations.tex", "all-contrasts.csv"} < {path.name for path in written}


def test_numbers_of_every_arm_and_a_study_s_own(both: Sources, without: Sources) -> None:
    found = Numbers(replace(both, printed=(*printed(), OTHERS), _others={}))
    accuracy: pd.Series[float] = both.of("other").runs.query("arm == 'twn'")["accuracy"]
    assert found["acc.other.cifar10.resnet18.twn"].values == pytest.approx((accuracy.mean(),))
    assert found["bytes.other.cifar10.resnet18.twn"].text == r"1\,000"
    assert found["other.runs"].text == "6"
    absent = Numbers(replace(without, printed=(*printed(), OTHERS), _others={}))
    assert absent["bytes.other.cifar10.resnet18.twn"].text == "--" and absent["other.runs"].text == "0"
