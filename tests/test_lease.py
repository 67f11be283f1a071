"""One process per run: dead holders are succeeded, living ones never, whatever the clocks and the file system do."""

import errno
import fcntl
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bitq.errors import Preempted
from bitq.train import lock
from bitq.train.lock import exclusive
from bitq.train.signals import stop_on_signals
from tests.support import in_child

HOUR = 3600


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE", 1.0)
    monkeypatch.setattr(lock, "BEAT", 0.1)


@pytest.fixture
def no_kernel_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system that passes none on."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@contextmanager
def holder(folder: Path, machine: str | None = None) -> Iterator[int]:
    """A process that holds the folder, of this or of another machine; ended in the end."""

    def hold() -> int:
        if machine:
            socket.gethostname = lambda: machine
        try:
            with stop_on_signals() as stop, stop.interrupting("it"), exclusive(folder, "it"):
                (folder / "held").touch()
                while True:
                    time.sleep(0.02)
        except Preempted as error:
            return error.exit_code

    child = forked(hold)
    until((folder / "held").exists)
    try:
        yield child
    finally:
        if not ended(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def forked(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(work())
    return child


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def seconds_to_take(folder: Path) -> float:
    start = time.monotonic()
    with exclusive(folder, "it"):
        return time.monotonic() - start


def test_a_killed_holder_of_this_machine_is_succeeded_at_once(tmp_path: Path, no_kernel_locks: None) -> None:
    with holder(tmp_path / "run") as child:
        kill(child)
        assert seconds_to_take(tmp_path / "run") < lock.LEASE / 2


def test_a_holder_of_this_machine_is_named_at_once(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as child, pytest.raises(Preempted, match=f"already running .*{child}"):
        seconds_to_take(tmp_path / "run")


@pytest.mark.parametrize("jump", [0, 3 * HOUR, -3 * HOUR])
def test_a_killed_holder_elsewhere_is_succeeded_after_its_lease_whatever_the_clock(
    jump: int, tmp_path: Path, no_kernel_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(tmp_path / "run", "node7") as child:
        kill(child)
        told = time.time() + jump
        os.utime(tmp_path / "run/lease", (told, told))
        monkeypatch.setattr(time, "time", lambda: told - 2 * jump)
        assert lock.LEASE <= seconds_to_take(tmp_path / "run") < 4 * lock.LEASE


def test_a_holder_elsewhere_is_never_robbed_while_clocks_jump(
    tmp_path: Path, no_kernel_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumping = itertools.cycle([0.0, 3.0 * HOUR, 7.0e9])
    with holder(tmp_path / "run", "node7") as child:
        monkeypatch.setattr(time, "time", lambda: next(jumping))
        for _ in range(2):
            with pytest.raises(Preempted, match=rf"already running \(node7 {child}\); wait for it"):
                seconds_to_take(tmp_path / "run")
        assert not ended(child)


def test_who_stood_still_for_too_long_stops_when_it_wakes(tmp_path: Path, no_kernel_locks: None) -> None:
    with holder(tmp_path / "run", "node7") as child:
        os.kill(child, signal.SIGSTOP)
        with exclusive(tmp_path / "run", "it"):
            os.kill(child, signal.SIGCONT)
            assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == Preempted.exit_code
        assert seconds_to_take(tmp_path / "run") < lock.LEASE / 2


def test_of_many_that_wait_for_a_dead_holder_one_succeeds_it(tmp_path: Path, no_kernel_locks: None) -> None:
    folder, starters = tmp_path / "run", 6

    def contend() -> int:
        try:
            with exclusive(folder, "it"):
                os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if another one is
                time.sleep(3 * lock.LEASE)
                (folder / "inside").unlink()
                return 0
        except Preempted as error:
            return error.exit_code

    with holder(folder, "node7") as child:
        kill(child)
        children = [forked(contend) for _ in range(starters)]
        codes = sorted(os.WEXITSTATUS(os.waitpid(one, 0)[1]) for one in children)
    assert codes == [0] + [Preempted.exit_code] * (starters - 1)


def test_nothing_is_left_of_a_finished_runs_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run", "it"):
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        (tmp_path / "run").rmdir()
    assert not (tmp_path / "run").exists()
    assert in_child(lambda: int(seconds_to_take(tmp_path / "run") > lock.LEASE)) == 0
