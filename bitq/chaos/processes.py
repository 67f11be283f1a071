"""Start the scheduler of a grid, see its workers, and kill either."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bitq.io import is_alive


def children_of(pid: int) -> list[int]:
    """List the processes that a process has started and that still run."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie, which waits only for its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state != "Z" and is_alive(pid)


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return whether it met a running process."""
    if not is_running(pid):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def wait_for_end(pids: Iterable[int], seconds: float) -> bool:
    """Wait until none of the processes runs; return false if some still do after `seconds`."""
    end = time.monotonic() + seconds
    waiting = [pid for pid in pids if is_running(pid)]
    while waiting and time.monotonic() < end:
        time.sleep(0.05)
        waiting = [pid for pid in waiting if is_running(pid)]
    return not waiting


class Scheduler:
    """A process that trains runs side by side, and whatever workers it has had."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bitq.cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self.seen: set[int] = set()

    @property
    def workers(self) -> list[int]:
        """List the workers that run."""
        found = [pid for pid in children_of(self.process.pid) if is_running(pid)]
        self.seen |= set(found)
        return found

    @property
    def has_ended(self) -> bool:
        """Tell whether it has come to its end by itself or by a signal."""
        return self.process.poll() is not None

    def kill(self) -> bool:
        """Kill the scheduler, and leave its workers without one."""
        self.workers  # noqa: B018, they are remembered
        return send(self.process.pid, signal.SIGKILL) and self.process.wait() < 0

    def kill_everything(self) -> bool:
        """Kill the scheduler and all its workers at once."""
        hit = self.kill()
        for pid in self.seen:
            hit = send(pid, signal.SIGKILL) or hit
        wait_for_end(self.seen, 30)
        return hit
