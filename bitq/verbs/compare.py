"""Compare results."""

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from bitq.errors import Differs
from bitq.terminal import table
from bitq.verbs.common import Json, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bitq.stats.compare import CellComparison, Comparison

Place = Annotated[str, typer.Argument(metavar="A|B", help="A folder of results or one in it, or a scale.")]


def compare(a: Place, b: Place, as_json: Json = False) -> None:
    """Compare two sets of results, cell by cell.

    A cell is one arm of a network on a data set, with all its seeds. It is identical if runs of equal seed are equal in
    every byte that a run must reproduce, compatible if the spread over seeds explains the difference (Welch's t test;
    with a single seed an exact test over the test images), different otherwise, at 5 % by Holm's method over all cells.
    Exit code 0: nothing is different; 1: something is.
    """
    from bitq.stats.compare import compare as compare_results

    found = compare_results(a, b)
    emit(found.model_dump(mode="json"), as_json, describe(found))
    if different := found.count("different"):
        raise Differs(f"{different} of {len(found.cells)} cells of {a} and {b} are different.")


def describe(found: "Comparison") -> str:
    """Lay a comparison out for people."""
    titles = ("cell", "is", "runs A", "B", "equal", "% A", "% B", "p")
    counts = ", ".join(f"{found.count(answer)} {answer}" for answer in ("identical", "compatible", "different"))
    lines = [table(titles, _rows(found.cells), left=2), f"{len(found.cells)} cells: {counts}"]
    if any(cell.test == "images" for cell in found.cells):
        lines.append("* of the images of a single run on each side, whose spread over seeds nobody knows")
    for name, only in ((found.a, found.only_a), (found.b, found.only_b)):
        if only:
            lines.append(f"not compared, only in {name}: {len(only)} cells, {only[0]} for one")
    return "\n".join(lines)


def _rows(cells: "Sequence[CellComparison]") -> list[tuple[object, ...]]:
    """List arms below their network and data set, and these below their study."""
    rows: list[tuple[object, ...]] = []
    for study, settings in groupby(cells, lambda cell: cell.cell.partition("/")[0]):
        rows.append((study, *[""] * 7))
        for setting, arms in groupby(settings, lambda cell: cell.cell.partition("/")[2].rpartition("/")[0]):
            rows += [(f" {setting}", *[""] * 7), *map(_row, arms)]
    return rows


def _row(cell: "CellComparison") -> tuple[object, ...]:
    accuracies = (None if value is None else f"{value:.2f}" for value in (cell.accuracy_a, cell.accuracy_b))
    p = None if cell.p is None else f"{cell.p:.3f}{'*' if cell.test == 'images' else ''}"
    arm = f"  {cell.cell.rpartition('/')[2]}"
    return (arm, cell.answer, cell.runs_a, cell.runs_b, cell.equal, *accuracies, p)
