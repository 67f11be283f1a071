"""Draw the figures of the study on BitNet: each function queries its data and draws on an empty figure."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETUP

from bitq.report import names
from bitq.report.draw import PERCENT, log_scale
from bitq.report.query import Query, Score
from bitq.report.sources import Record
from bitq.report.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, Mark
from bitq.stats.cells import Cell
from bitq.stats.inference import mean
from bitq.studies.bitnet.places import DATASETS, LAYERS, MODELS, R18

ARMS = {
    "fp32": Mark(BLACK, "o"),
    "bitnet": Mark(BLUE, "s", "--"),
    "ttq": Mark(VERMILLION, "^", ":"),
    "bitnet-keep_conv1": Mark(SKY, "D"),
    "bitnet-keep_layer1": Mark(GREEN, "v"),
    "bitnet-keep_layer4": Mark(ORANGE, "P"),
    "bitnet-keep_fc": Mark(PURPLE, "X"),
}
DATASET_MARKS = {
    "cifar10": Mark(BLUE, "o"),
    "cifar100": Mark(VERMILLION, "s", "--"),
    "tiny_imagenet": Mark(GREEN, "^", ":"),
}
PLAIN, DISTILLED = Mark(BLUE, "o"), Mark(VERMILLION, "s", "--")


def accuracy(query: Query, figure: Canvas) -> None:
    """Draw FP32, BitNet and TTQ with every seed."""
    arms = ("fp32", "bitnet", "ttq")
    for axes, dataset in _by_dataset(query, figure):
        for (group, model), (step, arm) in product(enumerate(MODELS), enumerate(arms)):
            _seeds(axes, group + 0.22 * (step - 1), query.score(dataset, model, arm), ARMS[arm])
        _groups(axes, [names.model(model) for model in MODELS])
    _finish(figure, PERCENT, [(names.arm(arm), ARMS[arm], True) for arm in arms])


def arm_gaps(query: Query, figure: Canvas) -> None:
    """Draw every arm of the published grid minus FP32, arms sorted by their mean difference."""
    gaps = {
        (arm, dataset, model): gap
        for arm, dataset, model in product(_arms(query), DATASETS, MODELS)
        if arm != "fp32" and (gap := query.difference(dataset, model, arm, "fp32")) and gap["difference"] is not None
    }
    if not gaps:
        return
    arms = sorted({arm for arm, _, _ in gaps}, key=lambda arm: -_middle(gaps, arm))
    figure.set_figheight(0.9 + 0.17 * len(arms))
    axes = figure.subplots()
    axes.axvline(0, color=BLACK, lw=0.6)
    shifts = dict(zip(product(DATASETS, MODELS), np.linspace(-0.25, 0.25, 6), strict=True))
    for (arm, dataset, model), gap in gaps.items():
        mark, row = DATASET_MARKS[dataset], arms.index(arm) + shifts[dataset, model]
        fill = _fill(mark, model == R18)
        axes.plot([gap["difference"]], [row], mark.marker, color=mark.color, mfc=fill, ms=3.5, mew=0.8)
        if gap["interval"]:
            axes.plot(gap["interval"], [row, row], color=mark.color, lw=0.7)
    axes.set_xscale("symlog", linthresh=5, linscale=1.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(arms)), [names.arm(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("arm minus FP32, points")
    legend = [(names.dataset(name), DATASET_MARKS[name], True) for name in DATASETS]
    _finish(figure, "", [*legend, *((names.model(model), Mark("0.4", "o"), model == R18) for model in MODELS)])


def _middle(gaps: Mapping[tuple[str, str, str], Record], arm: str) -> float:
    return float(np.mean([gap["difference"] for (name, _, _), gap in gaps.items() if name == arm]))


def layer_recovery(query: Query, figure: Canvas) -> None:
    """Draw the gain of each layer that is kept in full precision."""
    sides = {"": PLAIN, "-kd": DISTILLED}
    for axes, dataset in _by_dataset(query, figure):
        for (suffix, mark), shift in zip(sides.items(), (-0.13, 0.13), strict=True):
            low, high = f"bitnet{suffix}", f"fp32{suffix}"
            gains = [query.difference(dataset, R18, f"bitnet-keep_{layer}{suffix}", low) for layer in LAYERS]
            _series(axes, [(x + shift, gain) for x, gain in enumerate(gains)], mark, filled=not suffix)
            gap = query.difference(dataset, R18, high, low)
            if gap and gap["difference"] is not None:
                axes.axhline(gap["difference"], color=mark.color, ls=mark.line, lw=0.8)
        _zero(axes)
        _groups(axes, LAYERS)
    labels = [("without distillation", PLAIN, True), ("with distillation", DISTILLED, False)]
    _finish(figure, "gain over all layers ternary, points", labels)


def conv1_bytes(query: Query, figure: Canvas) -> None:
    """Draw the points that each kept group wins over the bytes that it adds to the file."""
    for axes, dataset in _by_dataset(query, figure):
        low = query.cell(dataset, R18, "bitnet")
        for layer in LAYERS:
            arm, mark = f"bitnet-keep_{layer}", ARMS[f"bitnet-keep_{layer}"]
            kept, gain = query.cell(dataset, R18, arm), query.difference(dataset, R18, arm, "bitnet")
            added = _added(kept, low)
            if added is not None:
                _series(axes, [(added, gain)], mark)
        _zero(axes)
        log_scale(axes, base=10)
        axes.set_xlabel("KiB that the group adds")
    labels = [(names.arm(f"bitnet-keep_{layer}"), ARMS[f"bitnet-keep_{layer}"], True) for layer in LAYERS]
    _finish(figure, "points won", labels)


def _added(kept: Cell | None, low: Cell | None) -> float | None:
    """Compute the KiB by which one arm's file is larger than another's."""
    sizes = [mean(of.values("file_bytes")) if of else None for of in (kept, low)]
    return None if sizes[0] is None or sizes[1] is None else (sizes[0] - sizes[1]) / 1024


def kd_plane(query: Query, figure: Canvas) -> None:
    """Draw the effect of distillation on the ternary student over that on the float student."""
    axes = figure.subplots()
    for dataset, mark in DATASET_MARKS.items():
        effects = [query.difference(dataset, R18, f"{student}-kd", student) for student in ("fp32", "bitnet")]
        for (_, across), (_, up) in zip(_known([(0, effects[0])]), _known([(0, effects[1])]), strict=False):
            _whisker(axes, across["difference"], up["difference"], up["interval"], mark, filled=True)
            if across["interval"]:
                axes.plot(across["interval"], [up["difference"]] * 2, color=mark.color, lw=0.8)
    reach = 1.15 * max(map(abs, (*axes.dataLim.get_points().ravel(), 0.5)))
    if np.isfinite(reach):
        axes.plot([-reach, reach], [-reach, reach], color="0.5", lw=0.7, ls="--", zorder=0)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
    _zero(axes)
    axes.axvline(0, color=BLACK, lw=0.6)
    axes.set_xlabel("effect on the float student, points")
    legend = [(names.dataset(name), DATASET_MARKS[name], True) for name in DATASETS]
    _finish(figure, "effect on the ternary student", legend)


def _arms(query: Query) -> list[str]:
    """List the arms of the published grid that were run, in the order of the tables, distilled ones below."""
    runs = query.sources.runs
    there = set(runs.loc[runs["study"] == query.sources.study, "arm"])
    ordered = ["fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS), "ttq"]
    return [arm for kd in ("", "-kd") for each in ordered if (arm := each + kd) in there]


# --- parts ------------------------------------------------------------------------------------------------------------


def _by_dataset(query: Query, figure: Canvas) -> Iterable[tuple[Axes, str]]:
    """Yield one panel for each data set that has runs, with equal axes."""
    there = [dataset for dataset in DATASETS if (query.sources.runs["dataset"] == dataset).any()]
    panels = figure.subplots(1, max(len(there), 1), sharey=True, squeeze=False)[0]
    for axes, dataset in zip(panels, there, strict=False):
        axes.set_title(names.dataset(dataset))
        yield axes, dataset


def _seeds(axes: Axes, x: float, score: Score | None, mark: Mark, filled: bool = True, aside: float = -0.07) -> None:
    """Draw mean, interval and seeds of one arm; an interval beyond 0 or 100 ends there with an arrow."""
    if score is None or score.mean is None:
        return
    seeds = list(score.by_seed.values())
    axes.plot([x + aside] * len(seeds), seeds, ".", color=mark.color, ms=3.5, mew=0, zorder=3)
    low, high = score.interval or (score.mean, score.mean)
    _whisker(axes, x, score.mean, (max(low, 0), min(high, 100)) if score.interval else None, mark, filled)
    for beyond, end, arrow in ((low < 0, 0, CARETDOWN), (high > 100, 100, CARETUP)):
        if beyond:
            axes.plot([x], [end], marker=arrow, color=mark.color, ms=3.5, clip_on=False, zorder=4)


def _series(axes: Axes, points: Sequence[tuple[float, Record | None]], mark: Mark, filled: bool = True) -> None:
    """Draw differences with their intervals."""
    for x, found in _known(points):
        _whisker(axes, x, found["difference"], found["interval"], mark, filled)


def _known(points: Sequence[tuple[float, Record | None]]) -> list[tuple[float, Record]]:
    return [(x, found) for x, found in points if found and found["difference"] is not None]


def _whisker(axes: Axes, x: float, middle: float, bounds: Sequence[float] | None, mark: Mark, filled: bool) -> None:
    axes.plot([x], [middle], mark.marker, color=mark.color, mfc=_fill(mark, filled), zorder=5)
    if bounds:
        reach = [[middle - bounds[0]], [bounds[1] - middle]]
        axes.errorbar([x], [middle], yerr=reach, fmt="none", ecolor=mark.color, elinewidth=0.8, zorder=4)


def _fill(mark: Mark, filled: bool) -> str:
    return mark.color if filled else "white"


def _groups(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="x", length=0)


def _zero(axes: Axes) -> None:
    axes.axhline(0, color=BLACK, lw=0.6)


def _finish(figure: Canvas, label: str, legend: Sequence[tuple[str, Mark, bool]]) -> None:
    """Add the label of the vertical axis, once, and one legend above all panels."""
    figure.axes[0].set_ylabel(label)
    handles = [
        Line2D([], [], color=mark.color, marker=mark.marker, ls="none", mfc=_fill(mark, filled), label=name)
        for name, mark, filled in legend
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4))
