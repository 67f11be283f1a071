"""Start the scheduler of a grid, see its workers, and kill either, and never another process that got their number."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process by its number and the time of its start: numbers are given to others once they are free."""

    pid: int
    started: int  # ticks since the machine was started

    @property
    def is_running(self) -> bool:
        """Tell whether it still exists and is no zombie, which waits only for its parent."""
        state, started = _stat(self.pid)
        return started == self.started and state != "Z"

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; return whether it met the process while it ran."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
                return True
        return False


def process(pid: int) -> Process:
    """Identify the process that has a number now."""
    return Process(pid, _stat(pid)[1])


def _stat(pid: int) -> tuple[str, int]:
    """Read state and start of a process; no state if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return "", -1
    return fields[0], int(fields[19])


def children_of(parent: Process) -> list[Process]:
    """List the processes that a process has started and that still run."""
    with suppress(OSError):
        words = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        found = [process(int(word)) for word in words]
        return [each for each in found if each.is_running] if parent.is_running else []
    return []


def wait_for_end(processes: Iterable[Process], seconds: float) -> bool:
    """Wait until none of the processes runs; return false if some still do after `seconds`."""
    end = time.monotonic() + seconds
    waiting = [each for each in processes if each.is_running]
    while waiting and time.monotonic() < end:
        time.sleep(0.05)
        waiting = [each for each in waiting if each.is_running]
    return not waiting


class Scheduler:
    """A process that trains runs side by side, and whatever workers it has had."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "bitq.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self.process = process(self.popen.pid)
        self.seen: set[Process] = set()

    @property
    def workers(self) -> list[Process]:
        """List the workers that run."""
        found = children_of(self.process)
        self.seen |= set(found)
        return found

    @property
    def exit_code(self) -> int | None:
        """Return how it ended; none while it runs."""
        return self.popen.poll()

    def kill(self) -> bool:
        """Kill the scheduler, and leave its workers, which are remembered, without one."""
        self.seen |= set(children_of(self.process))
        return self.process.send(signal.SIGKILL) and self.popen.wait() < 0

    def kill_everything(self) -> bool:
        """Kill the scheduler and all its workers at once."""
        hit = self.kill()
        for worker in self.seen:
            hit = worker.send(signal.SIGKILL) or hit
        wait_for_end(self.seen, 30)
        return hit
