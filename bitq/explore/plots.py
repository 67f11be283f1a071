"""Describe the plots as one Bokeh document: every plot of runs reads one source, so a choice in one is seen in all."""

import json
import re
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from bokeh.core.properties import field, value
from bokeh.document import Document
from bokeh.models import (
    BasicTicker,
    BooleanFilter,
    BoxSelectTool,
    CategoricalColorMapper,
    CDSView,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LogTicker,
    NumeralTickFormatter,
)
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from bitq.explore.views import View

COLORS = 7  # of page.css, which the page fills in
TOOLS = "pan,wheel_zoom,box_select,lasso_select,tap,reset,save"


def document(labels: Sequence[str], views: Sequence[View]) -> str:
    """Write the document as JSON that is the same for the same results."""
    source = ColumnDataSource({"label": list(labels), **_columns(views)}, name="runs")
    shown = BooleanFilter(booleans=[True] * len(labels), name="shown")
    numbers = [str(number) for number in range(COLORS)]
    palette = CategoricalColorMapper(factors=numbers, palette=["gray"] * COLORS, name="palette")
    made = Document()
    for view in views:
        made.add_root(_plot_of_runs(view, source, CDSView(filter=shown), palette))
    made.add_root(_curves())
    made.add_root(_levels())
    return numbered(json.dumps(made.to_json(deferred=False), separators=(",", ":")))


def numbered(text: str) -> str:
    """Give the models of a document numbers from 1, since Bokeh counts all that a process ever made.

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
    """Return the columns of all plots: places, the number of the colour, how full a mark is, its form."""
    columns: dict[str, Any] = {}
    for view in views:
        series = [view.series[point[2]] if point else None for point in view.points]
        columns |= {
            f"{view.name}_x": np.array([point[0] if point else np.nan for point in view.points]),
            f"{view.name}_y": np.array([point[1] if point else np.nan for point in view.points]),
            f"{view.name}_color": [str(each.color) if each else "0" for each in series],
            f"{view.name}_fill": np.array([0.75 if each and not each.hollow else 0.0 for each in series]),
        }
        if any(each.marker != "circle" for each in view.series):
            columns[f"{view.name}_marker"] = [each.marker if each else "circle" for each in series]
    return columns


def _plot_of_runs(view: View, source: ColumnDataSource, shown: CDSView, palette: CategoricalColorMapper) -> Any:
    plot = _empty(view.name, view.across, view.up, x_axis_type="linear" if view.in_rows else "log")
    summary = ColumnDataSource({"x": [], "y": []}, name=f"{view.name}_means")
    plot.toolbar.active_drag = plot.select_one(BoxSelectTool)
    if view.in_rows:
        _name_rows(plot, view.rows)
        plot.scatter(
            "x", "y", source=summary, marker="dash", angle=1.5708, size=15, line_width=2.5, name=f"{view.name}_bars"
        )
    else:
        plot.xaxis.ticker, plot.xaxis.formatter = LogTicker(mantissas=[1, 2, 5]), NumeralTickFormatter(format="0,0")
        plot.y_range.range_padding = 0.2  # for the names of lines
        lines = ColumnDataSource({"xs": [], "ys": []}, name="pareto")
        ends = ColumnDataSource({"x": [], "y": [], "text": []}, name="pareto_ends")
        plot.multi_line("xs", "ys", source=lines, line_width=1.5, name="pareto_line")
        plot.text(
            "x",
            "y",
            "text",
            source=ends,
            text_font_size="11px",
            y_offset=-6,
            text_align="right",
            padding=2,
            background_fill_alpha=0.75,
            name="pareto_names",
        )
    column = f"{view.name}_{{}}".format
    colored = field(column("color"), palette)
    form = field(column("marker")) if column("marker") in source.data else value("circle")
    marks = plot.scatter(
        *(column("x"), column("y")),
        source=source,
        view=shown,
        marker=form,
        size=8,
        line_color=colored,
        fill_color=colored,
        fill_alpha=column("fill"),
        nonselection_alpha=0.12,
    )
    told = f"@{column('x' if view.in_rows else 'y')}{{0.00}}"
    plot.add_tools(
        HoverTool(renderers=[marks], tooltips=[("run", "@label"), (view.across if view.in_rows else "accuracy", told)])
    )
    return plot


def _name_rows(plot: Any, rows: Sequence[str]) -> None:
    plot.yaxis.ticker = FixedTicker(ticks=[-place for place in range(len(rows))])
    plot.yaxis.major_label_overrides = {-place: name for place, name in enumerate(rows)}
    plot.y_range.start, plot.y_range.end = 0.5 - max(1, len(rows)), 0.5
    plot.height = max(320, 90 + 34 * len(rows))
    plot.ygrid.visible = False
    for place in range(1, len(rows)):
        plot.add_layout(Span(location=0.5 - place, dimension="width", line_width=1))


def _curves() -> Any:
    plot = _empty("curves", "epoch", "test accuracy, %")
    plot.xaxis.ticker = BasicTicker(min_interval=1)
    lines = ColumnDataSource({"xs": [], "ys": [], "color": [], "dash": [], "label": []}, name="curves")
    marks = ColumnDataSource({"x": [], "y": [], "color": [], "label": []}, name="curve_marks")
    plot.multi_line("xs", "ys", source=lines, line_color="color", line_dash="dash", line_width=1.8)
    points = plot.scatter("x", "y", source=marks, color="color", size=4)
    plot.add_tools(HoverTool(renderers=[points], tooltips=[("run", "@label"), ("epoch", "@x"), ("value", "@y{0.000}")]))
    return plot


def _levels() -> Any:
    plot = _empty("levels", "code, in ascending order of value", "share of the weights, %")
    bars = ColumnDataSource({"x": [], "top": [], "color": [], "sign": []}, name="levels")
    drawn = plot.vbar("x", top="top", width=0.85, source=bars, color="color", line_color=None)
    plot.add_tools(
        HoverTool(renderers=[drawn], tooltips=[("code", "@x"), ("value", "@sign"), ("share", "@top{0.000} %")])
    )
    plot.xaxis.ticker = BasicTicker(min_interval=1)
    plot.y_range.start = 0
    return plot


def _empty(name: str, across: str, up: str, **options: Any) -> Any:
    plot = figure(
        name=f"plot_{name}",
        height=380,
        sizing_mode="stretch_width",
        tools=TOOLS,
        toolbar_location="above",
        x_axis_label=across,
        y_axis_label=up or None,
        visible=False,  # until it comes near the screen
        **options,
    )
    plot.toolbar.logo = None
    return plot
