"""Runs side by side: the same bytes as one after the other, parents first, signals passed on, deaths survived."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bitq.errors import Preempted, UsageError
from bitq.io import write_atomic
from bitq.machine import Machine, machine
from bitq.results.folder import folder_of, run_digest
from bitq.results.jobs import with_parents
from bitq.run import Run
from bitq.status.recorded import RecordedSession
from bitq.train import checkpoint, pool
from bitq.train.lock import exclusive
from bitq.train.pool import Pool, places, priorities, settings_of, train_side_by_side
from bitq.train.session import Session
from bitq.train.signals import StopRequest
from tests.support import CPU_MACHINE, session, small_run

TEACHER = "bitnet/cifar10/resnet18/fp32/s42"


def small(method: str, **options: object) -> Run:
    return small_run(method, **{"model": "atq_cnn", "epochs": 2} | options)


def digests(runs: list[Run], root: Path) -> list[str]:
    return [run_digest(folder_of(run, root / "results")) for run in runs]


@pytest.mark.slow
def test_runs_side_by_side_end_with_the_bytes_of_runs_in_a_row(tmp_path: Path) -> None:
    runs = [small("ttq"), small("bitnet", teacher=TEACHER), small("ring"), small("fp32")]
    serial, parallel = session(tmp_path / "serial"), session(tmp_path / "parallel")
    assert serial.train(runs) == 0
    assert train_side_by_side(parallel, runs, 2) == 0
    everything = list(with_parents(tuple(runs)))
    assert len(everything) == 5
    assert digests(everything, tmp_path / "parallel") == digests(everything, tmp_path / "serial")
    assert train_side_by_side(parallel, runs, 2) == 0  # nothing is left to do


def test_the_worst_exit_code_counts_and_the_others_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good, bad = small("ttq"), small("bitnet", accumulate=2, model="resnet18")
    assert train_side_by_side(session(tmp_path), [bad, good], 2) == UsageError.exit_code
    assert len(digests([good], tmp_path)) == 1
    assert "normalises over the batch" in capfd.readouterr().err


def test_jobs_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--jobs 0 was given; allowed: 1 and more"):
        train_side_by_side(session(tmp_path), [small("ttq")], 0)


def test_a_dead_worker_ends_its_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [small("ttq"), small("twn")]
    taken: list[str] = []
    plain = pool.Worker.take

    def take(worker: pool.Worker, run: Run, need_model: bool) -> None:
        plain(worker, run, need_model)
        taken.append(run.id)
        if len(taken) == 1:
            worker.process.kill()

    monkeypatch.setattr(pool.Worker, "take", take)
    assert train_side_by_side(session(tmp_path), runs, 1) == Preempted.exit_code
    assert "ended with SIGKILL; start it again" in capsys.readouterr().err
    assert taken == [runs[0].id, runs[1].id] and digests([runs[1]], tmp_path)


@pytest.mark.slow
def test_a_signal_is_passed_on_and_the_runs_go_on_later(tmp_path: Path) -> None:
    runs = [small_run("ttq", epochs=40), small_run("twn", epochs=40)]
    code = (
        "import sys; from pathlib import Path; from tests.support import CPU_MACHINE, session, small_run; "
        "from bitq.train.pool import train_side_by_side; "
        "runs = [small_run('ttq', epochs=40), small_run('twn', epochs=40)]; "
        f"sys.exit(train_side_by_side(session(Path({str(tmp_path)!r})), runs, 2))"
    )
    root = Path(__file__).parents[1]
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.DEVNULL)
    files = [tmp_path / "state" / run.hash / "checkpoint.safetensors" for run in runs]
    while not all(file.exists() for file in files):
        assert parent.poll() is None
        time.sleep(0.1)
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.wait() == Preempted.exit_code
    assert all(file.exists() for file in files)
    assert not (tmp_path / "results/smoke").exists()


def test_the_longest_chain_of_work_goes_first() -> None:
    student, alone = small("bitnet", teacher=TEACHER), small("ttq", epochs=3)
    runs = with_parents((alone, student))
    order = priorities(runs)
    assert order[TEACHER] > order[student.id] and order[TEACHER] > order[alone.id] > order[student.id]


def test_a_parent_is_handed_out_before_its_child(tmp_path: Path) -> None:
    student = small("bitnet", teacher=TEACHER)
    waiting = Pool(session(tmp_path), with_parents((student,)), StopRequest())
    assert [run.id for run in waiting.waiting] == [TEACHER, student.id]
    assert waiting._needs_model(waiting.waiting[0]) and not waiting._needs_model(student)


def test_workers_are_spread_over_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Machine(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert places(gpu) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places(gpu)] == ["3", "5"]
    assert places(Machine(torch.device("cuda:1"))) == places(machine("cpu")) == [{}]


def test_a_worker_is_told_the_whole_session(tmp_path: Path) -> None:
    own = Session(machine("cpu", "fast", 1, capture=False), tmp_path / "r", tmp_path / "s", strict=True)
    settings = settings_of(own)
    assert machine(**settings.pop("machine")) == own.machine
    assert settings == {"results": str(own.results), "state": str(own.state), "strict": True, "models": False}


def test_what_a_killed_process_left_of_a_finished_run_is_deleted(tmp_path: Path) -> None:
    run = small_run()
    here = RecordedSession(CPU_MACHINE, tmp_path / "results", tmp_path / "state")
    left = here.state / run.hash / checkpoint.CURRENT
    for train in (lambda: here.train([run]), lambda: train_side_by_side(here, [run], 2)):
        assert train() == 0
        write_atomic(left, b"half of it")
        with exclusive(left.parent, run.id):
            assert train() == 0 and left.exists()  # somebody works on it
        assert train() == 0 and not list(here.state.iterdir())
