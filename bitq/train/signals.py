"""Being asked to stop: finish the step, save, leave."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bitq.errors import Preempted

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Set by the first signal; the second ends the process at once, with the last checkpoint on disk."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Installed as the signal handler."""
        if self.received:
            os._exit(Preempted.exit_code)
        self.received = signal.Signals(number)

    def __bool__(self) -> bool:
        return self.received is not None


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
