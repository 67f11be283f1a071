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
from bitq.report.tex import Tex, escape, not_run, render, render_text

RULE, SPACE = r"\midrule", r"\addlinespace"


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
    empty: str = ""  # said where there are no rows, if not that nothing was run

    def text(self, query: Query) -> str:
        """Render the table as LaTeX."""
        rows, notes = self.rows(query), Notes()
        lines = list(self._lines(rows, notes))  # first, since the caption counts the runs behind the cells
        caption = render_text(f"{self.caption}", query=query, rows=rows)
        table = {"caption": Tex(caption), "size": Tex(self.size), "spec": Tex(self.spec), "lines": map(Tex, lines)}
        return render("columns.tex.j2", name=self.name, source=place(self.rows), query=query, notes=notes, table=table)

    @property
    def spec(self) -> str:
        """The alignment of all columns."""
        return f"@{{}}{''.join(column.align for column in self.columns)}@{{}}"

    def _lines(self, rows: list[Any], notes: Notes) -> Iterator[str]:
        yield from heads(self.columns)
        if not rows:
            nothing = rf"\multicolumn{{{len(self.columns)}}}{{c}}{{{self.empty}}} \\"
            yield from (RULE, nothing if self.empty else not_run(len(self.columns)))
        for number, (heading, group) in enumerate(groupby(rows, self.group or (lambda _: ""))):
            yield self.between if number else RULE
            if heading:
                yield rf"\multicolumn{{{len(self.columns)}}}{{@{{}}l}}{{\emph{{{escape(heading)}}}}} \\"
            yield from self._body(group, notes)

    def _body(self, rows: Iterable[Any], notes: Notes) -> Iterator[str]:
        above: list[str] = [""] * len(self.columns)
        for row in rows:
            cells = [escape(column.cell(row, notes)) for column in self.columns]
            repeated = zip(self.columns, cells, above, strict=True)
            shown = ["" if column.once and cell == before else cell for column, cell, before in repeated]
            above = cells
            yield rf"{' & '.join(shown)} \\"


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
    """Yield the texts of neighbours that are joined, with the first column and the one after the last."""
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
        values = {"rows": rows, "query": query, "notes": Notes(), "names": names}
        return render(f"{self.name}.tex.j2", name=self.name, source=place(self.rows), **values)


def place(function: Callable[..., Any]) -> str:
    """Name the module and function of a table, as the mark below its caption prints it."""
    plain = function.func if isinstance(function, partial) else function
    return f"{plain.__module__.replace('.', '/')}.py:{plain.__name__}"
