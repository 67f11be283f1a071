"""Two sets of results are told to be identical, compatible or different, cell by cell."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bitq.errors import DataError, UsageError
from bitq.grid.select import Selection, grid
from bitq.results.folder import folder_of
from bitq.run import Run
from bitq.stats.compare import Comparison, compare
from bitq.verbs.compare import describe
from tests import synthetic
from tests.synthetic import pretend, pretend_all

RUNS = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "ttq"]).of(grid("smoke", ["bitnet"]))
ARM = [run for run in RUNS if run.arm == "ttq"]
CELL = "bitnet/cifar10/resnet18/ttq"


@pytest.fixture
def a(tmp_path: Path) -> Path:
    pretend_all(RUNS, tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture
def b(a: Path) -> Path:
    return Path(shutil.copytree(a, a.with_name("b")))


def retrained(runs: list[Run], root: Path, correct: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these runs, by seed, classify other numbers of images correctly."""
    plain = synthetic.correct_of
    monkeypatch.setattr(synthetic, "correct_of", lambda run: correct.get(run.seed, plain(run)))
    for run in runs:
        shutil.rmtree(folder_of(run, root))
        pretend(run, root)
    monkeypatch.undo()


def answers(found: Comparison) -> dict[str, str]:
    return {cell.cell: cell.answer for cell in found.cells}


def test_a_copy_is_identical(a: Path, b: Path) -> None:
    found = compare(str(a), str(b))
    assert set(answers(found).values()) == {"identical"} and not found.only_a and not found.only_b
    assert sum(cell.equal for cell in found.cells) == len(RUNS)


@pytest.mark.parametrize(("gained", "answer"), [((1, -1, 0), "compatible"), ((150, 150, 150), "different")])
def test_seeds_decide_what_is_compatible(
    gained: tuple[int, ...], answer: str, a: Path, b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dict(zip((run.seed for run in ARM), (200, 210, 220), strict=True))
    second = {seed: count + more for (seed, count), more in zip(first.items(), gained, strict=True)}
    retrained(ARM, a, first, monkeypatch)
    retrained(ARM, b, second, monkeypatch)
    found = compare(str(a), str(b))
    assert answers(found)[CELL] == answer and set(answers(found).values()) == {"identical", answer}
    (cell,) = (cell for cell in found.cells if cell.cell == CELL)
    assert cell.test == "seeds" and cell.p is not None and (cell.p < 0.05) == (answer == "different")


@pytest.mark.parametrize(("more", "answer"), [(3, "compatible"), (60, "different")])
def test_a_single_run_is_judged_by_its_test_images(
    more: int, answer: str, a: Path, b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, correct in ((a, 200), (b, 200 + more)):
        for run in ARM[1:]:
            shutil.rmtree(folder_of(run, root))
        retrained(ARM[:1], root, {ARM[0].seed: correct}, monkeypatch)
    found = compare(str(a / "smoke"), str(b / "smoke"))
    assert answers(found)[CELL] == answer
    assert "* of the images of a single run" in describe(found)


def test_scales_are_compared_by_arm(a: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITQ_RESULTS", str(a))
    other = Selection(datasets=["cifar10"], models=["resnet18"], methods=["ttq"]).of(grid("mini", ["bitnet"]))
    pretend_all(other, a)
    found = compare("smoke", "mini")
    assert CELL in answers(found) and "identical" not in answers(found).values() and found.only_a


def test_what_only_one_side_has_is_told(a: Path, b: Path) -> None:
    for run in ARM:
        shutil.rmtree(folder_of(run, b))
    found = compare(str(a), str(b))
    assert found.only_a == (CELL,) and CELL not in answers(found)
    assert f"only in {a}: 1 cells, {CELL} for one" in describe(found)


def test_what_cannot_be_compared_is_refused(a: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder nor a scale"):
        compare(str(a), "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no finished run"):
        compare(str(a), str(tmp_path / "empty"))
    pretend_all(grid("smoke", ["atq"])[:1], tmp_path / "other")
    with pytest.raises(DataError, match="in common"):
        compare(str(a), str(tmp_path / "other"))


def test_a_run_outside_of_results_is_compared_as_far_as_that_goes(
    a: Path, b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained(ARM[:1], b, {ARM[0].seed: 490}, monkeypatch)
    for root in (a, b):
        shutil.copytree(folder_of(ARM[0], root), tmp_path / f"only-{root.name}")
    assert answers(compare(str(tmp_path / "only-a"), str(a))) == {CELL: "identical"}
    with pytest.raises(DataError, match="does not lie in a folder of results"):
        compare(str(tmp_path / "only-a"), str(tmp_path / "only-b"))


def test_a_damaged_run_is_named(a: Path, b: Path) -> None:
    (folder_of(ARM[0], b) / "history.json").write_text("{}")
    with pytest.raises(DataError, match="history"):
        compare(str(a), str(b))


def test_the_exit_code_is_that_of_diff(a: Path, b: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "bitq.cli", "compare", str(a), str(b)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    retrained(ARM, b, {run.seed: 490 + number for number, run in enumerate(ARM)}, monkeypatch)
    retrained(ARM, a, {run.seed: 10 + number for number, run in enumerate(ARM)}, monkeypatch)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 1 and re.search(r"bitq: 1 of \d+ cells of .* are different", done.stderr)
    assert Comparison.model_validate(json.loads(done.stdout)).count("different") == 1
