"""Draw the figures of the study on precision."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bitq.report import draw
from bitq.report.columns import Line
from bitq.report.query import Query
from bitq.report.style import Mark
from bitq.studies.precision.arms import CASTS, CURVES, PLACE

MARKS = (*draw.MARKS[1:5], draw.MARKS[0])
WIDTHS = {"fp32": 32.0} | dict.fromkeys(CASTS, 16.0)  # bits of a weight where none is packed
FEWEST = 3  # epochs that make a curve


def loss_scaling(query: Query, figure: Canvas) -> None:
    """Draw the loss scale of training in fp16 and the steps it skipped, a line for each seed."""
    curves = query.curves(*PLACE, "fp32-trained_fp16")
    if curves["epoch"].nunique() < FEWEST:
        return
    panels = figure.subplots(1, 2)
    for axes, column, unit in zip(panels, ("loss_scale", "skipped_share"), (1, 100), strict=True):
        by_seed = {f"seed {seed}": [unit * value for value in rows[column]] for seed, rows in curves.groupby("seed")}
        draw.curves(axes, by_seed)
    draw.log_scale(panels[0], "y")
    panels[0].set_ylabel("loss scale at the end of the epoch")
    panels[1].set_ylim(0, None)
    panels[1].set_ylabel("steps left out, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def accuracy_against_bits(query: Query, figure: Canvas) -> None:
    """Draw accuracy over the bits of a weight, and over the bytes of the file, FP32 included."""
    if not any(query.score(*PLACE, arm) for arms in CURVES.values() for arm in arms):
        return
    panels = figure.subplots(1, 2, sharey=True)
    labels = ("bits a weight, scales included", "KiB on disk")
    for axes, place, label in zip(panels, (_bits, _kib), labels, strict=True):
        for (name, arms), mark in zip((CURVES | {"FP32": ("fp32",)}).items(), MARKS, strict=True):
            _curve(axes, query, place, arms, mark, name)
        draw.log_scale(axes)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.08)
        axes.set_xlabel(label)
    panels[0].set_xticks([2, 3, 4, 5, 6, 8, 16, 32], ["2", "3", "4", "5", "6", "8", "16", "32"])
    panels[0].minorticks_off()
    panels[0].set_xlim(1.8, 40)
    panels[0].set_ylabel(draw.PERCENT)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)


Place = Callable[[Query, str], float | None]


def _curve(axes: Axes, query: Query, place: Place, arms: Sequence[str], mark: Mark, name: str) -> None:
    """Draw one line over the arms that have runs, their seeds as small points."""
    scored = [(x, score) for arm in arms if (score := query.score(*PLACE, arm)) if (x := place(query, arm))]
    means = [(x, score.mean) for x, score in scored if score.mean is not None]
    if means:
        across, up = zip(*means, strict=True)
        axes.plot(across, up, color=mark.color, ls=mark.line, marker=mark.marker, mfc="none", ms=4, label=name)
    for x, score in scored:
        seeds = list(score.by_seed.values())
        axes.plot([x] * len(seeds), seeds, ".", color=mark.color, ms=2.5, mew=0)


def _bits(query: Query, arm: str) -> float | None:
    return WIDTHS.get(arm) or Line(query, *PLACE, arm).mean("bits_per_packed_weight")


def _kib(query: Query, arm: str) -> float | None:
    size = Line(query, *PLACE, arm).mean("file_bytes")
    return None if size is None else size / 1024
