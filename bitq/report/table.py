"""Render tables: of rows and columns, or from a template of their own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from bitq.report import names
from bitq.report.columns import Column
from bitq.report.notes import Notes
from bitq.report.query import Query
from bitq.report.tex import NONE, Tex, escape, listed, render, render_text

RULE, SPACE = r"\midrule", r"\addlinespace"
HERE, ANYWHERE, SHORT = "!ht", "htbp", 20  # positions of a float, and the lines of a table that stays where it is
LONG = 40  # lines of a table that may break across pages
TOGETHER = 4  # lines at the end of a table: no page break comes between them; \\* ends a line so
NOTHING = "% Written by: bitq tables. No run shown has anything to put here.\n"


@dataclass(frozen=True)
class Table:
    """A table of rows and columns, `<name>.tex`, labelled tab:<name>."""

    name: str
    rows: Callable[[Query], list[Any]]
    columns: Sequence[Column]
    caption: str  # LaTeX, as a template with the names query and rows
    group: Callable[[Any], object] | None = None  # the heading under which a row stands
    between: str = RULE  # groups
    size: str = r"\footnotesize"
    position: str = ""  # of the float, if not by its length
    breaks: bool = False  # across pages, however few its rows are

    def text(self, query: Query) -> str:
        """Render the table as LaTeX; without rows it is a comment."""
        rows, notes = self.rows(query), Notes()
        if not rows:
            return NOTHING
        # First, since the caption counts the runs behind the cells.
        cells = [[escape(column.cell(row, notes)) for column in self.columns] for row in rows]
        kept = with_values(self.columns, cells)
        columns = [self.columns[place] for place in kept]
        head = list(heads(columns))
        lines = unparted(self._lines(columns, rows, [[line[place] for place in kept] for line in cells]))
        caption = render_text(f"{self.caption}{self._left_out(kept)}", query=query, rows=rows)
        spec = f"@{{}}{''.join(column.align for column in columns)}@{{}}"
        table: dict[str, Tex | list[Tex]] = {"caption": Tex(caption), "size": Tex(self.size), "spec": Tex(spec)}
        table |= {"head": [*map(Tex, head)], "lines": [*map(Tex, lines)]}
        table["position"] = Tex(self.position or _position(spec, lines))
        template = "long_columns.tex.j2" if self.breaks or len(lines) > LONG else "columns.tex.j2"
        return render(template, name=self.name, source=place(self.rows), query=query, notes=notes, table=table)

    def _left_out(self, kept: Sequence[int]) -> str:
        """Name the columns that are left out, since a caption may speak of them."""
        lost = [column for number, column in enumerate(self.columns) if number not in kept]
        named = [f"{column.over} {column.head}".strip() if column.head else "interval" for column in lost]
        return f" Without a value in these runs, and left out: {listed(list(dict.fromkeys(named)))}." if named else ""

    def _lines(self, columns: Sequence[Column], rows: list[Any], cells: list[list[str]]) -> Iterator[str]:
        headed = zip(map(self.group or (lambda _: ""), rows), cells, strict=True)
        for number, (heading, group) in enumerate(groupby(headed, lambda each: each[0])):
            if number:
                yield self.between
            if heading:
                yield rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\emph{{{escape(heading)}}}}} \\*"
            yield from _body(columns, [line for _, line in group])


def unparted(lines: Iterable[str]) -> list[str]:
    """Keep the last lines of a table on one page, so that none stands alone on the next."""
    lines = list(lines)
    last = range(max(0, len(lines) - TOGETHER), len(lines) - 1)
    return [f"{line}*" if number in last and line.endswith(r"\\") else line for number, line in enumerate(lines)]


def _position(spec: str, lines: Sequence[str]) -> str:
    """Keep a short table where it stands in the text, so that it cannot drift; a long one may move to fill pages."""
    return HERE if len(lines) <= SHORT and "p{" not in spec else ANYWHERE


def _body(columns: Sequence[Column], lines: list[list[str]]) -> Iterator[str]:
    above: list[str] = [""] * len(columns)
    for cells in lines:
        repeated = zip(columns, cells, above, strict=True)
        shown = ["" if column.once and cell == before else cell for column, cell, before in repeated]
        above = cells
        yield rf"{' & '.join(shown)} \\"


def with_values(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    """List the columns in which at least one cell has a value; a head that spans others stays with any of them."""
    there = [any(line[place] not in ("", NONE) for line in cells) for place in range(len(columns))]
    return [
        place
        for place, column in enumerate(columns)
        if there[place] or (column.head and any(there[other] for other in _spanned(columns, place)))
    ]


def _spanned(columns: Sequence[Column], place: int) -> Iterator[int]:
    """Yield the columns to the right that share the head of one."""
    for other in range(place + 1, len(columns)):
        if columns[other].head is not None:
            return
        yield other


def heads(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of the heads: those that several columns share above, with rules below them."""
    if any(column.over for column in columns):
        above = list(_spans([column.over for column in columns], lambda one, other: bool(one) and one == other))
        yield _row((text, end - start, "c") for text, start, end in above)
        rules = [rf"\cmidrule(lr){{{start + 1}-{end}}}" for _, start, end in above if end - start > 1]
        yield "".join(rules)
    spans = _spans([column.head for column in columns], lambda one, other: other is None)
    yield _row((text, end - start, columns[start].spanning) for text, start, end in spans)


def _spans(
    texts: Sequence[str | None], joined: Callable[[str | None, str | None], bool]
) -> Iterator[tuple[str, int, int]]:
    """Yield the texts of adjacent columns that are joined, with the first column and the one after the last."""
    start = 0
    for end in range(1, len(texts) + 1):
        if end == len(texts) or not joined(texts[start], texts[end]):
            yield texts[start] or "", start, end
            start = end


def _row(heads: Iterable[tuple[str, int, str]]) -> str:
    cells = [rf"\multicolumn{{{width}}}{{{align}}}{{{text}}}" if width > 1 else text for text, width, align in heads]
    return rf"{' & '.join(cells)} \\"


@dataclass(frozen=True)
class Template:
    """A table that no grid of rows and columns describes: the template `<name>.tex.j2` prints it."""

    name: str
    rows: Callable[[Query], Any]

    def text(self, query: Query) -> str:
        """Render the table as LaTeX."""
        rows = self.rows(query)
        if not rows:
            return NOTHING
        values = {"rows": rows, "query": query, "notes": Notes(), "names": names}
        return render(f"{self.name}.tex.j2", name=self.name, source=place(self.rows), **values)


def place(function: Callable[..., Any]) -> str:
    """Name the module and function of a table, as the mark below its caption prints it."""
    plain = function.func if isinstance(function, partial) else function
    return f"{plain.__module__.replace('.', '/')}.py:{plain.__name__}"
