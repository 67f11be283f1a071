"""How far a run is: one line that moves on a terminal and leaves one an epoch; in a log, one line an epoch."""

import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.live import Live

REDRAW = 0.2  # seconds at least from one drawing to the next
Item = TypeVar("Item")


class Display:
    """What is drawn again in place on a terminal while it is open; `live` is None where nothing can be."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = live_line(self.stream)

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
            self.live.console.show_cursor(True)  # a killed process could not bring a hidden one back
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()


class Progress(Display):
    """Phase, epoch, loss, accuracy, time left and training images per second of one run."""

    def __init__(
        self, title: str, epochs: int, steps: int, done_epochs: float = 0.0, stream: TextIO | None = None
    ) -> None:
        super().__init__(stream)
        self.title, self.epochs, self.steps = title, epochs, steps
        self.phase, self.scores = "preparing", ""
        self.first = self.done = float(done_epochs)
        self.start = self.last = self.drawn = time.monotonic()
        self.images, self.training_seconds = 0, 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        if self.live:
            self.live.console.print(self.title, soft_wrap=True)
        return self

    def begin(self, phase: str) -> None:
        """Show what the run does now."""
        self.phase, self.last = phase, time.monotonic()
        self._draw()

    def watch(self, phase: str, batches: Sequence[Item]) -> Iterator[Item]:
        """Pass the batches on, and show the share of them that is done."""
        for number, batch in enumerate(batches):
            self.begin(f"{phase} {100 * number // len(batches)} %")
            yield batch

    def step(self, epoch: int, step: int, images: int) -> None:
        """Count a training batch, the `step`-th of its epoch."""
        now = time.monotonic()
        self.images += images
        self.training_seconds += now - self.last
        self.last, self.done = now, epoch + step / self.steps
        if now - self.drawn > REDRAW:
            self._draw()

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        """Leave a line at the end of an epoch."""
        self.done, self.scores = epoch + 1.0, f"loss {loss:.3f}  test {accuracy:.2f} %"
        self._leave(self._line(f"epoch {epoch + 1}/{self.epochs}"))

    def close(self, outcome: str) -> None:
        """Leave the last line of the run."""
        self._leave(outcome)

    @property
    def rate(self) -> float:
        """Return training images per second of training alone."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def _line(self, place: str) -> str:
        done = self.done - self.first
        left = (time.monotonic() - self.start) / done * (self.epochs - self.done) if done else None
        times = f"{clock(left)} left  {self.rate:.0f} images/s" if left is not None else ""
        return "  ".join(filter(None, (place, self.scores, times)))

    def _draw(self) -> None:
        if self.live:
            from rich.text import Text

            line = self._line(f"{self.phase}  {self.done:.1f}/{self.epochs}")
            self.live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
            self.drawn = time.monotonic()

    def _leave(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, soft_wrap=True)
        else:
            self.stream.write(f"{self.title}  {line}\n")
            self.stream.flush()


def live_line(stream: TextIO) -> "Live | None":
    """Return a line that can be drawn again in place; None where the stream is no terminal that can do it."""
    if not stream.isatty():
        return None
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    # Without auto_refresh there is no thread, which a signal or a fork would have to mind.
    return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)


def clock(seconds: float) -> str:
    """Write a duration for people.

    >>> clock(59), clock(61), clock(90000)
    ('59 s', '1:01', '25:00:00')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}" if minutes else f"{rest} s"
