"""What survives kills, damage and full disks is proven by a rehearsal that could fail."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitq.chaos import disk
from bitq.chaos.damage import DAMAGES
from bitq.chaos.grid import Chaos, is_refused, some_runs
from bitq.chaos.plan import Plan
from bitq.chaos.processes import Process, children_of, process, wait_for_end
from bitq.errors import Bug, DataError, StorageError, UsageError
from bitq.io import write_atomic
from bitq.results.folder import folder_of
from bitq.results.rehearsal import Rehearsal, describe, require
from bitq.train import checkpoint
from tests.support import STEPS, small_run, train_until_killed
from tests.synthetic import pretend

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def plan(folder: Path, **changes: Any) -> Plan:
    runs = tuple(run.id for run in some_runs("smoke", 2, 0))
    plain = {"scale": "smoke", "kills": 1, "seed": 0, "jobs": 2, "every": 1.0, "has_disk": False}
    return Plan(runs=runs, folder=str(folder), out=str(folder / "chaos.json"), **(plain | changes))


def rehearsal(**changes: Any) -> Rehearsal:
    """One in which nothing went wrong."""
    counts = {
        "runs": 2,
        "rounds": 1,
        "starts": 3,
        "filled": 1,
        "refused": 1,
        "detected": 2,
        "told": 1,
        "bugs": 0,
        "lost": 0,
    }
    plain = {
        "scale": "smoke",
        "seed": 0,
        "jobs": 2,
        "kills": {"worker": 1},
        "damaged": {"flipped": 2},
        "studies": ("atq",),
    }
    about = {"studies": ("atq",), "left_behind": 0, "seconds": 1.0, "machine": "here", "code_sha256": "0" * 64}
    return Rehearsal(**(plain | counts | about | changes))


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("seed", range(5))
def test_each_damage_of_a_checkpoint_is_detected(kind: str, seed: int, checkpoints: Path, tmp_path: Path) -> None:
    path = tmp_path / checkpoint.CURRENT
    content = (checkpoints / checkpoint.CURRENT).read_bytes()
    path.write_bytes(content)
    DAMAGES[kind](path, random.Random(seed))
    assert path.read_bytes() != content
    with pytest.raises(DataError, match="No whole checkpoint is left"):
        checkpoint.load(tmp_path, small_run().hash)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    train_until_killed(small_run(), root, STEPS + 2)
    return root / "state" / small_run().hash


def test_a_process_is_known_by_its_start_too() -> None:
    child = subprocess.Popen(SLEEP)
    found = process(child.pid)
    assert found.is_running and found in children_of(process(os.getpid()))
    assert not Process(child.pid, found.started - 1).send(signal.SIGKILL) and found.is_running
    assert found.send(signal.SIGKILL) and wait_for_end([found], 10)
    child.wait()
    assert not found.is_running and not found.send(signal.SIGKILL)


def test_a_full_disk_is_one_that_refuses_writes(tmp_path: Path) -> None:
    words = disk.private_mounts()
    if words is None:
        pytest.skip("this user may not mount file systems, not even for itself")
    code = (
        "import pathlib, random, sys; from bitq.chaos import disk; from bitq.io import write_atomic\n"
        "folder = pathlib.Path(sys.argv[1]); disk.mount(folder, 1); write_atomic(folder / 'kept', b'old')\n"
        "disk.fill(folder, random.Random(1))\n"
        "try: write_atomic(folder / 'kept', bytes(2**18))\n"
        "except Exception as error: print(type(error).__name__, (folder / 'kept').read_bytes())\n"
        "disk.free(folder); write_atomic(folder / 'kept', bytes(2**18)); print(sorted(map(str, folder.iterdir())))\n"
    )
    done = subprocess.run(
        [*words, sys.executable, "-c", code, str(tmp_path / "disk")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{StorageError.__name__} b'old'", str([str(tmp_path / "disk" / "kept")])]
    assert not list((tmp_path / "disk").iterdir())  # nobody else ever saw it


def test_a_damaged_file_is_detected_by_its_reader_and_told_once_a_log_names_it(tmp_path: Path) -> None:
    chaos = Chaos(plan(tmp_path))
    run = chaos.runs[-1]
    pretend(run, chaos.results)
    state = chaos.state / run.hash
    write_atomic(state / checkpoint.CURRENT, bytes(100))
    other = next(each for each in chaos.runs if each is not run)
    write_atomic(chaos.state / other.hash / checkpoint.CURRENT, bytes(100))
    for _ in range(9):
        chaos._damage()
    assert (
        chaos.damaged.total() == chaos.detected == 2
    )  # what is damaged already is left alone, as is what will not be read
    assert chaos.pending == {str(folder_of(run, chaos.results)), str(chaos.state / other.hash / checkpoint.CURRENT)}
    log = tmp_path / "log"
    log.write_text("nothing of note\n")
    assert not chaos._heed(log)
    assert (chaos.told, len(chaos.pending)) == (0, 2)
    log.write_text(f"bitq: {folder_of(run, chaos.results)}: history.json is damaged; delete the folder\n")
    assert chaos._heed(log)
    assert chaos.told == 1 and not folder_of(run, chaos.results).exists() and state.exists()
    lost = chaos.state / other.hash
    damaged = (lost / checkpoint.CURRENT).read_bytes()
    chaos.pending.clear()
    for _ in range(9):
        chaos._damage()
    assert (lost / checkpoint.CURRENT).read_bytes() == damaged  # nobody has replaced it yet
    chaos.pending = {str(lost / checkpoint.CURRENT)}
    log.write_text(
        f"bitq: {lost / checkpoint.CURRENT} is. No whole checkpoint is left: delete {lost} to train the run\n"
    )
    chaos._heed(log)
    assert chaos.told == 2 and not chaos.pending and not lost.exists()
    log.write_text("Traceback (most recent call last):\n")
    chaos._heed(log)
    assert chaos.bugs == 1


def test_what_its_reader_accepts_is_not_detected(checkpoints: Path, tmp_path: Path) -> None:
    path = tmp_path / checkpoint.CURRENT
    path.write_bytes((checkpoints / checkpoint.CURRENT).read_bytes())
    assert not is_refused(path)
    DAMAGES["flipped"](path, random.Random(1))
    assert is_refused(path)


@pytest.mark.parametrize(
    "wrong", [{"lost": 1}, {"detected": 1}, {"bugs": 1}, {"left_behind": 1}, {"filled": 2}, {"damaged": {}}]
)
def test_a_rehearsal_fails_by_anything_lost_or_unnoticed(wrong: dict[str, Any], tmp_path: Path) -> None:
    require(rehearsal(), tmp_path)
    with pytest.raises(Bug, match=rf"did not survive(?s:.*){tmp_path}"):
        require(rehearsal(**wrong), tmp_path)


def test_the_choice_of_runs_is_that_of_the_seed() -> None:
    drawn = [tuple(run.id for run in some_runs("smoke", 5, seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    chosen = some_runs("smoke", 40, 3)
    ids = [run.id for run in chosen]
    assert all(ids.index(parent.id) < ids.index(run.id) for run in chosen for parent in run.parents)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    from bitq.chaos.rehearse import rehearse

    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        rehearse("smoke", (), 1, 1, 0, 1, 1.0, tmp_path, tmp_path / "chaos.json")


@pytest.mark.slow
def test_a_small_grid_survives_ten_kills(tmp_path: Path) -> None:
    out, folder = tmp_path / "chaos.json", tmp_path / "chaos"
    words = ["chaos", "--study", "atq", "--runs", "4", "--kills", "10", "--every", "1", "--json"]
    command = [sys.executable, "-m", "bitq.cli", *words, "--folder", str(folder), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found = Rehearsal.model_validate_json(out.read_bytes())
    assert found == Rehearsal.model_validate(json.loads(done.stdout)) and found.passed
    assert sum(found.kills.values()) >= 10 and "lost         0 runs" in describe(found)
