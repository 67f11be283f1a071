"""Describe the plots as one Bokeh document: every plot of runs reads one source, so a choice in one is seen in all."""

import json
import re
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import BooleanFilter, CDSView, ColumnDataSource, FixedTicker, HoverTool, Span
from bokeh.plotting import figure

from bitq.explore.views import View

TOOLS = "pan,wheel_zoom,box_select,lasso_select,tap,reset,save"


def document(labels: Sequence[str], views: Sequence[View]) -> str:
    """Write the document as JSON that is the same for the same results."""
    source = ColumnDataSource({"label": list(labels), **_columns(views)}, name="runs")
    shown = BooleanFilter(booleans=[True] * len(labels), name="shown")
    made = Document()
    for view in views:
        made.add_root(_plot_of_runs(view, source, CDSView(filter=shown)))
    made.add_root(_curves())
    made.add_root(_levels())
    return numbered(json.dumps(made.to_json(deferred=False), sort_keys=True, separators=(",", ":")))


def numbered(text: str) -> str:
    """Number the models of a document from 1: Bokeh counts all that a process ever made.

    >>> numbered('{"id":"p1010","x":{"id":"p1004"},"y":{"id":"p1010"}}')
    '{"id":"p1","x":{"id":"p2"},"y":{"id":"p1"}}'
    """
    numbers, names = count(1), dict[str, str]()

    def name(found: "re.Match[str]") -> str:
        if found[1] not in names:
            names[found[1]] = f"p{next(numbers)}"
        return f'"id":"{names[found[1]]}"'

    return re.sub(r'"id":"(p\d+)"', name, text)


def _columns(views: Sequence[View]) -> dict[str, Any]:
    """Return the columns of all plots; the page fills in the colours of its light or dark style."""
    columns: dict[str, Any] = {}
    for view in views:
        series = [view.series[point[2]] if point else None for point in view.points]
        columns |= {
            f"{view.name}_x": np.array([point[0] if point else np.nan for point in view.points]),
            f"{view.name}_y": np.array([point[1] if point else np.nan for point in view.points]),
            f"{view.name}_series": [each.color if each else 0 for each in series],
            f"{view.name}_marker": [each.marker if each else "circle" for each in series],
            f"{view.name}_alpha": [0.0 if each and each.hollow else 0.75 for each in series],
            f"{view.name}_color": ["#777777"] * len(series),
        }
    return columns


def _plot_of_runs(view: View, source: ColumnDataSource, shown: CDSView) -> Any:
    plot = _empty(view.name, view.across, view.up, x_axis_type="log" if view.name == "size" else "linear")
    summary = ColumnDataSource({"x": [], "y": []}, name=f"{view.name}_means")
    if view.rows:
        _name_rows(plot, view.rows)
        plot.scatter("x", "y", source=summary, marker="dash", angle=1.5708, size=15, line_width=2.5, name=f"{view.name}_bars")
    else:
        lines = ColumnDataSource({"xs": [], "ys": []}, name="pareto")
        ends = ColumnDataSource({"x": [], "y": [], "text": []}, name="pareto_ends")
        plot.multi_line("xs", "ys", source=lines, line_width=1.5, name="pareto_line")
        plot.text("x", "y", "text", source=ends, text_font_size="11px", y_offset=-4, text_align="right", name="pareto_names")
    column = f"{view.name}_{{}}".format
    marks = plot.scatter(
        column("x"),
        column("y"),
        source=source,
        view=shown,
        marker={"field": column("marker")},
        size=8,
        line_color=column("color"),
        fill_color=column("color"),
        fill_alpha=column("alpha"),
        nonselection_alpha=0.12,
    )
    value = f"@{column('x' if view.rows else 'y')}{{0.00}}"
    plot.add_tools(HoverTool(renderers=[marks], tooltips=[("run", "@label"), (view.across if view.rows else "accuracy", value)]))
    return plot


def _name_rows(plot: Any, rows: Sequence[str]) -> None:
    plot.yaxis.ticker = FixedTicker(ticks=[-place for place in range(len(rows))])
    plot.yaxis.major_label_overrides = {-place: name for place, name in enumerate(rows)}
    plot.y_range.start, plot.y_range.end = 0.5 - len(rows), 0.5
    plot.height = max(320, 90 + 34 * len(rows))
    plot.ygrid.visible = False
    for place in range(1, len(rows)):
        plot.add_layout(Span(location=0.5 - place, dimension="width", line_width=1))


def _curves() -> Any:
    plot = _empty("curves", "epoch", "test accuracy, %")
    lines = ColumnDataSource({"xs": [], "ys": [], "color": [], "dash": [], "label": []}, name="curves")
    marks = ColumnDataSource({"x": [], "y": [], "color": [], "label": []}, name="curve_marks")
    plot.multi_line("xs", "ys", source=lines, line_color="color", line_dash="dash", line_width=1.8)
    points = plot.scatter("x", "y", source=marks, color="color", size=4)
    plot.add_tools(
        HoverTool(renderers=[points], tooltips=[("run", "@label"), ("epoch", "@x"), ("value", "@y{0.000}")])
    )
    return plot


def _levels() -> Any:
    plot = _empty("levels", "code, of the smallest value first", "share of the weights, %")
    bars = ColumnDataSource({"x": [], "top": [], "color": [], "sign": []}, name="levels")
    drawn = plot.vbar("x", top="top", width=0.85, source=bars, color="color", line_color=None)
    plot.add_tools(
        HoverTool(renderers=[drawn], tooltips=[("code", "@x"), ("value", "@sign"), ("share", "@top{0.000} %")])
    )
    plot.y_range.start = 0
    return plot


def _empty(name: str, across: str, up: str, **options: Any) -> Any:
    plot = figure(
        name=f"plot_{name}", height=380, sizing_mode="stretch_width", tools=TOOLS, toolbar_location="above", x_axis_label=across,
        y_axis_label=up or None, output_backend="canvas", **options,
    )  # fmt: skip
    plot.toolbar.logo = None
    return plot
