"""Lay rows out as a table: within the width of a terminal, as wide as they are for a file or a pipe."""

import io
import os
import sys
from collections.abc import Sequence

UNLIMITED = 10_000  # columns


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1, width: int | None = None) -> str:
    """Lay out rows below their titles; the first `left` columns are texts, all others numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, title in enumerate(titles):
        shown.add_column(title, justify="left" if number < left else "right", overflow="fold", no_wrap=number >= left)
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    page = io.StringIO()
    Console(file=page, width=width or width_of_terminal(), color_system=None, markup=False).print(shown)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip("\n").splitlines())


def width_of_terminal() -> int:
    """Return the columns of the terminal; as many as are wanted where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or UNLIMITED
    except (OSError, ValueError):
        return UNLIMITED
