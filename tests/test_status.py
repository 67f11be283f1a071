"""How far a grid is, and why a run is current or stale, is read from results and state alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitq.errors import DataError, OutOfMemory, Preempted, UsageError
from bitq.grid.select import Selection, grid
from bitq.io import read_json, write_json
from bitq.results.folder import folder_of
from bitq.run import Run
from bitq.status import unfinished, why
from bitq.status.failures import failure_of, note_failure
from bitq.status.gather import Status, status
from bitq.status.recorded import RecordedSession
from bitq.status.unfinished import holder_of, progress_of
from bitq.train import session as session_module
from bitq.train.lock import exclusive
from bitq.verbs import status as verb
from tests.support import CPU_MACHINE, EPOCHS, STEPS, small_run, train_until_killed
from tests.synthetic import pretend, pretend_all

RUNS = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "ttq"]).of(grid("smoke", ["bitnet"]))
DEAD = 2**22 + 1  # no process has such a number


def look(runs: tuple[Run, ...], root: Path) -> Status:
    return status("smoke", runs, root / "results", root / "state")


def locked_by(folder: Path, host: str, pid: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock").write_text(f"{host} {pid}\n")


def test_an_untouched_grid_waits_and_nothing_is_guessed(tmp_path: Path) -> None:
    found = look(RUNS, tmp_path)
    assert found.total.waiting == found.total.runs == len(RUNS)
    assert found.total.hours_left is None and found.eta_hours is None and not found.active
    assert "bitq plan measures" in verb.describe(found)


def test_each_run_is_counted_once_where_it_stands(tmp_path: Path) -> None:
    done, diverged, running, failed, rest = RUNS[0], RUNS[1], RUNS[2], RUNS[3], RUNS[4:]
    pretend(done, tmp_path / "results")
    pretend(diverged, tmp_path / "results", diverged_in=1)
    locked_by(tmp_path / "state" / running.hash, os.uname().nodename, os.getpid())
    note_failure(tmp_path / "state" / failed.hash, OutOfMemory("no memory was left"))
    found = look(RUNS, tmp_path)
    total = found.total
    assert (total.done, total.diverged, total.running, total.waiting) == (2, 1, 1, len(rest))
    assert total.failed == {"memory": 1} and found.failures == {failed.id: "no memory was left"}
    assert [run.id for run in found.active] == [running.id] and found.active[0].pid == os.getpid()
    assert sum(row.runs for row in found.rows) == total.runs
    assert sum(row.done + row.running + row.waiting + sum(row.failed.values()) for row in found.rows) == total.runs
    assert total.hours_left and found.eta_hours == total.hours_left  # one process works
    assert found.failures[failed.id] in verb.describe(found)


def test_what_is_left_is_estimated_from_what_was_measured(tmp_path: Path) -> None:
    runs = tuple(run for run in RUNS if run.arm == "ttq")
    pretend(runs[0], tmp_path / "results")
    env = folder_of(runs[0], tmp_path / "results") / "env.json"
    write_json(env, read_json(env) | {"wall_seconds": 7200.0})
    total = look(runs, tmp_path).total
    assert total.hours_spent == 2 and total.hours_left == pytest.approx(2 * (len(runs) - 1))


def test_a_selection_changes_no_estimate(tmp_path: Path) -> None:
    pretend(RUNS[0], tmp_path / "results")
    waiting = Selection(methods=["ttq"]).of(RUNS)
    others = tuple(run for run in RUNS if run not in waiting)
    places = tmp_path / "results", tmp_path / "state"
    assert status("smoke", waiting, *places).total.hours_left is None
    alone, all_ = status("smoke", waiting, *places, others).total, look(RUNS, tmp_path).total
    assert alone.hours_left and all_.hours_left and alone.hours_left <= all_.hours_left
    assert alone.hours_left == pytest.approx(
        sum(row.hours_left or 0 for row in look(RUNS, tmp_path).rows)
        - sum(row.hours_left or 0 for row in status("smoke", others, *places, waiting).rows)
    )


def test_a_finished_grid_says_so(tmp_path: Path) -> None:
    pretend_all(RUNS, tmp_path / "results")
    found = look(RUNS, tmp_path)
    assert found.total.done == len(RUNS) and found.total.hours_left == 0
    assert f"all {len(RUNS)} runs at scale smoke are done" in verb.describe(found)


def test_a_killed_run_waits_with_its_progress(tmp_path: Path) -> None:
    run = small_run()
    train_until_killed(run, tmp_path, 2 * STEPS + 2)
    progress = progress_of(tmp_path / "state" / run.hash)
    assert progress and progress.epoch == 1 and progress.step == STEPS and progress.training_seconds > 0
    assert holder_of(tmp_path / "state" / run.hash) is None
    total = look((run,), tmp_path).total
    assert (total.waiting, total.begun, total.running) == (1, 1, 0)
    found = why.why(run, tmp_path / "results", tmp_path / "state")
    assert not found.trained and any(f"saved in epoch 1 of {EPOCHS}" in reason.text for reason in found.reasons)


META = json.dumps({"__metadata__": {"bitq": json.dumps({"epoch": 1, "step": 2, "seconds": 3.0})}}).encode()
PARTIAL = len(META).to_bytes(8, "little") + META


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x10\0\0\0\0\0\0\0" + b"{}" * 8, PARTIAL]
)
def test_a_damaged_checkpoint_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    assert progress_of(tmp_path) is None


def test_a_held_lock_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    with exclusive(tmp_path, "a run"):
        found = holder_of(tmp_path)
        assert found and (found.host, found.pid) == (os.uname().nodename, os.getpid())
    locked_by(tmp_path, os.uname().nodename, DEAD)
    assert holder_of(tmp_path) is None


def test_a_holder_elsewhere_lives_as_long_as_it_gives_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked_by(tmp_path, "another-machine", 1)
    assert holder_of(tmp_path)
    (tmp_path / "lock").touch()
    os.utime(tmp_path / "lock", (1, 1))
    assert holder_of(tmp_path) is None
    (tmp_path / "lease").touch()
    assert holder_of(tmp_path)
    monkeypatch.setattr(unfinished, "FRESH", -1.0)
    assert holder_of(tmp_path) is None


def test_the_number_of_a_dead_holder_may_be_another_process_s(tmp_path: Path) -> None:
    locked_by(tmp_path, os.uname().nodename, os.getpid())
    (tmp_path / "lease").touch()
    assert holder_of(tmp_path)
    os.utime(tmp_path / "lease", (1, 1))
    assert holder_of(tmp_path) is None


def test_the_time_between_two_attempts_is_not_spent(tmp_path: Path) -> None:
    run = small_run()
    train_until_killed(run, tmp_path, 2 * STEPS + 2)
    folder = tmp_path / "state" / run.hash
    (folder / "lease").unlink(missing_ok=True)
    os.utime(folder / "checkpoint.safetensors", (1, 1))
    locked_by(folder, os.uname().nodename, os.getpid())
    found = look((run,), tmp_path)
    assert found.total.running == 1 and found.total.hours_spent < 1


def recorded(root: Path) -> RecordedSession:
    return RecordedSession(CPU_MACHINE, root / "results", root / "state")


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (DataError("damaged"), 65, "data"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 72, "memory"),
        (OSError(28, "No space left on device", "lock"), 74, "storage"),
        (ZeroDivisionError("oops"), 70, "bug"),
    ],
)
def test_a_session_keeps_why_a_run_failed(
    error: Exception, code: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    run = small_run()
    monkeypatch.setattr(session_module, "open_data", fail)
    assert recorded(tmp_path).train([run]) == code
    failure = failure_of(tmp_path / "state" / run.hash)
    assert failure and (failure.exit_code, failure.kind) == (code, kind)
    assert look((run,), tmp_path).total.failed == {kind: 1}
    monkeypatch.undo()
    assert recorded(tmp_path).train([run]) == 0
    assert not list((tmp_path / "state").iterdir()) and not look((run,), tmp_path).total.failed


def test_being_stopped_or_running_elsewhere_is_no_failure(tmp_path: Path) -> None:
    run = small_run()
    with exclusive(tmp_path / "state" / run.hash, run.id):
        note_failure(tmp_path / "state" / run.hash, Preempted("stopped"))
        assert failure_of(tmp_path / "state" / run.hash) is None


def test_the_table_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    pretend_all(RUNS, tmp_path / "results")
    runs = grid("smoke")
    locked_by(tmp_path / "state" / runs[-1].hash, os.uname().nodename, os.getpid())
    lines = verb.describe(look(runs, tmp_path), width=80).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) > 30


def test_json_and_watch_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="--watch was given with --json"):
        verb.status(watch=True, as_json=True)


def test_the_command_needs_no_torch_and_prints_json(tmp_path: Path) -> None:
    code = "import bitq.status.gather, bitq.status.why, sys; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
    command = [sys.executable, "-m", "bitq.cli", "status", "--scale", "smoke", "--study", "atq", "--json"]
    done = subprocess.run([*command, "--results", str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["total"]["waiting"] == 119


# --- why -------------------------------------------------------------------------------------------------------------

CHILD = next(run for run in grid("smoke", ["bitnet"]) if run.parents)


def judgements(run: Run, root: Path) -> dict[str, str]:
    return {reason.aspect: reason.judgement for reason in why.why(run, root, root / "state").reasons}


def retold(root: Path, **changes: Any) -> Run:
    """A child in the results that was trained as something else than what it is now."""
    parent = next(run for run in grid("smoke", ["bitnet"]) if run.id == CHILD.parents[0].id)
    then = CHILD.model_copy(update=changes)
    pretend_all([parent, then], root)
    return CHILD


def test_a_current_run_differs_in_engine_and_environment_at_most(tmp_path: Path) -> None:
    found = judgements(retold(tmp_path), tmp_path)
    assert [found[aspect] for aspect in ("files", "config", "data", "parent")] == ["same"] * 4
    assert found["code"] == "changed"  # what was pretended names no engine
    assert "may get other bits" in why.why(CHILD, tmp_path, tmp_path).conclusion


def test_another_configuration_makes_it_stale(tmp_path: Path) -> None:
    run = retold(tmp_path, recipe=CHILD.recipe.model_copy(update={"lr": 0.0123}))
    found = why.why(run, tmp_path, tmp_path)
    (config,) = (reason for reason in found.reasons if reason.aspect == "config")
    assert config.judgement == "stale" and config.text == f"recipe.lr 0.0123, now {CHILD.recipe.lr}"
    assert "stale, by config" in found.conclusion


def test_other_data_make_it_stale(tmp_path: Path) -> None:
    run = retold(tmp_path, data=CHILD.data.model_copy(update={"digest": "0" * 64}))
    found = judgements(run, tmp_path)
    assert found["data"] == "stale" and found["config"] == "same"


def test_another_parent_makes_it_stale(tmp_path: Path) -> None:
    assert CHILD.distillation and CHILD.distillation.teacher
    teacher = CHILD.distillation.teacher.model_copy(update={"hash": "0" * 64})
    run = retold(tmp_path, distillation=CHILD.distillation.model_copy(update={"teacher": teacher}))
    found = judgements(run, tmp_path)
    assert found["parent"] == "stale" and found["config"] == "same"


def test_damaged_files_make_it_stale(tmp_path: Path) -> None:
    retold(tmp_path)
    (folder_of(CHILD, tmp_path) / "history.json").write_text("{}")
    assert judgements(CHILD, tmp_path) == {"files": "stale"}


def test_every_reason_is_one_line(tmp_path: Path) -> None:
    retold(tmp_path)
    assert all("\n" not in reason.text for reason in why.why(CHILD, tmp_path, tmp_path).reasons)
