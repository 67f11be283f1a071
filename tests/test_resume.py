"""Killed at any step, resumed, finished: the same bytes as never killed."""

import itertools
import os
import random
import signal
import time
from pathlib import Path
from types import ModuleType

import pytest

from bitq.errors import DataError, Preempted
from bitq.io import read_json
from bitq.results.folder import folder_of, read, run_digest
from bitq.results.schema import History
from bitq.results.verify import verify
from bitq.run import Run
from bitq.train import checkpoint, finish, loop
from bitq.train import session as session_module
from bitq.train.lock import exclusive
from bitq.train.signals import ONE_REQUEST, StopRequest
from tests.support import (
    EACH_METHOD,
    EPOCHS,
    STEPS,
    at_call,
    at_step,
    in_child,
    kill_myself,
    session,
    small_run,
    train_until_killed,
)


def digest_of(run: Run, root: Path) -> str:
    return run_digest(folder_of(run, root / "results"))


def digest_uninterrupted(run: Run, root: Path) -> str:
    assert session(root).train([run]) == 0
    return digest_of(run, root)


def digest_after_kills(run: Run, root: Path, steps: list[int]) -> str:
    for step in steps:
        assert os.WTERMSIG(train_until_killed(run, root, step)) == signal.SIGKILL
    assert session(root).train([run]) == 0
    return digest_of(run, root)


@pytest.mark.parametrize("method", EACH_METHOD)
def test_a_killed_run_ends_with_the_same_bytes(method: str, tmp_path: Path) -> None:
    run = small_run(method)
    step = random.Random(method).randint(STEPS + 1, EPOCHS * STEPS - 1)
    straight = digest_uninterrupted(run, tmp_path / "straight")
    assert digest_after_kills(run, tmp_path / "killed", [step]) == straight


def test_a_killed_run_on_pairs_of_image_and_sentence_ends_with_the_same_bytes(tmp_path: Path) -> None:
    run = small_run("atq", model="gated_fusion", dataset="fashion_sst2", mixup=0.0, settings={"schedule": "linear"})
    straight = digest_uninterrupted(run, tmp_path / "straight")
    assert digest_after_kills(run, tmp_path / "killed", [STEPS + 3]) == straight


@pytest.mark.parametrize("what", ["code_sha256", "fingerprint"])
def test_what_another_engine_or_machine_began_starts_over(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run()
    straight = digest_uninterrupted(run, tmp_path / "straight")
    train_until_killed(run, tmp_path / "killed", STEPS + 2)
    monkeypatch.setattr(loop, what, lambda *_: "another")
    assert digest_uninterrupted(run, tmp_path / "killed") == straight
    assert "begun by another engine or kind of machine; it starts over" in capsys.readouterr().err


def test_losing_the_optimizer_state_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The negative control: a resume that forgets something must not pass the test above.
    run = small_run("bitnet")
    straight = digest_uninterrupted(run, tmp_path / "straight")
    monkeypatch.setattr(loop, "restore_optimizer", lambda *_: None)
    assert digest_after_kills(run, tmp_path / "killed", [STEPS + 2]) != straight


def test_a_resumed_run_counts_its_attempts(tmp_path: Path) -> None:
    run = small_run()
    digest_after_kills(run, tmp_path, [STEPS + 1, 2])
    assert read_json(folder_of(run, tmp_path / "results") / "env.json")["attempts"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["bitnet", "ttq", "ring", "atq", "lsq"])  # what a method may carry from step to step
def test_twenty_kills_end_with_the_same_bytes(method: str, optimizer: str, tmp_path: Path) -> None:
    run = small_run(method, optimizer=optimizer, lr=0.1 if optimizer == "sgd" else 0.002, epochs=12)
    draw = random.Random(f"{method} {optimizer}")
    straight = digest_uninterrupted(run, tmp_path / "straight")
    steps = [draw.randint(1, STEPS + 2) for _ in range(20)]  # mostly within an epoch, sometimes past its end
    assert digest_after_kills(run, tmp_path / "killed", steps) == straight


@pytest.mark.slow
def test_a_killed_distilled_run_with_dropout_ends_with_the_same_bytes(tmp_path: Path) -> None:
    run = small_run(
        "bitnet", model="efficientnet_b0", teacher="bitnet/cifar10/resnet18/fp32/s42", augment="full", width=16
    )
    straight = digest_uninterrupted(run, tmp_path / "straight")
    assert digest_after_kills(run, tmp_path / "killed", [20 + STEPS + 3]) == straight


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(call: str, tmp_path: Path) -> None:
    run = small_run()
    straight = digest_uninterrupted(run, tmp_path / "straight")

    def work() -> int:
        at_step(2 * STEPS, lambda: setattr(os, call, lambda *_: kill_myself()))  # the next checkpoint is the second
        return session(tmp_path).train([run])

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    assert digest_uninterrupted(run, tmp_path) == straight


@pytest.mark.parametrize(
    ("number", "steps"),  # the last one is the last of its epoch, whose point of the curves is yet to be written
    [(signal.SIGTERM, STEPS + 2), (signal.SIGINT, STEPS + 2), (signal.SIGUSR1, STEPS + 2), (signal.SIGTERM, 2 * STEPS)],
)
def test_a_signal_saves_the_step_and_exits_75(number: signal.Signals, steps: int, tmp_path: Path) -> None:
    run = small_run()

    def work() -> int:
        at_step(steps, lambda: os.kill(os.getpid(), number))
        return session(tmp_path).train([run])

    assert os.WEXITSTATUS(in_child(work)) == Preempted.exit_code
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and (saved.meta["epoch"], saved.meta["step"]) == (1, steps - STEPS)
    straight = digest_uninterrupted(run, tmp_path / "straight")
    assert digest_uninterrupted(run, tmp_path) == straight


# Evaluation at the end of the second epoch, the packed file, the images, the calibration, and building the network.
ELSEWHERE = [(loop, "measure", 2), (finish, "export", 1), (finish, "verify", 1), (session_module, "open_data", 1),
             (session_module, "calibrate_before_training", 1), (session_module, "build_network", 1)]  # fmt: skip


@pytest.mark.parametrize(("module", "function", "call"), ELSEWHERE, ids=[name for _, name, _ in ELSEWHERE])
def test_a_signal_outside_a_training_step_stops_there(
    module: ModuleType, function: str, call: int, tmp_path: Path
) -> None:
    run, survived, said = small_run(), tmp_path / "survived", tmp_path / "stderr"

    def work() -> int:
        at_call(module, function, call, lambda: os.kill(os.getpid(), signal.SIGTERM), survived)
        return session(tmp_path).train([run])

    assert os.WEXITSTATUS(in_child(work, said)) == Preempted.exit_code
    assert not survived.exists()
    lines = [line for line in said.read_text().splitlines() if line.startswith("bitq:")]
    assert lines[0].startswith("bitq: SIGTERM received") and len(lines) == 2
    assert lines[1] == f"bitq: {run.id} was stopped by SIGTERM; start it again to go on from what is saved."
    if function == "measure":
        saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
        assert saved and (saved.meta["epoch"], saved.meta["step"]) == (1, STEPS)
    assert digest_uninterrupted(run, tmp_path) == digest_uninterrupted(run, tmp_path / "straight")
    assert not list((tmp_path / "state").iterdir())


def test_a_run_killed_in_an_evaluation_goes_on_with_that_evaluation(tmp_path: Path) -> None:
    run, survived = small_run("atq"), tmp_path / "survived"
    straight = digest_uninterrupted(run, tmp_path / "straight")

    def work() -> int:
        at_call(loop, "measure", 2, kill_myself, survived)
        return session(tmp_path).train([run])

    assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and (saved.meta["epoch"], saved.meta["step"]) == (1, STEPS)
    assert digest_uninterrupted(run, tmp_path) == straight


def test_the_curves_can_be_read_while_the_run_trains(tmp_path: Path) -> None:
    run = small_run()
    train_until_killed(run, tmp_path, 2 * STEPS + 2)
    so_far = History.model_validate(read_json(tmp_path / "state" / run.hash / loop.HISTORY))
    assert not verify(tmp_path / "results", [run]).present and len(so_far.test_accuracy) == 2
    assert session(tmp_path).train([run]) == 0
    whole = read(folder_of(run, tmp_path / "results")).history
    assert {name: curve[:2] for name, curve in whole} == dict(so_far)


def test_training_is_timed_apart_from_evaluation_and_not_by_the_clock_on_the_wall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, pause, images, plain = small_run(), 0.3, 160 * EPOCHS, loop.measure
    jumping = itertools.count(0, 10_000)
    monkeypatch.setattr(time, "time", lambda: float(next(jumping)))
    monkeypatch.setattr(loop, "measure", lambda *args: (time.sleep(pause), plain(*args))[1])
    train_until_killed(run, tmp_path, 2 * STEPS + 2)
    saved = checkpoint.load(tmp_path / "state" / run.hash, run.hash)
    assert saved and 0 < saved.meta["training_seconds"] < saved.meta["seconds"] - pause
    assert session(tmp_path).train([run]) == 0
    env = read(folder_of(run, tmp_path / "results")).env
    assert env.images_per_second and images / env.images_per_second < env.wall_seconds - EPOCHS * pause < 1000


def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    request = StopRequest()

    def work() -> int:
        request.handle(signal.SIGTERM, None)
        request.since -= 2 * ONE_REQUEST
        request.handle(signal.SIGTERM, None)
        return 0

    assert os.WEXITSTATUS(in_child(work)) == Preempted.exit_code


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = small_run("ttq"), tmp_path / "state" / small_run("ttq").hash
    straight = digest_uninterrupted(run, tmp_path / "straight")
    train_until_killed(run, tmp_path, 2 * STEPS + 1)
    current = folder / checkpoint.CURRENT
    current.write_bytes(current.read_bytes()[:-100])
    assert digest_uninterrupted(run, tmp_path) == straight
    assert "Going on from" in capsys.readouterr().err


def test_two_damaged_checkpoints_never_mean_to_start_over(tmp_path: Path) -> None:
    run = small_run()
    train_until_killed(run, tmp_path, 2 * STEPS + 1)
    for path in (tmp_path / "state" / run.hash).glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-100])
    assert session(tmp_path).train([run]) == DataError.exit_code


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run, other = small_run("bitnet"), small_run("twn")
    train_until_killed(other, tmp_path, STEPS + 1)
    (tmp_path / "state" / other.hash).rename(tmp_path / "state" / run.hash)
    with pytest.raises(DataError, match="is a checkpoint of run"):
        checkpoint.load(tmp_path / "state" / run.hash, run.hash)


def test_a_second_process_on_the_same_run_is_turned_away(tmp_path: Path) -> None:
    run = small_run()
    with exclusive(tmp_path / "state" / run.hash, run.id):
        assert os.WEXITSTATUS(in_child(lambda: session(tmp_path).train([run]))) == Preempted.exit_code


def test_checkpoints_are_gone_when_the_run_is_done(tmp_path: Path) -> None:
    session(tmp_path).train([small_run()])
    assert not list((tmp_path / "state").iterdir())
