"""A fraud whose files all fit each other is caught by evaluating its packed file again."""

import json
import shutil
from pathlib import Path

import pytest

from bitq.errors import DataError, UsageError
from bitq.io import read_json, sha256, write_atomic
from bitq.machine import fingerprint, machine
from bitq.measure import remeasure as module
from bitq.measure.remeasure import remeasure
from bitq.results.aggregate import aggregate
from bitq.results.columns import read_census
from bitq.results.folder import MODEL, folder_of, read, text
from bitq.results.manifest import NAME, write_manifest
from bitq.results.predictions import PREDICTIONS, read_labels
from bitq.results.remeasured import add_remeasured, read_remeasured
from bitq.results.verify import verify
from bitq.run import Run
from bitq.verbs.results import count_of, measure_again
from tests.support import session, small_run

RUNS = (small_run("ttq"), small_run("fp32"))
HERE = fingerprint(machine("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trained")
    assert session(place).train(RUNS) == 0
    write_manifest(place / "results", RUNS)
    return place / "results"


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "results"))


def commit_fraud(run: Run, root: Path, gained: int) -> None:
    """Let a run classify more images correctly, and make every file, seal and manifest agree."""
    folder, found = folder_of(run, root), read(folder_of(run, root))
    packed, predictions = found.results.packed, bytearray(found.predictions or b"")
    assert packed
    labels = read_labels(root, packed.labels_sha256)
    wrong = [place for place, (one, other) in enumerate(zip(predictions, labels, strict=True)) if one != other]
    for place in wrong[:gained]:
        predictions[place] = labels[place]
    correct = packed.correct + gained
    better = {"correct": correct, "accuracy": 100 * correct / packed.images}
    better |= {"predictions_sha256": sha256(bytes(predictions))}
    results = found.results.model_copy(
        update={"packed": packed.model_copy(update=better), "accuracy": better["accuracy"]}
    )
    write_atomic(folder / PREDICTIONS, bytes(predictions))
    write_atomic(folder / "results.json", text(results.sealed()))
    (root / NAME).unlink()
    write_manifest(root, RUNS)


def test_honest_results_are_confirmed_and_counted(root: Path) -> None:
    before = verify(root, RUNS)
    assert (before.packed, before.remeasured) == (2, 0)
    measure_again(root, RUNS, 1, 0, "cpu")
    assert verify(root, RUNS).remeasured == 1
    measure_again(root, RUNS, None, None, "cpu")
    after = verify(root, RUNS)
    assert after.remeasured == 2 and after.root == before.root


@pytest.mark.parametrize("gained", [1, 5])
def test_a_consistent_fraud_passes_verification_but_not_the_measurement(gained: int, root: Path) -> None:
    measure_again(root, RUNS, None, None, "cpu")
    commit_fraud(RUNS[0], root, gained)
    verdict = verify(root, RUNS)
    assert verdict.ok and verdict.manifest == verdict.root
    assert verdict.remeasured == 1  # what was confirmed before is another result
    with pytest.raises(DataError, match="1 of 2 packed files.*contradict") as refused:
        measure_again(root, RUNS, None, 7, "cpu")
    said = str(refused.value)
    assert RUNS[0].path in said and RUNS[1].path not in said and f"{gained} of " in said and "--draw 7" in said
    assert verify(root, RUNS).remeasured == 1


def test_another_kind_of_machine_may_differ_in_few_predictions_only(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read(folder_of(RUNS[0], root)).results.packed.images  # type: ignore[union-attr]
    monkeypatch.setattr(module, "fingerprint", lambda _: "another")
    monkeypatch.setattr(module, "TOLERATED", 1.5 / images)
    commit_fraud(RUNS[0], root, 1)
    assert not any(each.differences for each in remeasure(root, RUNS, None, 0, "cpu"))
    commit_fraud(RUNS[0], root, 2)
    assert [bool(each.differences) for each in remeasure(root, RUNS, None, 0, "cpu")].count(True) == 1


def test_the_file_of_another_run_confirms_nothing(root: Path) -> None:
    one, other = (folder_of(run, root) for run in RUNS)
    shutil.copy(other / MODEL, one / MODEL)
    results = read_json(one / "results.json")
    results["packed"]["sha256"] = read(other).results.packed.sha256  # type: ignore[union-attr]
    del results["seal"]
    (one / "results.json").write_text(json.dumps(results))
    found = {each.path: each.differences for each in remeasure(root, RUNS, None, 0, "cpu")}
    assert found[RUNS[0].path] and not found[RUNS[1].path]


def test_the_seed_decides_which_files_are_evaluated(root: Path) -> None:
    drawn = [tuple(each.path for each in remeasure(root, RUNS, 1, seed, "cpu")) for seed in (1, 1, *range(8))]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 2


def test_a_run_that_is_being_finished_is_not_drawn(root: Path) -> None:
    (folder_of(RUNS[0], root) / "results.json").unlink()
    assert [each.path for each in remeasure(root, RUNS, None, 0, "cpu")] == [RUNS[1].path]


def test_without_packed_files_nothing_is_claimed(root: Path) -> None:
    for run in RUNS:
        (folder_of(run, root) / MODEL).unlink()
    with pytest.raises(UsageError, match="holds no packed file"):
        measure_again(root, RUNS, None, None, "cpu")
    assert not read_remeasured(root).runs


def test_a_damaged_record_is_refused(root: Path) -> None:
    add_remeasured(root, {RUNS[0].path: "0" * 64}, HERE)
    assert verify(root, RUNS).remeasured == 0
    (root / "remeasured.json").write_text("{}")
    with pytest.raises(DataError, match="remeasured.json"):
        verify(root, RUNS)


@pytest.mark.parametrize("text", ["0", "-1", "some", "1.5", ""])
def test_how_many_is_a_number_or_all(text: str) -> None:
    assert count_of("all") is None and count_of("20") == 20
    with pytest.raises(UsageError, match="allowed: all, or a number"):
        count_of(text)


def test_the_paper_knows_how_many_were_evaluated_again(root: Path, tmp_path: Path) -> None:
    measure_again(root, RUNS, 1, 0, "cpu")
    census = aggregate(root, RUNS, tmp_path / "build")
    assert (census.packed, census.remeasured) == (2, 1) and read_census(tmp_path / "build" / "runs.parquet") == census
