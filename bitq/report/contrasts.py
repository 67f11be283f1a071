"""Tabulate all contrasts, a row for each pair of arms and a column for each place, and write them as CSV."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from bitq.report import names
from bitq.report.notes import Notes
from bitq.report.query import Query, least_to_most
from bitq.report.sources import Record, Sources
from bitq.report.table import NOTHING, place
from bitq.report.tex import Tex, at, render, render_text

Row = dict[str, Any]
FILE = "all-contrasts.csv"  # among the tables: all statistics, too many for the appendix
# Column of the file → its keys in the record of a contrast.
COLUMNS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("study", "scale", "dataset", "model", "arm_a", "arm_b", "n", "unpaired")},
    **{name: (name,) for name in ("mean_a", "mean_b", "difference", "sd")},
    "p": ("p",),
    "p_holm": ("p_holm",),
    "p_welch": ("welch", "p"),
    "p_equivalence": ("equivalence", "p"),
    **{name: (name,) for name in ("d_z", "hedges_g", "detectable")},
}
INTERVALS = ("interval", "interval_images")
# What stands in a cell, for captions.
EXPLAINED = (
    "Each cell is the mean difference in points over n pairs of one seed, first arm minus second, $\\pm$ half of its "
    "95\\,\\% $t$ interval; bold where the paired $t$ test has $p_\\mathrm{H} < << query.sources.stats.settings.alpha "
    ">>$ after Holm's correction within the family. MDE is the smallest difference that this test finds with a power "
    "of << query.sources.stats.settings.power >>, the median over the row. A layer's name stands for BitNet with that "
    "layer in FP32. A contrast is marked secondary where another family has it with more seeds; that one is "
    "primary."
)


@dataclass(frozen=True)
class Pivot:
    """A table of contrasts `<name>.tex`: a row for each pair of arms and a column for each place."""

    name: str
    rows: Callable[[Query], Row]
    caption: str  # LaTeX, as a template with the names query and rows
    gap: str = "4pt"  # between columns

    def text(self, query: Query) -> str:
        """Render the table as LaTeX."""
        rows = self.rows(query)
        if not rows["blocks"]:
            return NOTHING
        values = {"rows": rows, "query": query, "notes": Notes()}
        table = {"caption": Tex(render_text(self.caption, **values)), "gap": Tex(self.gap)}
        return render("pivot.tex.j2", name=self.name, source=place(self.rows), table=table, **values)


def everything(query: Query) -> Row:
    """Tabulate every family of every study."""
    return joined([block(of, tuple(of.sources.families)) for of in query.each()])


def joined(blocks: Sequence[Row | None]) -> Row:
    """Join the studies that have contrasts, at the width of the widest, and count the significant contrasts."""
    there = [block for block in blocks if block]
    rows = [row for block in there for family in block["families"] for row in family["rows"]]
    found = [cell["significant"] for row in rows for cell in row["cells"] if cell]
    width = max((len(block["columns"]) for block in there), default=1)
    return {"blocks": there, "width": width, "tests": len(found), "significant": sum(found)}


def block(query: Query, families: Sequence[str]) -> Row | None:
    """Build the block of a study: its families, and its places of one kind side by side."""
    contrasts = {name: found for name in families if (found := list(query.family(name)))}
    if not contrasts:
        return None
    columns, rest = ("model", "dataset") if query.sources.prints.across == "model" else ("dataset", "model")
    there = {record[columns] for found in contrasts.values() for record in found}
    across = names.in_order(columns, there)
    known = query.sources.families
    return {
        "study": query.sources.study,
        "columns": [names.short(names.printed(columns, name)) for name in across],
        "families": [
            {
                "question": known[name]["question"],
                "n": least_to_most(pd.Series([record["n"] for record in found])),
                "rows": list(_rows(query, found, columns, across, rest)),
            }
            for name, found in contrasts.items()
        ],
    }


def _rows(query: Query, found: list[Record], columns: str, across: list[str], rest: str) -> Iterator[Row]:
    """Yield the rows of a family: every pair of arms, with the places that are not side by side one below the other."""
    several = query.sources.runs[rest].nunique() > 1
    label = query.sources.prints.label
    alpha = query.sources.stats["settings"]["alpha"]
    cells = {
        (record["arm_a"], record["arm_b"], record[rest], record[columns]): record
        | {"significant": record["p_holm"] is not None and record["p_holm"] < alpha}
        for record in found
    }
    for a, b, other in dict.fromkeys(key[:3] for key in cells):
        row = [cells.get((a, b, other, place)) for place in across]
        smallest = [record["detectable"] for record in row if record and record["detectable"] is not None]
        secondary = "" if any(record["primary"] for record in row if record) else " (secondary)"
        versus = names.versus(a, b, label) + secondary
        yield {
            "label": (f"{names.short(names.printed(rest, other))}: " if several else "") + versus,
            "cells": row,
            "detectable": median(smallest) if smallest else None,
        }


def csv(sources: Sources) -> bytes:
    """Write every contrast that the paper shows, one a line, with all its statistics."""
    of_studies = [sources.of(study) for study in sources.groups if sources.shows(study)]
    rows = [
        {"family": name, "question": family["question"]} | _line(record)
        for of in of_studies
        for name, family in of.families.items()
        for record in family["contrasts"]
    ]
    text: str = pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def _line(record: Record) -> Row:
    ends = {
        f"{name}_{end}": bounds and bounds[place]
        for name in INTERVALS
        for bounds in [record[name]]
        for place, end in enumerate(("low", "high"))
    }
    seeds = " ".join(map(str, record["seeds"]))
    return {name: at(record, *where) for name, where in COLUMNS.items()} | ends | {"seeds": seeds}
