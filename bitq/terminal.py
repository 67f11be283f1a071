"""Lay rows out as a table: within the width of a terminal, as wide as they are for a file or a pipe."""

import io
import os
import sys
from collections.abc import Mapping, Sequence

UNLIMITED = 10_000  # columns


def table(
    titles: Sequence[str], rows: Sequence[Sequence[object]], left: int | None = None, width: int | None = None
) -> str:
    """Lay out rows below their titles, the first `left` columns to the left, or those that hold anything but numbers.

    >>> print(table(("run", "file bytes"), [("a", 12345), ("bcd", None)]))
    run  file bytes
    a        12,345
    bcd           –
    """
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, title in enumerate(titles):
        is_number = number >= left if left is not None else all(isinstance(row[number], Number) for row in rows)
        shown.add_column(title, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        shown.add_row(*map(cell, row))
    page = io.StringIO()
    Console(file=page, width=width or width_of_terminal(), color_system=None, markup=False).print(shown)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip("\n").splitlines())


Number = int | float | None


def records_table(records: Sequence[Mapping[str, object]]) -> str:
    """Lay out records of equal keys below the names of their keys, in lines that no terminal shortens."""
    if not records:
        return ""
    titles = [key.replace("_", " ") for key in records[0]]
    return table(titles, [tuple(record.values()) for record in records], width=UNLIMITED)


def cell(value: object) -> str:
    """Write a value: two decimals of a fraction, thousands apart, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def width_of_terminal() -> int:
    """Return the columns of the terminal; as many as are wanted where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or UNLIMITED
    except (OSError, ValueError):
        return UNLIMITED
