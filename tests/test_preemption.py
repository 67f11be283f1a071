"""A run may be stopped any number of times, by signals or before a deadline, and loses nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bitq import deadline
from bitq.errors import Preempted, UsageError
from bitq.results.folder import folder_of, read, run_digest
from bitq.run import Run
from bitq.train import checkpoint, signals
from bitq.train.pool import train_side_by_side
from tests.support import STEPS, at_step, in_child, session, small_run


def digest_of(run: Run, root: Path) -> str:
    return run_digest(folder_of(run, root / "results"))


def stopped(run: Run, root: Path, step: int) -> int:
    """The exit code of a slice that a signal ends after a few steps."""

    def work() -> int:
        at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return session(root).train([run])

    return os.WEXITSTATUS(in_child(work))


def test_a_run_in_ten_slices_ends_with_the_bytes_of_one_in_a_piece(tmp_path: Path) -> None:
    run = small_run("ttq")
    assert session(tmp_path / "straight").train([run]) == 0
    for number in range(10):
        assert stopped(run, tmp_path / "sliced", 1) == Preempted.exit_code
        saved = checkpoint.load(tmp_path / "sliced/state" / run.hash, run.hash)
        assert saved and saved.meta["epoch"] * STEPS + saved.meta["step"] == number + 1  # none is lost
    assert session(tmp_path / "sliced").train([run]) == 0
    assert digest_of(run, tmp_path / "sliced") == digest_of(run, tmp_path / "straight")
    assert read(folder_of(run, tmp_path / "sliced/results")).env.attempts == 11


# --- the deadline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [deadline.OURS, pytest.param(deadline.SLURM, marks=pytest.mark.slow)])
def test_a_run_stops_with_all_saved_before_its_deadline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = small_run(epochs=2000), tmp_path / "stderr"
    end = time.time() + 6
    monkeypatch.setenv(name, str(end) if name == deadline.OURS else str(int(end)))
    assert os.WEXITSTATUS(in_child(lambda: session(tmp_path).train([run]), said)) == Preempted.exit_code
    assert time.time() < end
    assert f"{run.id} was stopped by its deadline; start it again" in said.read_text()
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and saved.meta["epoch"] > 0


@pytest.mark.slow
def test_workers_stop_once_for_the_deadline_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(epochs=2000)
    monkeypatch.setenv(deadline.OURS, str(time.time() + 25))
    assert os.WEXITSTATUS(in_child(lambda: train_side_by_side(session(tmp_path), [run], 1))) == Preempted.exit_code
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and saved.meta["epoch"] > 0


def test_a_deadline_that_has_passed_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run()
    monkeypatch.setenv(deadline.OURS, "1")
    assert os.WEXITSTATUS(in_child(lambda: session(tmp_path).train([run]))) == Preempted.exit_code
    assert not (tmp_path / "state" / run.hash / checkpoint.CURRENT).exists()


def test_the_margin_is_two_minutes_or_a_quarter_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    for left, work in [(3600, 3480), (60, 45), (0, 0), (-5, 0)]:
        monkeypatch.setenv(deadline.SLURM, str(1000 + left))
        assert deadline.seconds_to_work() == work
    monkeypatch.setenv(deadline.OURS, "9" * 30)
    with signals.stop_on_signals() as stop:  # the timer can be set
        assert not stop
    monkeypatch.setenv(deadline.OURS, "")
    assert deadline.seconds_to_work() is None


def test_a_deadline_is_a_duration_or_a_moment_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deadline.OURS, "")  # put back afterwards
    for text in ("90m", "1.5h", (datetime.now() + timedelta(minutes=90)).isoformat()):
        deadline.set_deadline(text)
        left = deadline.seconds_to_work()
        assert left and 89 * 60 - deadline.MARGIN < left <= 90 * 60 - deadline.MARGIN
    for text in ("", "90", "2001-01-01T00:00", "2999-01-01", "soon", "-1h"):
        with pytest.raises(UsageError, match="was given; allowed: a duration from now such as 110m"):
            deadline.set_deadline(text)


# --- signals ---------------------------------------------------------------------------------------------------------


def test_one_request_that_arrives_twice_is_one(tmp_path: Path) -> None:
    run = small_run()

    def work() -> int:
        def twice() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

        at_step(STEPS + 2, twice)
        return session(tmp_path).train([run])

    assert os.WEXITSTATUS(in_child(work)) == Preempted.exit_code
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and (saved.meta["epoch"], saved.meta["step"]) == (1, 2)


def catches(process: int, number: signal.Signals) -> bool:
    """Does a process handle a signal by itself?"""
    mask = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{process}/status").read_text(), re.M)
    return bool(mask and int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals a process handles")
@pytest.mark.parametrize("number", signals.STOP)
def test_a_signal_while_everything_is_loaded_is_a_stop_too(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bitq.cli", "train", "--model", "resnet18", "--dataset", "mnist"]
    options = ["--method", "fp32", "--scale", "smoke", "--results", str(tmp_path / "r"), "--state", str(tmp_path / "s")]
    process = subprocess.Popen([*words, *options], stderr=subprocess.PIPE, text=True)
    while not catches(process.pid, signals.STOP[-1]):
        assert process.poll() is None
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == Preempted.exit_code
    assert said == f"bitq: {number.name} received, nothing was begun; start it again.\n"
    assert not (tmp_path / "r").exists()
