"""Show how a published factor of compression becomes the size of a file: part by part of the bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bitq.report import names
from bitq.report.overview import Point, claimed, points
from bitq.report.query import Query
from bitq.report.style import BLUE, VERMILLION

COLUMNS = 3  # panels side by side
MOST = 3  # arms of a study
PARTS = {
    "codes": "codes",
    "residuals": "residuals",
    "values_scales": "values, scales",
    "float_parameters": "floats",
    "buffers": "statistics",
    "header": "header",
}


@dataclass(frozen=True)
class Fall:
    """The bytes that a published factor would give an arm, and what its file has besides, part by part."""

    point: Point
    formula: float
    parts: dict[str, float]

    @property
    def steps(self) -> dict[str, float]:
        """Changes from the size by the formula to that of the file; codes are compared with the formula's."""
        first, *others = self.parts.items()
        return {first[0]: first[1] - self.formula} | {name: size for name, size in others if size}

    @property
    def title(self) -> str:
        """Name the arm and its network."""
        line = self.point.line
        return f"{line.label}, {names.model(line.model)}"


def falls(query: Query) -> Iterator[Fall]:
    """Yield the first arms of each work that publishes a factor, each on the first data set that has it."""
    seen: dict[str, list[str]] = {}
    for point, size in claimed(list(points(Query(query.sources)))):
        study = point.line.query.sources.study
        shown = seen.setdefault(study, [])
        if point.line.arm not in shown and len(shown) < MOST:
            shown.append(point.line.arm)
            line = point.line.of(query=query.of(study))  # records the runs of these arms alone
            yield Fall(point, size, {name: line.mean(f"bytes_{part}") or 0.0 for part, name in PARTS.items()})


def waterfall(query: Query, figure: Canvas) -> None:
    """Draw, for every arm with a published factor, the way from the size by that factor to the file."""
    found = list(falls(query))
    rows = -(-len(found) // COLUMNS) or 1
    figure.set_figheight(0.15 + 1.0 * rows)
    panels = list(figure.subplots(rows, min(COLUMNS, len(found) or 1), squeeze=False).flat)
    for axes, fall in zip(panels, found, strict=False):
        _fall(axes, fall)
    for axes in panels[len(found) :]:
        axes.set_visible(False)


def _fall(axes: Axes, fall: Fall) -> None:
    whole = fall.point.size * fall.point.factor
    steps = fall.steps
    ends = [end / 1024 for end in accumulate(steps.values(), initial=fall.formula)]
    bars = ["as published", *steps, "the file"]
    axes.barh(0, ends[0], color="0.75", height=0.65)
    for row, (before, after) in enumerate(pairwise(ends), 1):
        axes.barh(row, after - before, left=before, color=VERMILLION if after > before else BLUE, height=0.65)
    axes.barh(len(bars) - 1, ends[-1], color="0.45", height=0.65)
    for row, end in ((0, ends[0]), (len(bars) - 1, ends[-1])):
        text = f"{end:.3g} KiB, {whole / 1024 / end:.1f}"
        axes.annotate(text, (end, row), (3, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.set_yticks(range(len(bars)), bars, fontsize=6.5)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.7 * max(ends))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_title(fall.title, fontsize=7.5)
