"""How far a run is: one line that moves on a terminal, one line an epoch in a log."""

import sys
import time
from typing import TextIO


class Progress:
    """Epoch, accuracy, images per second and the time left, of one run."""

    def __init__(self, title: str, epochs: int, steps: int, done_epochs: int = 0, stream: TextIO | None = None) -> None:
        self.title, self.epochs, self.steps = title, epochs, steps
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.start = self.last = time.monotonic()
        self.first_epoch = done_epochs
        self.images = 0
        self.accuracy = ""

    def step(self, epoch: int, step: int, images: int) -> None:
        """Count a batch, the `step`-th of its epoch; redraw at most five times a second."""
        self.images += images
        now = time.monotonic()
        if self.live and now - self.last > 0.2:
            self.last = now
            self._write(f"\r{self._line(epoch + step / self.steps)}\x1b[K")

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        """Tell the end of an epoch."""
        self.accuracy = f"loss {loss:.3f}  test {accuracy:.2f} %  "
        self._write(f"\r{self._line(epoch + 1)}\x1b[K" if self.live else self._line(epoch + 1) + "\n")

    def close(self, outcome: str) -> None:
        """The last line of the run."""
        self._write(("\r" if self.live else "") + f"{self.title}  {outcome}" + ("\x1b[K\n" if self.live else "\n"))

    @property
    def seconds(self) -> float:
        """Since this process began to work on the run."""
        return time.monotonic() - self.start

    @property
    def rate(self) -> float:
        """Training images per second, evaluation included."""
        return self.images / max(self.seconds, 1e-9)

    def _line(self, done: float) -> str:
        left = self.seconds / max(done - self.first_epoch, 1e-9) * (self.epochs - done)
        return (
            f"{self.title}  epoch {done:.1f}/{self.epochs}  {self.accuracy}{self.rate:.0f} images/s  {clock(left)} left"
        )

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def clock(seconds: float) -> str:
    """A duration for people.

    >>> clock(59), clock(61), clock(90000)
    ('59 s', '1:01', '25:00:00')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}" if minutes else f"{rest} s"
