"""A study is added in five files, as docs/add-a-study.md says: the example there is the one in tests/example."""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import bitq.studies
from bitq.grid.paper import config, paper_runs
from bitq.grid.select import Selection, grid
from bitq.report import paper
from bitq.report.figures import figures, write_figures
from bitq.report.numberlint import asked, keys
from bitq.report.numbers import Numbers, write_numbers
from bitq.report.sources import Sources, load
from bitq.report.tables import tables, write_tables
from bitq.studies.catalogue import printed, words
from tests.build import build_of

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "example"
GUIDE = (ROOT / "docs" / "add-a-study.md").read_text(encoding="utf-8")
SECTION = (EXAMPLE / "study-granularity.tex").read_text(encoding="utf-8")
# File of the example → the place that the guide names.
FILES = {
    "granularity.yaml": "config/studies/granularity.yaml",
    "granularity/contrasts.py": "bitq/studies/granularity/contrasts.py",
    "granularity/printed.py": "bitq/studies/granularity/printed.py",
    "study-granularity.tex": "paper/sections/study-granularity.tex",
}


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout with the example in its places."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("config", "paper"):
        shutil.copytree(ROOT / folder, root / folder)
    for name, place in FILES.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXAMPLE / name, root / place)
    chosen = root / "config" / "paper.yaml"
    text = chosen.read_text(encoding="utf-8")
    shown = re.sub(r"^( +)precision: \w+$", r"\g<0>\n\1granularity: smoke", text, flags=re.M)
    chosen.write_text(shown, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITQ_CONFIG", str(root / "config"))
        patch.setattr(bitq.studies, "__path__", [*bitq.studies.__path__, str(root / "bitq" / "studies")])
        yield root
    for name in [name for name in sys.modules if name.startswith("bitq.studies.granularity")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def build(added: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder of the example, and of a part of another study."""
    some = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "bitnet"])
    runs = [*some.of(grid("smoke", ["bitnet"])), *grid("smoke", ["granularity"])]
    return build_of(runs, tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def sources(build: Path) -> Sources:
    return load(build, printed())


def test_the_guide_shows_the_files_as_they_stand() -> None:
    for name in FILES:
        assert (EXAMPLE / name).read_text(encoding="utf-8") in GUIDE, name
    assert set(FILES.values()) | {"config/paper.yaml"} == set(re.findall(r"^\d\. `([^`]+)`", GUIDE, re.M))


def test_the_paper_selects_the_study_and_finds_what_it_prints(added: Path) -> None:
    assert "granularity" in config().studies and "granularity" in {run.study for run in paper_runs()}
    assert "granularity" in {each.study for each in printed()} and words()["fine"] == "scale a channel"


def test_its_tables_and_figures_are_made(sources: Sources) -> None:
    body = tables(sources)["granularity_scales"]()
    assert all(name in body for name in ("FP32 &", "TWN &", "TWN, scale a channel &", "n = 3 seeds", "9 runs"))
    assert figures(sources)["granularity_seeds"]()["pdf"].startswith(b"%PDF")


def test_it_stands_in_the_tables_of_all_studies(sources: Sources) -> None:
    for name in ("run_counts", "configuration", "deviations"):
        assert r"\emph{granularity" in tables(sources)[name](), name
    body = tables(sources)["contrasts"]()
    assert r"\textbf{granularity}" in body and "TWN: scale a channel" not in body
    assert "TWN, scale a channel $-$ TWN &" in body and "What does a scale for each channel gain" in body


def test_its_numbers_exist_with_and_without_its_results(sources: Sources) -> None:
    without = sources.all_runs[sources.all_runs["study"] != "granularity"]
    stats = sources.stats | {kind: [] for kind in ("cells", "families", "recoveries")}
    absent = replace(sources, all_runs=without, stats=stats, _others={})
    wanted = [key for _, key in keys(SECTION)]
    assert len(wanted) == 2
    for key in wanted:
        assert Numbers(sources)[key].text != "--" and Numbers(absent)[key].text == "--"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("latexmk"), reason="TeX is not installed")
def test_the_paper_is_built_with_it(added: Path, build: Path, sources: Sources) -> None:
    write_tables(sources, build / "paper" / "tables")
    write_figures(sources, build / "paper" / "figures")
    write_numbers(Numbers(sources), asked(added, sources.printed), build / "paper")
    assert paper.build(sources, added, build).exists()
    assert "study-granularity" in (build / "paper" / "tex" / "studies.tex").read_text()
