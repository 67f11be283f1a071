"""Being asked to stop: acknowledge the signal at once, then leave where nothing is lost."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bitq.errors import Preempted

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """A flag set by the first signal; the second ends the process at once, with the last checkpoint on disk."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.work = "the run"
        self.interrupts = False  # does the signal raise Preempted wherever it is met, or wait to be asked for?

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Acknowledge a signal; installed as the handler."""
        if self.received:
            os._exit(Preempted.exit_code)
        self.received = signal.Signals(number)
        _acknowledge(self.received)
        if self.interrupts:
            self.check()

    def __bool__(self) -> bool:
        return self.received is not None

    def check(self) -> None:
        """Raise Preempted if a signal was received."""
        if self.received:
            raise Preempted(
                f"{self.work} was stopped by {self.received.name}; start it again to go on from what is saved."
            )

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


def _acknowledge(received: signal.Signals) -> None:
    # The handler may interrupt a print, whose buffer must not be entered twice: the descriptor itself is safe.
    text = f"bitq: {received.name} received, stopping as soon as nothing is lost; a second signal stops at once.\n"
    with contextlib.suppress(OSError):
        os.write(2, (("\n" if os.isatty(2) else "") + text).encode())


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listen while the block runs, then put the old handlers back."""
    request = StopRequest()
    old = {number: signal.signal(number, request.handle) for number in STOP}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
