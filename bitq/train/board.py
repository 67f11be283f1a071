"""Show runs side by side: on a terminal a table that is redrawn in place, in a log each run's own lines."""

import threading
from typing import TYPE_CHECKING, TextIO

from bitq.train.progress import Display

if TYPE_CHECKING:
    from rich.table import Table


class Board(Display):
    """How many runs are done, and the last epoch of each that is trained now."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self.total, self.done = total, 0
        self.running: dict[str, str] = {}
        self.lock = threading.Lock()  # every worker's lines come from a thread of its own

    def begin(self, run: str) -> None:
        """Add a run to those that are trained now."""
        with self.lock:
            self.running[run] = "begins"
            self._draw()

    def end(self, run: str) -> None:
        """Count a run as over."""
        with self.lock:
            self.running.pop(run, None)
            self.done += 1
            self._draw()

    def hear(self, line: str) -> None:
        """Take a line of a worker: an epoch of its run goes into the table, anything else stays above it."""
        run, _, rest = line.rstrip("\n").partition("  ")
        with self.lock:
            if self.live is None:
                self.stream.write(line)
            elif run in self.running and rest.startswith("epoch "):
                self.running[run] = rest
                self._draw()
            else:
                self.live.console.print(line.rstrip("\n"), soft_wrap=True)

    def _draw(self) -> None:
        if self.live:
            self.live.update(self._table(), refresh=True)

    def _table(self) -> "Table":
        from rich.table import Table

        waiting = self.total - self.done - len(self.running)
        title = f"{self.done} of {self.total} runs over, {len(self.running)} in training, {waiting} waiting"
        table = Table(
            title=title, title_justify="left", title_style="", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        for ratio in (3, 4):
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
        for run, last in self.running.items():
            table.add_row(run, last)
        return table
