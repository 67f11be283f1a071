"""Being asked to stop: acknowledge the signal at once, then leave where nothing is lost."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bitq.deadline import seconds_to_work
from bitq.errors import Preempted

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
ONE_REQUEST = 1.0  # s: a cluster signals every process of a job, whose parents pass the signal on


class StopRequest:
    """A flag set by the first signal; the second ends the process at once, with the last checkpoint on disk."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.cause = ""
        self.since = 0.0
        self.work = "the run"
        self.interrupts = False  # does the signal raise Preempted wherever it is met, or wait to be asked for?

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Acknowledge a signal; installed as the handler."""
        if self.received and time.monotonic() - self.since > ONE_REQUEST:
            os._exit(Preempted.exit_code)
        if not self.received:
            self._stop(signal.Signals(number), signal.Signals(number).name)

    def expire(self, _number: int, _frame: FrameType | None) -> None:
        """Stop at the deadline as a signal would; installed as the handler of the timer."""
        if not self.received:
            self._stop(signal.SIGTERM, "its deadline")

    def _stop(self, number: signal.Signals, cause: str) -> None:
        self.received, self.cause, self.since = number, cause, time.monotonic()
        _acknowledge(cause)
        if self.interrupts:
            self.check()

    def __bool__(self) -> bool:
        return self.received is not None

    def check(self) -> None:
        """Raise Preempted if a signal was received."""
        if self.received:
            raise Preempted(f"{self.work} was stopped by {self.cause}; start it again to go on from what is saved.")

    @contextmanager
    def interrupting(self, work: str) -> Iterator[None]:
        """Let a signal raise Preempted at once: for work that can be dropped, whose files are written atomically."""
        before, self.interrupts, self.work = (self.interrupts, self.work), True, work
        try:
            self.check()
            yield
        finally:
            self.interrupts, self.work = before

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a signal wait for the end of the block, which has then saved what it changed."""
        before, self.interrupts = self.interrupts, False
        try:
            yield
        finally:
            self.interrupts = before
        self.check()


def _acknowledge(cause: str) -> None:
    # The handler may interrupt a print, whose buffer must not be entered twice: the descriptor itself is safe.
    came = "its deadline is near" if cause == "its deadline" else f"{cause} received"
    _say(f"bitq: {came}, stopping as soon as nothing is lost; a second signal stops at once.\n")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, (("\n" if os.isatty(2) else "") + text).encode())


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listen for signals and the deadline while the block runs, then put the old handlers back."""
    request = StopRequest()
    handlers = dict.fromkeys(STOP, request.handle) | {signal.SIGALRM: request.expire}
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    left = seconds_to_work()
    if left is not None:  # 0 would stop the timer
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))
    try:
        yield request
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


def stop_while_starting() -> None:
    """Let a signal end the process as a stopped run until `stop_on_signals` takes over: there is nothing to save."""
    for number in STOP:
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    _say(f"bitq: {signal.Signals(number).name} received, nothing was begun; start it again.\n")
    os._exit(Preempted.exit_code)
