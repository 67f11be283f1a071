"""Tabulate all contrasts, a row for each pair of arms and a column for each place, and write them as CSV."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pandas as pd

from bitq.report import atq, names, ring
from bitq.report.query import Query, span
from bitq.report.sources import Record, Sources
from bitq.report.tex import at

Row = dict[str, Any]
# Controls of the first study and its further seeds, in the order of their section.
CONTROLS = ("n10", "norm", "legacy", "mixup", "kd_as_published", "kd_alpha", "ttq_as_published", "ttq_unit")
# Studies whose arms share a part of their name that goes without saying.
LABELS: dict[str, Callable[[str], str]] = {"ring": ring.label, "atq": atq.label}
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
BY_NETWORK = ("ring",)  # whose networks stand side by side, instead of data sets


def everything(query: Query) -> Row:
    """Tabulate every family of every study."""
    return _table([_block(of, tuple(of.sources.families)) for of in query.each()])


def controls(query: Query) -> Row:
    """Tabulate the further seeds, and each change alone that the original made together with others."""
    return _table([_block(query, CONTROLS)])


def _table(blocks: list[Row | None]) -> Row:
    """Join the studies that have contrasts, at the width of the widest, and count the significant contrasts."""
    there = [block for block in blocks if block]
    rows = [row for block in there for family in block["families"] for row in family["rows"]]
    found = [cell["significant"] for row in rows for cell in row["cells"] if cell]
    width = max((len(block["columns"]) for block in there), default=1)
    return {"blocks": there, "width": width, "tests": len(found), "significant": sum(found)}


def _block(query: Query, families: tuple[str, ...]) -> Row | None:
    """Build the block of a study: its families, and its places of one kind side by side."""
    contrasts = {name: found for name in families if (found := list(query.family(name)))}
    if not contrasts:
        return None
    columns, rest = ("model", "dataset") if query.sources.study in BY_NETWORK else ("dataset", "model")
    there = {record[columns] for found in contrasts.values() for record in found}
    across = names.in_order(columns, there)
    known = query.sources.families
    return {
        "study": query.sources.study,
        "columns": [names.short(names.printed(columns, name)) for name in across],
        "families": [
            {
                "question": known[name]["question"],
                "n": span(pd.Series([record["n"] for record in found])),
                "rows": list(_rows(query, found, columns, across, rest)),
            }
            for name, found in contrasts.items()
        ],
    }


def _rows(query: Query, found: list[Record], columns: str, across: list[str], rest: str) -> Iterator[Row]:
    """Yield the rows of a family: every pair of arms, with the places that are not side by side one below the other."""
    several = query.sources.runs[rest].nunique() > 1
    label = LABELS.get(query.sources.study, names.arm)
    alpha = query.sources.stats["settings"]["alpha"]
    cells = {
        (record["arm_a"], record["arm_b"], record[rest], record[columns]): record
        | {"significant": record["p_holm"] is not None and record["p_holm"] < alpha}
        for record in found
    }
    for a, b, other in dict.fromkeys(key[:3] for key in cells):
        row = [cells.get((a, b, other, place)) for place in across]
        smallest = [record["detectable"] for record in row if record and record["detectable"] is not None]
        yield {
            "label": (f"{names.short(names.printed(rest, other))}: " if several else "") + names.versus(a, b, label),
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
