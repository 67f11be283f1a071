"""Describe the columns of a table, each in one place, and the arms that are its lines."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bitq.errors import one_of
from bitq.report.notes import Notes
from bitq.report.query import Query, Score
from bitq.report.sources import Record
from bitq.report.tex import at, interval, number, percent, signed, times, whole
from bitq.stats.cells import Cell
from bitq.stats.inference import mean

DELTA = r"$\Delta$ [95\,\% interval]"


@dataclass(frozen=True)
class Column:
    """One column: its head, what it prints of a row, and how it is aligned."""

    head: str | None  # LaTeX; None: the head to the left spans this column too
    cell: Callable[[Any, Notes], object]
    align: str = "r"
    over: str = ""  # LaTeX above the head, shared by adjacent columns that say the same
    once: bool = False  # empty where it says what it said of the row above
    spanning: str = "c"  # alignment of a head that spans several columns


@dataclass(frozen=True)
class Line:
    """One arm at one place as a row of a table, and the arm that it is set against."""

    query: Query
    dataset: str
    model: str
    arm: str
    other: str | None = None
    group: str = ""
    named: str = ""

    @property
    def label(self) -> str:
        """Name of the arm in this table, that of its study if the table has none of its own."""
        return self.named or self.query.sources.prints.label(self.arm)

    def of(self, **changes: Any) -> "Line":
        """Return the same line with another arm or place."""
        return replace(self, **changes)

    @cached_property
    def runs(self) -> Cell | None:
        """Runs of the arm; None if it was not run."""
        return self.query.cell(self.dataset, self.model, self.arm)

    @cached_property
    def score(self) -> Score | None:
        """Accuracy of the arm; None if it is not part of this scale."""
        return self.query.score(self.dataset, self.model, self.arm)

    @cached_property
    def difference(self) -> Record | None:
        """The arm minus the other one, paired by seed."""
        if self.other is None:
            return None
        return self.query.difference(self.dataset, self.model, self.arm, self.other)

    @property
    def n(self) -> int | None:
        """Number of pairs; of seeds where the arm is set against no other."""
        if self.difference:
            return int(self.difference["n"])
        return self.score.n if self.score else None

    def mean(self, column: str) -> float | None:
        """Average a column of the table of runs."""
        if self.runs is None:
            return None
        if column not in self.runs.rows.columns:
            raise one_of("column of the table of runs", column, self.runs.rows.columns)
        return mean(self.runs.values(column))


def there(lines: Iterable[Line]) -> list[Line]:
    """Keep the arms that are part of this scale; of one whose runs are missing the table says so."""
    return [line for line in lines if line.score]


# --- columns of lines -------------------------------------------------------------------------------------------------


def label(head: str) -> Column:
    """Print what the arm is called."""
    return Column(head, lambda line, _: line.label, "l")


def accuracy(head: str = "Accuracy", **changes: str) -> Column:
    """Print mean and standard deviation of the arm, or of the one that `changes` make of it."""
    return Column(head, lambda line, notes: notes.score(line.of(**changes).score), "c")


def of_runs(head: str, column: str, form: Callable[[float | None], object] = whole, over: str = "") -> Column:
    """Print the mean of a column of the table of runs."""
    return Column(head, lambda line, _: form(line.mean(column)), over=over)


def difference(head: str = r"$\Delta$") -> Column:
    """Print the difference to the other arm, marked if pairs of it are incomplete."""
    return Column(head, lambda line, notes: notes.difference(line.difference))


def delta(of: Callable[[Any], Record | None] = lambda line: line.difference, head: str = DELTA) -> Sequence[Column]:
    """Print a difference, marked if pairs of it are incomplete, with its interval."""
    return (Column(head, lambda row, notes: notes.difference(of(row))), _bounds(of))


def pairs() -> Column:
    """Print the number of pairs behind the difference."""
    return Column("n", lambda line, _: line.n)


def baseline(head: str | None) -> Column:
    """Print the mean of the other arm over these pairs."""
    return Column(head, lambda line, _: number(at(line.difference, "mean_b")))


def change() -> Sequence[Column]:
    """Print the difference with its interval, in a table that shows the number of pairs."""
    shown = Column(DELTA, lambda line, _: signed(at(line.difference, "difference")))
    return (shown, _bounds(lambda line: line.difference))


def _bounds(of: Callable[[Any], Record | None]) -> Column:
    return Column(None, lambda row, _: interval(at(of(row), "interval")), "l")


BYTES = of_runs("Bytes", "file_bytes")
COMPRESSION = of_runs("Compression", "compression", times)
COMPR = of_runs("Compr.", "compression", times)
BITS = of_runs("Bits", "bits_per_packed_weight", number)
ZEROS = of_runs(r"Zeros, \%", "zeros", percent)
COVERAGE = of_runs(r"Coverage, \%", "coverage", percent)
