"""The prediction of every test image is stored, checked, and enough to say without data what a run got right."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitq.data.registry import variant
from bitq.data.store import open_set
from bitq.errors import DataError, UsageError
from bitq.grid.select import Selection, grid
from bitq.io import canonical_json, sha256, write_json
from bitq.measure.packed_file import evaluate_file
from bitq.results.aggregate import aggregate
from bitq.results.folder import MODEL, finished, folder_of, read
from bitq.results.per_image import correct_of, predictions_of
from bitq.results.predictions import PREDICTIONS, count_equal, labels_name, outside, read_labels, store_labels
from bitq.results.verify import describe, require, verify
from bitq.run import Run
from tests.support import STEPS, session, small_run, train_until_killed
from tests.synthetic import IMAGES, labels_of, pretend, pretend_all

RUNS = Selection(datasets=["cifar10", "cifar100"], methods=["fp32", "ttq"], seeds=[42]).of(grid("smoke", ["bitnet"]))
BYTES = st.binary(max_size=300)


def correct_in_results(folder: Path) -> int:
    packed = read(folder).results.packed
    assert packed
    return packed.correct


# --- of a run that really trained -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("trained")
    assert session(root).train([small_run("bitnet")]) == 0
    return folder_of(small_run("bitnet"), root / "results")


def test_stored_predictions_are_those_of_the_packed_file(trained: Path, tmp_path: Path) -> None:
    found = evaluate_file(trained / MODEL, None, None, "cpu", predictions=tmp_path / "out.bin")
    stored = (trained / PREDICTIONS).read_bytes()
    assert stored == (tmp_path / "out.bin").read_bytes()
    labels = open_set(variant("cifar10", "procedural@160")).y_test
    assert int((np.frombuffer(stored, np.uint8) == labels).sum()) == found["correct"] == correct_in_results(trained)
    assert len(set(stored)) > 1


def test_what_was_right_is_known_without_the_data_set(trained: Path) -> None:
    images, root = open_set(variant("cifar10", "procedural@160")), trained.parents[5]
    right = correct_of(trained, root)
    assert right.dtype == np.bool_ and right.tolist() == (predictions_of(trained) == images.y_test).tolist()
    assert 0 < right.sum() == correct_in_results(trained) < len(right)
    assert [path.name for path in (root / "labels").iterdir()] == [f"{sha256(images.y_test.tobytes())}.bin"]


def test_predictions_take_a_byte_an_image(trained: Path) -> None:
    packed = read(trained).results.packed
    assert packed and (trained / PREDICTIONS).stat().st_size == packed.images
    assert max(found.test for found in map(variant, ("cifar10", "cifar100", "tiny_imagenet", "mnist"))) <= 10_000


def test_predictions_of_a_killed_run_are_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    run = small_run("bitnet")
    assert os.WTERMSIG(train_until_killed(run, tmp_path, STEPS + 2)) == signal.SIGKILL
    assert not folder_of(run, tmp_path / "results").exists()
    assert session(tmp_path).train([run]) == 0
    assert (folder_of(run, tmp_path / "results") / PREDICTIONS).read_bytes() == (trained / PREDICTIONS).read_bytes()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_run_without_its_predictions_is_not_finished(
    trained: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    run = small_run("bitnet")
    copy = Path(shutil.copytree(trained, folder_of(run, tmp_path)))
    assert finished(run, tmp_path)
    damage(copy / PREDICTIONS)
    with pytest.raises(DataError, match=rf"{PREDICTIONS} is (missing|damaged).*train the run again"):
        finished(run, tmp_path)


def test_a_diverged_run_has_no_predictions(tmp_path: Path) -> None:
    run = small_run("bitnet", optimizer="adamw", lr=99.0, precision="fp32", weight_decay=1e36)
    assert session(tmp_path).train([run]) == 0
    folder = folder_of(run, tmp_path / "results")
    assert not (folder / PREDICTIONS).exists() and not (tmp_path / "results" / "labels").exists()
    for reader in (predictions_of, lambda folder: correct_of(folder, tmp_path / "results")):
        with pytest.raises(DataError, match="diverged and ships nothing"):
            reader(folder)


# --- files ------------------------------------------------------------------------------------------------------------


@given(labels=BYTES)
def test_labels_are_read_as_they_were_stored(tmp_path_factory: pytest.TempPathFactory, labels: bytes) -> None:
    root = tmp_path_factory.mktemp("labels")
    digest = store_labels(root, labels)
    assert read_labels(root, digest) == labels and digest == sha256(labels)


def test_labels_are_written_once_and_mended(tmp_path: Path) -> None:
    path = tmp_path / labels_name(store_labels(tmp_path, b"\x01\x02"))
    before = path.stat().st_mtime_ns
    store_labels(tmp_path, b"\x01\x02")
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"\x01")
    with pytest.raises(DataError, match="was changed after it was written"):
        read_labels(tmp_path, path.stem)
    store_labels(tmp_path, b"\x01\x02")
    assert read_labels(tmp_path, path.stem) == b"\x01\x02"


@given(pairs=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=300))
def test_counting_equal_bytes_counts_equal_bytes(pairs: list[tuple[int, int]]) -> None:
    one, other = bytes(a for a, _ in pairs), bytes(b for _, b in pairs)
    assert count_equal(one, other) == sum(a == b for a, b in pairs)


@given(predictions=BYTES, classes=st.integers(2, 300))
def test_predictions_outside_are_those_of_no_class(predictions: bytes, classes: int) -> None:
    assert outside(predictions, classes) == bytes(value for value in predictions if value >= classes)


def test_strings_of_other_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="1 bytes cannot be compared with 2"):
        count_equal(b"a", b"ab")


def test_more_classes_than_a_byte_holds_are_refused() -> None:
    import torch

    from bitq.deploy.evaluate import one_byte_each

    with pytest.raises(UsageError, match="class 256 was given.*allowed: 0 to 255"):
        one_byte_each(torch.tensor([3, 256]))


# --- verify -----------------------------------------------------------------------------------------------------------


def forge(folder: Path, predictions: bytes, **packed: object) -> None:
    """Other predictions, with results.json sealed again around them, as one would who knows how."""
    (folder / PREDICTIONS).write_bytes(predictions)
    record = json.loads((folder / "results.json").read_text())
    record["packed"] |= {"predictions_sha256": sha256(predictions)} | packed
    del record["seal"]
    write_json(folder / "results.json", record | {"seal": sha256(canonical_json(record))})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda right: right[:-1], f"holds {IMAGES - 1} predictions, but results.json counts {IMAGES} images"),
        (lambda right: right + b"\0", f"holds {IMAGES + 1} predictions"),
        (lambda right: b"\x0a" + right[1:], "names class 10, and the 10 classes end at 9"),
        (lambda right: bytes([(right[0] + 1) % 10]) + right[1:], "images right, but results.json counts"),
    ],
)
def test_predictions_that_cannot_be_are_found_without_a_manifest(
    tmp_path: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    run = next(run for run in RUNS if run.data.classes == 10)
    pretend(run, tmp_path)
    folder = folder_of(run, tmp_path)
    forge(folder, change((folder / PREDICTIONS).read_bytes()))
    (problem,) = verify(tmp_path, [run]).problems
    assert (problem.kind, problem.path) == ("damaged", run.path) and sentence in problem.text


@pytest.mark.parametrize("position", [0, IMAGES // 2, IMAGES - 1])
def test_one_changed_byte_is_found(tmp_path: Path, position: int) -> None:
    pretend_all(RUNS, tmp_path)
    require(verify(tmp_path, RUNS))
    path = folder_of(RUNS[0], tmp_path) / PREDICTIONS
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    (problem,) = verify(tmp_path, RUNS).problems
    assert (problem.path, problem.kind) == (RUNS[0].path, "damaged") and PREDICTIONS in problem.text


def test_results_of_before_predictions_were_stored_say_so_in_a_sentence(tmp_path: Path) -> None:
    run = RUNS[0]
    pretend(run, tmp_path)
    folder = folder_of(run, tmp_path)
    record = json.loads((folder / "results.json").read_text()) | {"schema_version": 1}
    del record["packed"]["predictions_sha256"], record["packed"]["labels_sha256"]
    write_json(folder / "results.json", record)
    (folder / PREDICTIONS).unlink()
    (problem,) = verify(tmp_path, [run]).problems
    assert problem.text == (
        "results.json: schema_version 1 was given, which stores no prediction of each test image; allowed: 2. "
        "Delete the run's folder and train it again."
    )
    with pytest.raises(DataError, match="stores no prediction of each test image"):
        aggregate(tmp_path, [run], tmp_path / "build")


def test_unfinished_folders_and_writes_are_listed_and_no_error(tmp_path: Path) -> None:
    pretend_all(RUNS, tmp_path)
    cut_short = folder_of(RUNS[0], tmp_path) / ".results.json.4711-0a1b2c3d"
    cut_short.write_bytes(b"{")
    begun = folder_of(RUNS[0].model_copy(update={"seed": 7}), tmp_path)
    begun.mkdir()
    (begun / MODEL).write_bytes(b"x")
    verdict = verify(tmp_path, RUNS)
    require(verdict)
    assert verdict.unfinished == tuple(
        sorted((cut_short.relative_to(tmp_path).as_posix(), begun.relative_to(tmp_path).as_posix()))
    )
    assert all(f"unfinished  {path}" in describe(verdict) for path in verdict.unfinished)


def test_a_begun_run_of_the_grid_is_missing_and_begun(tmp_path: Path) -> None:
    pretend_all(RUNS, tmp_path)
    (folder_of(RUNS[0], tmp_path) / "results.json").unlink()
    verdict = verify(tmp_path, RUNS, allow_missing=True)
    require(verdict)
    assert verdict.problems[0].text.startswith("begun, not finished; bitq train")
    assert verdict.unfinished == (RUNS[0].path,)


def test_files_outside_the_selection_are_left_alone(tmp_path: Path) -> None:
    pretend_all(RUNS, tmp_path)
    for place in ("notes.txt", "mini/notes.txt", "mini/bitnet/notes.txt", "smoke/ring/notes.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("x")
    require(verify(tmp_path, RUNS))


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_table_says_which_images_every_run_got_right(tmp_path: Path) -> None:
    diverged, *others = RUNS
    pretend(diverged, tmp_path, diverged_in=1)
    pretend_all(others, tmp_path)
    aggregate(tmp_path, RUNS, tmp_path / "build")
    rows = {row["hash"]: row for row in pq.read_table(tmp_path / "build" / "predictions.parquet").to_pylist()}
    assert rows.keys() == {run.hash for run in others}
    for run in others:
        row = rows[run.hash]
        assert row["id"] == run.id and row["labels"] == labels_of(run)
        assert row["predictions"] == predictions_of(folder_of(run, tmp_path)).tobytes()
        assert count_equal(row["predictions"], row["labels"]) == correct_in_results(folder_of(run, tmp_path))


def damaged_predictions(run: Run, root: Path) -> None:
    (folder_of(run, root) / PREDICTIONS).write_bytes(b"\0")


def missing_labels(run: Run, root: Path) -> None:
    (root / labels_name(sha256(labels_of(run)))).unlink()


@pytest.mark.parametrize("damage", [damaged_predictions, missing_labels])
def test_damaged_predictions_give_no_table(tmp_path: Path, damage: Callable[[Run, Path], None]) -> None:
    pretend(RUNS[0], tmp_path)
    aggregate(tmp_path, RUNS[:1], tmp_path / "build")
    damage(RUNS[0], tmp_path)
    with pytest.raises(DataError, match=r"\.bin"):
        aggregate(tmp_path, RUNS[:1], tmp_path / "build")
    assert not (tmp_path / "build" / "predictions.parquet").exists()


def test_reading_predictions_loads_no_torch() -> None:
    code = "import bitq.results.per_image, sys; print({'torch', 'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
