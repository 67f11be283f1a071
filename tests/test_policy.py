"""The one policy on retries: bugs never, lost files with pauses, memory once more, stopped runs for ever."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bitq import errors, policy
from bitq.errors import BitqError, Preempted
from bitq.policy import POLICIES, Supervisor, attempt, policy_of

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for, none of which is made."""
    asked: list[float] = []

    def skip(_: Supervisor, seconds: float) -> bool:
        asked.append(seconds)
        return False

    monkeypatch.setattr(Supervisor, "_is_stopped_within", skip)
    return asked


def failing(tmp_path: Path, *codes: int) -> Supervisor:
    """A command that ends with these exit codes, one call after the other, and then with 0."""
    calls = tmp_path / "calls"
    calls.touch()
    wanted = " ".join(map(str, codes))
    script = f"""
        echo "${{BITQ_ALONE-}}" >> '{calls}'
        set -- {wanted}
        count=$(wc -l < '{calls}')
        if [ $count -gt $# ]; then exit 0; fi
        shift $((count - 1))
        if [ $1 -ge 0 ]; then exit $1; else kill $1 $$; fi"""
    return Supervisor(["sh", "-c", script])


def calls_of(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_text().splitlines())


def test_every_class_of_failure_has_a_policy() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BitqError)]
    # 1 is an answer, that something differs, and no training ends with it.
    assert {kind.exit_code for kind in kinds} - {1} == POLICIES.keys()


def test_the_documentation_shows_the_policy() -> None:
    text = (ROOT / "docs/cluster.md").read_text()
    for code, row in POLICIES.items():
        times = "without limit" if row.again == inf else "never" if row.again == 0 else f"{row.again:.0f} ×"
        assert re.search(rf"^\| {code} \| {re.escape(row.failure)} \| {times}", text, re.M), (code, times)


@pytest.mark.parametrize("code", [2, 65, 70, 71, 1, 139])
def test_what_would_fail_again_is_not_started_again(code: int, tmp_path: Path, pauses: list[float]) -> None:
    assert attempt(failing(tmp_path, code, code), 1, None) == code
    assert calls_of(tmp_path) == 1


def test_lost_files_are_tried_again_after_growing_pauses(tmp_path: Path, pauses: list[float]) -> None:
    assert attempt(failing(tmp_path, 74, 74, 74), 1, None) == 0
    assert pauses == [20, 40, 80]
    (tmp_path / "calls").unlink()
    assert attempt(failing(tmp_path, 74, 74, 74, 74), 1, None) == 74


def test_memory_is_asked_for_once_more_alone(tmp_path: Path, pauses: list[float]) -> None:
    assert attempt(failing(tmp_path, 72), 1, None) == 0
    assert (tmp_path / "calls").read_text() == "\n1\n"
    (tmp_path / "calls").unlink()
    assert attempt(failing(tmp_path, 72, 72), 1, None) == 72


def test_a_stopped_run_is_started_again_any_number_of_times(tmp_path: Path, pauses: list[float]) -> None:
    assert attempt(failing(tmp_path, *[75] * 10, -15), 1, None) == 0
    assert calls_of(tmp_path) == 12 and pauses[-1] == policy.LONGEST


@pytest.mark.parametrize(("left", "calls"), [(-5, 1), (60, 1), (3600, 3)])
def test_a_run_that_stopped_for_its_deadline_is_not_started_again(
    left: float, calls: int, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(policy.OURS, str(time.time() + left))
    assert attempt(failing(tmp_path, 75, 75), 1, None) == (75 if calls == 1 else 0)
    assert calls_of(tmp_path) == calls


def test_a_killed_run_is_left_to_the_scheduler_that_gives_more_memory(tmp_path: Path, pauses: list[float]) -> None:
    record = tmp_path / "failed"
    assert attempt(failing(tmp_path, -9), 1, record) == 128 + signal.SIGKILL
    assert not record.exists() and calls_of(tmp_path) == 1


def test_a_scheduler_that_retries_a_bug_is_told_and_trains_nothing(
    tmp_path: Path, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "failed"
    assert attempt(failing(tmp_path, 70, 70), 1, record) == 70
    assert json.loads(record.read_text()) == {"exit_code": 70}
    assert attempt(failing(tmp_path, 70, 70), 2, record) == 70
    assert calls_of(tmp_path) == 1
    assert "not tried again: the attempt before ended with exit code 70, a bug" in capsys.readouterr().err
    assert attempt(failing(tmp_path, 70), 1, record) == 0  # another call of the workflow: the bug may be mended
    assert not record.exists()


def until_done(*words: str, **env: str) -> subprocess.Popen[str]:
    script, path = str(ROOT / "workflow/scripts/until_done"), f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | env
    return subprocess.Popen(
        [script, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_ends_it(number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    process = until_done("sh", "-c", f"trap 'echo stopped; exit 75' {name}; echo begun; while :; do sleep 0.05; done")
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "stopped\n"
    assert process.returncode == Preempted.exit_code


def test_a_signal_while_the_command_is_being_started_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Supervisor(["sleep", "60"])
    plain = subprocess.Popen

    def start(*words: Any, **options: Any) -> "subprocess.Popen[bytes]":
        work._pass_on(signal.SIGTERM, None)  # before anybody knows the process
        return plain(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    assert work.run() == Preempted.exit_code


def test_a_signal_in_a_pause_ends_it() -> None:
    process = until_done("sh", "-c", "exit 75")
    assert process.stderr and "once more in 10 s" in process.stderr.readline()
    process.terminate()
    assert process.communicate(timeout=60)[1] == ""  # it is not started once more
    assert process.returncode == Preempted.exit_code


def test_no_command_is_refused_in_one_sentence() -> None:
    process = until_done("--attempt", "2")
    assert (
        process.communicate()[1].startswith("bitq: no command was given; call until_done") and process.returncode == 2
    )


# --- Slurm -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of Slurm that note how they were called; the job runs, with 1:02:03 left."""
    said = tmp_path / "slurm"
    for name, answer in {
        "squeue": 'case "$2" in *T) cat "$0.state";; *L) echo 1:02:03;; esac',
        "scontrol": 'echo "scontrol $*" >> "$0.log"',
    }.items():
        command = said / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\n{answer}\n")
        command.chmod(0o755)
    (said / "squeue.state").write_text("RUNNING\n")
    monkeypatch.setenv("PATH", f"{said}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("BITQ_OWN_JOB", "1")
    for name in (policy.OURS, policy.SLURM):
        monkeypatch.delenv(name, raising=False)
    return said


def test_the_job_of_a_stopped_run_goes_back_into_the_queue(tmp_path: Path, pauses: list[float], slurm: Path) -> None:
    assert attempt(failing(tmp_path, 75, 75), 1, None) == 75
    assert calls_of(tmp_path) == 1
    assert (slurm / "scontrol.log").read_text() == "scontrol requeue 17\n"


def test_a_job_that_slurm_ends_is_left_to_it(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm / "squeue.state").write_text("COMPLETING\n")
    work, calls = Supervisor([]), []

    def stop(alone: bool) -> int:
        calls.append(alone)
        work.stopped = signal.SIGTERM
        return Preempted.exit_code

    monkeypatch.setattr(work, "_run_once", stop)
    assert work.run() == Preempted.exit_code
    assert not (slurm / "scontrol.log").exists() and calls == [False]


def test_an_allocation_that_holds_a_whole_workflow_is_never_requeued(
    tmp_path: Path, pauses: list[float], slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BITQ_OWN_JOB")
    assert attempt(failing(tmp_path, 75), 1, None) == 0
    assert not (slurm / "scontrol.log").exists()


def test_slurm_is_asked_for_the_deadline(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert policy.deadline_of_job() == {policy.OURS: str(1000.0 + 3723)}
    (slurm / "squeue").write_text("#!/bin/sh\necho UNLIMITED\n")
    assert policy.deadline_of_job() == {}
    monkeypatch.setenv(policy.SLURM, "5000")
    assert policy.deadline_of_job() == {}


def test_only_a_known_failure_is_ever_tried_again() -> None:
    assert policy_of(1).again == policy_of(-11).again == 0
