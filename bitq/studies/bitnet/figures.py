"""Draw the figures of the study on BitNet: each function queries its data and draws on an empty figure."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETUP

from bitq.report import names
from bitq.report.draw import PERCENT, log_scale
from bitq.report.query import Query, Score
from bitq.report.sources import Record
from bitq.report.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, Mark
from bitq.report.tex import number
from bitq.stats.cells import Cell
from bitq.stats.inference import mean
from bitq.studies.bitnet.places import DATASETS, LAYERS, MODELS, R18, R50

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
SHOWN = (-3, 105)  # percent, with space for marks at either end


def accuracy(query: Query, figure: Canvas) -> None:
    """Draw FP32, BitNet and TTQ with every seed."""
    arms = ("fp32", "bitnet", "ttq")
    for axes, dataset in _by_dataset(figure):
        for (group, model), (step, arm) in product(enumerate(MODELS), enumerate(arms)):
            _seeds(axes, group + 0.22 * (step - 1), query.score(dataset, model, arm), ARMS[arm])
        _groups(axes, [names.model(model) for model in MODELS])
        axes.set_ylim(*SHOWN)
    _finish(figure, PERCENT, [(names.arm(arm), ARMS[arm], True) for arm in arms])


def recipe_progression(query: Query, figure: Canvas) -> None:
    """Draw the steps from FP32 to BitNet and back."""
    arms = ("fp32", "bitnet", "bitnet-keep_conv1", "bitnet-keep_conv1-kd")
    lines = {R18: Mark(ARMS["bitnet"].color, "o"), R50: Mark(ARMS["ttq"].color, "s", "--")}
    for axes, dataset in _by_dataset(figure):
        for (model, mark), shift in zip(lines.items(), (-0.12, 0.12), strict=True):
            scores = {step: query.score(dataset, model, arm) for step, arm in enumerate(arms)}
            means = {step + shift: score.mean for step, score in scores.items() if score and score.mean is not None}
            axes.plot(list(means), list(means.values()), color=mark.color, ls=mark.line, lw=0.8)
            for step, score in scores.items():
                _seeds(axes, step + shift, score, mark, filled=model == R18, aside=shift)
        _groups(axes, ["FP32", "BitNet", "+ conv1", "+ KD"])
        axes.set_ylim(*SHOWN)
    _finish(figure, PERCENT, [(names.model(model), mark, model == R18) for model, mark in lines.items()])


def gap_scaling(query: Query, figure: Canvas) -> None:
    """Draw the cost of ternary weights over the number of classes."""
    axes = figure.subplots()
    places = _places(query)
    for shift, (model, arm) in zip((-0.045, -0.015, 0.015, 0.045), product(MODELS, ("bitnet", "ttq")), strict=True):
        gaps = {x: query.difference(dataset, model, "fp32", arm) for dataset, x in places.items()}
        moved = [(x * (1 + shift), gap) for x, gap in gaps.items()]
        _series(axes, moved, ARMS[arm], filled=model == R18)
        for place, dataset in enumerate(places):
            fewer = [other for other in list(places)[:place] if _classes(query, other) < _classes(query, dataset)]
            if fewer:
                _line(axes, [moved[list(places).index(fewer[-1])], moved[place]], ARMS[arm])
    log_scale(axes, base=10)
    axes.set_xticks(list(places.values()), [f"{names.dataset(name)}\n{_classes(query, name)}" for name in places])
    axes.set_xticks([], minor=True)
    _zero(axes)
    axes.set_xlabel("number of classes")
    series = product(MODELS, ("bitnet", "ttq"))
    labels = [(f"{names.arm(arm)}, {names.model(model)}", ARMS[arm], model == R18) for model, arm in series]
    _finish(figure, "FP32 minus arm, points", labels)


def _places(query: Query) -> dict[str, float]:
    """Place the data sets on the axis of classes, moving sets with equal numbers apart."""
    runs = query.sources.runs
    places: dict[str, float] = {}
    for dataset in DATASETS:
        if dataset in set(runs["dataset"]):
            x = float(_classes(query, dataset))
            while x in places.values():
                x *= 1.25
            places[dataset] = x
    return places


def _classes(query: Query, dataset: str) -> int:
    runs = query.sources.runs
    return int(runs.loc[runs["dataset"] == dataset, "classes"].iloc[0])


def layer_recovery(query: Query, figure: Canvas) -> None:
    """Draw the gain of each layer that is kept in full precision."""
    sides = {"": PLAIN, "-kd": DISTILLED}
    for axes, dataset in _by_dataset(figure):
        for (suffix, mark), shift in zip(sides.items(), (-0.13, 0.13), strict=True):
            low, high = f"bitnet{suffix}", f"fp32{suffix}"
            gains = [query.difference(dataset, R18, f"bitnet-keep_{layer}{suffix}", low) for layer in LAYERS]
            _series(axes, [(x + shift, gain) for x, gain in enumerate(gains)], mark, filled=not suffix)
            gap = query.difference(dataset, R18, high, low)
            if gap and gap["difference"] is not None:
                axes.axhline(gap["difference"], color=mark.color, ls=mark.line, lw=0.8)
        _zero(axes)
        _groups(axes, ["\n".join([layer, *_shares(query, dataset, layer)]) for layer in LAYERS])
    figure.supxlabel(
        "below each layer: the share of the gap that it recovers in %, without and with distillation", fontsize=8
    )
    labels = [("without distillation", PLAIN, True), ("with distillation", DISTILLED, False)]
    _finish(figure, "gain over all layers ternary, points", labels)


def _shares(query: Query, dataset: str, layer: str) -> list[str]:
    """Format the recovered shares in percent, without and with distillation; none of a gap that may be zero."""
    found = [
        query.recovery(dataset, R18, f"bitnet-keep_{layer}{suffix}", f"bitnet{suffix}", f"fp32{suffix}")
        for suffix in ("", "-kd")
    ]
    shares = [each["share"] if each and each["interval"] else None for each in found]
    return [number(None if share is None else 100 * share, 0) for share in shares]


def conv1_bytes(query: Query, figure: Canvas) -> None:
    """Draw the points that each kept group wins over the bytes that it adds to the file."""
    for axes, dataset in _by_dataset(figure):
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
    _zero(axes)
    axes.axvline(0, color=BLACK, lw=0.6)
    axes.axline((0, 0), slope=1, color="0.5", lw=0.7, ls="--")
    axes.set_xlabel("effect on the float student, points")
    legend = [(names.dataset(name), DATASET_MARKS[name], True) for name in DATASETS]
    _finish(figure, "effect on the ternary student", legend)


def kd_by_layer(query: Query, figure: Canvas) -> None:
    """Draw the effect of distillation on each student."""
    axes = figure.subplots()
    students = ("fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS))
    for shift, dataset in zip((-0.2, 0.0, 0.2), DATASETS, strict=True):
        effects = [query.difference(dataset, R18, f"{student}-kd", student) for student in students]
        mark = DATASET_MARKS[dataset]
        _series(axes, [(x + shift, effect) for x, effect in enumerate(effects)], mark)
    _zero(axes)
    _groups(axes, [names.arm(student).replace("BitNet, ", "BitNet,\n") for student in students])
    legend = [(names.dataset(name), DATASET_MARKS[name], True) for name in DATASETS]
    _finish(figure, "effect of distillation, points", legend)


def gap_heatmap(query: Query, figure: Canvas) -> None:
    """Draw every arm minus FP32."""
    axes = figure.subplots()
    columns = list(product(MODELS, DATASETS))
    arms = [arm for arm in _arms(query) if arm != "fp32"]
    gaps = [[query.difference(dataset, model, arm, "fp32") for model, dataset in columns] for arm in arms]
    values = np.array([[_value(gap) for gap in row] for row in gaps]).reshape(len(arms), len(columns))
    if np.isfinite(values).any():
        most = float(np.nanmax(np.abs(values))) or 1.0
        image = axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        _write(axes, values, most)
        figure.colorbar(image, ax=axes, label="arm minus FP32, points", pad=0.02)
    figure.set_figheight(1.0 + 0.19 * len(arms))
    places = [names.where({"model": model, "dataset": dataset}) for model, dataset in columns]
    labels = [place.replace(" ", "\n").replace("-", "-\n") for place in places]
    axes.set_xticks(range(len(columns)), labels)
    axes.set_yticks(range(len(arms)), [names.arm(arm) for arm in arms])
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _arms(query: Query) -> list[str]:
    """List the arms of the published grid that were run, in the order of the tables, distilled ones below."""
    runs = query.sources.runs
    there = set(runs.loc[runs["study"] == query.sources.study, "arm"])
    ordered = ["fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS), "ttq"]
    return [arm for kd in ("", "-kd") for each in ordered if (arm := each + kd) in there]


def _value(gap: Record | None) -> float:
    return float("nan") if gap is None or gap["difference"] is None else float(gap["difference"])


def _write(axes: Axes, values: "np.typing.NDArray[np.float64]", most: float) -> None:
    """Write the number in every cell, black on light and white on dark."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = colormaps["RdBu"]((value + most) / (2 * most))
            color = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            axes.text(column, row, f"${value:+.1f}$", ha="center", va="center", color=color, fontsize=7)


def accuracy_vs_bytes(query: Query, figure: Canvas) -> None:
    """Draw accuracy against size of the same file."""
    for axes, dataset in _by_dataset(figure):
        for model, (arm, mark) in product(MODELS, ARMS.items()):
            of = query.cell(dataset, model, arm)
            size, height = (mean(of.values("file_bytes")), mean(of.values())) if of else (None, None)
            if size is not None and height is not None:
                fill = "none" if model == R18 else mark.color
                axes.plot([size / 1024], [height], mark.marker, color=mark.color, mfc=fill, ms=4)
        log_scale(axes)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(axis="x", labelsize=6.5)
        axes.set_ylim(*SHOWN)
        axes.set_xlabel("KiB on disk")
    networks = [(names.model(model), Mark("0.4", "o"), model == R50) for model in MODELS]
    _finish(figure, PERCENT, [*((names.arm(arm), mark, True) for arm, mark in ARMS.items()), *networks])


# --- parts ------------------------------------------------------------------------------------------------------------


def _by_dataset(figure: Canvas) -> Iterable[tuple[Axes, str]]:
    """Yield one panel for each data set, with equal axes."""
    panels = figure.subplots(1, len(DATASETS), sharey=True)
    for axes, dataset in zip(panels, DATASETS, strict=True):
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


def _line(axes: Axes, points: Sequence[tuple[float, Record | None]], mark: Mark) -> None:
    """Draw differences joined by a line."""
    known = _known(points)
    means = [found["difference"] for _, found in known]
    axes.plot([x for x, _ in known], means, color=mark.color, ls=mark.line, lw=0.8)


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
