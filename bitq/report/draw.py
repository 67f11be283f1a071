"""Draw plain numbers, for figures over many runs and plots of a single run alike."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bitq.report.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, Mark
from bitq.results.schema import History

MARKS = (
    Mark(BLACK, "o"),
    Mark(BLUE, "s", "--"),
    Mark(VERMILLION, "^", ":"),
    Mark(GREEN, "v", "-."),
    Mark(ORANGE, "D"),
    Mark(PURPLE, "P", "--"),
    Mark(SKY, "X", ":"),
)
# Negative codes, zero, positive ones.
SHADES, SIGNS = (VERMILLION, "0.85", BLUE), ("negative", "zero", "positive")
PERCENT = "test accuracy, %"


def curves(axes: Axes, series: Mapping[str, Sequence[float]], marks: Sequence[Mark] = MARKS) -> None:
    """Draw one line a series over the epochs, numbered from 1, with marks that leave earlier series visible."""
    for place, ((label, values), mark) in enumerate(zip(series.items(), marks, strict=False)):
        few = len(values) <= 30
        axes.plot(
            range(1, len(values) + 1), values, color=mark.color, ls=mark.line, label=label,
            marker=mark.marker if few else "", ms=max(3, 7 - 1.5 * place), mfc="none",
        )  # fmt: skip
    if max(map(len, series.values()), default=0) == 1:
        axes.set_xlim(0, 2)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def accuracies(history: History) -> dict[str, tuple[float, ...]]:
    """Return the accuracies of a run after each epoch, by the images that they are of."""
    series = {"training": history.train_accuracy, "test": history.test_accuracy}
    return series | ({"held out": history.validation_accuracy} if history.validation_accuracy else {})


def dots(axes: Axes, scores: Mapping[str, Sequence[float]], marks: Sequence[Mark] = MARKS) -> None:
    """Draw the seeds of each arm as small points, and their mean with its number."""
    for place, ((_, values), mark) in enumerate(zip(scores.items(), marks, strict=False)):
        if len(values):
            middle = float(np.mean(values))
            axes.plot([place] * len(values), values, ".", color=mark.color, ms=3.5, mew=0)
            axes.plot([place], [middle], mark.marker, color=mark.color)
            axes.annotate(f"{middle:.1f}", (place, middle), (6, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set_xlim(-0.5, len(scores) - 0.3)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 104)


def log_scale(axes: Axes, which: Literal["x", "y"] = "x", base: int = 2) -> None:
    """Make an axis logarithmic, unless nothing was drawn that has a logarithm."""
    if np.isfinite(axes.dataLim.minposx if which == "x" else axes.dataLim.minposy):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=base)


Histogram = Sequence[tuple[int, float]]  # sign of each code's value, weights that have it


def codes(axes: Axes, layers: Mapping[str, Histogram]) -> None:
    """Draw one bar a layer with the shares of its codes, from the smallest value on."""
    for place, histogram in enumerate(layers.values()):
        left, total = 0.0, sum(count for _, count in histogram) or 1
        for sign, count in histogram:
            share = 100 * count / total
            axes.barh(place, share, left=left, height=0.7, color=SHADES[1 + sign], edgecolor="white", lw=0.5)
            if share >= 8:
                text = "white" if sign else "black"
                axes.text(left + share / 2, place, f"{share:.1f}", ha="center", va="center", color=text, fontsize=7)
            left += share
    axes.set_yticks(range(len(layers)), list(layers))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of weights, %")


def code_legend(figure: Figure) -> None:
    """Add a legend of the colours of `codes` above all panels."""
    handles = [Patch(color=color, label=label) for color, label in zip(SHADES, SIGNS, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
