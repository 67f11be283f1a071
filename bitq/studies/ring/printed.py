"""Print the study on Ring quantization: its tables, figures, numbers and the names of its arms."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bitq.quant.waves import both_ends, quarter_step
from bitq.report import draw, names
from bitq.report.columns import BITS, BYTES, COMPRESSION, Column, Line, accuracy, delta, label, there
from bitq.report.figures import Figure
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.style import BLACK, BLUE, GREEN, ORANGE, VERMILLION, Mark
from bitq.report.table import Table
from bitq.report.tex import whole
from bitq.report.values import Number, count, measure
from bitq.studies.ring.contrasts import RING, RING_LEGACY

DATASET, MODELS = "cifar10", ("resnet20", "resnet32", "resnet44")
PLACE = DATASET, MODELS[0]
# Group in print → arms.
HEADLINE = {
    "": ("fp32",),
    "Published as two bits": tuple(f"{RING_LEGACY}-r4{how}" for how in ("", "_snapped", "_recalibrated")),
    "Two bits": (f"{RING}-n4", f"{RING}-n4_line", "lsq-keep_last-w2", "dorefa-keep_last-w2"),
    "Published as three bits": tuple(f"{RING_LEGACY}-r8{how}" for how in ("", "_snapped", "_recalibrated")),
    "Three bits": (f"{RING}-n8", f"{RING}-n8_line", "lsq-keep_last-w3", "dorefa-keep_last-w3"),
    "Ternary": (f"{RING}-n3", "twn-keep_last", "ttq-keep_last"),
}
# Arm → the arm that it differs from in one thing.
CODEBOOKS: dict[str, str | None] = {
    f"{RING}-n2": None,
    f"{RING}-n3": None,
    f"{RING}-n4": None,
    f"{RING}-n8": None,
    f"{RING}-n16": None,
    f"{RING}-n4_sine": f"{RING}-n4",
    f"{RING}-n8_sine": f"{RING}-n8",
    f"{RING}-n4_learned": f"{RING}-n4",
    f"{RING}-n8_learned": f"{RING}-n8",
    f"{RING}-n4_anneal": f"{RING}-n4",
    f"{RING}-n4_narrowing": f"{RING}-n4",
    f"{RING}-n4_phase0": f"{RING}-n3",
}
# Bits in print → the arms with as many levels on the smallest network.
METHODS = {
    "One bit": (f"{RING}-n2", "bwn-keep_last", "irnet-keep_last"),
    "Ternary": (
        *(f"{RING}-n3", "ttq-keep_last", "twn-keep_last", "twn-keep_last-channel"),
        *("paretoq-keep_last-n3", "parq-keep_last-n3"),
    ),
    "Two bits": (
        *(f"{RING}-n4", "lsq-keep_last-w2", "lsq-keep_last-w2_tensor_count", "dorefa-keep_last-w2"),
        *("paretoq-keep_last-n4", "parq-keep_last-n4"),
    ),
    "Three bits": (f"{RING}-n8", "lsq-keep_last-w3", "dorefa-keep_last-w3", "apot-keep_last-w3"),
    "Four bits": (f"{RING}-n16", "lsq-keep_last-w4", "apot-keep_last-w4"),
}
STAGES = {
    "soft": f"{RING_LEGACY}-r{{}}",
    "snapped": f"{RING_LEGACY}-r{{}}_snapped",
    "snapped,\nnew stat.": f"{RING_LEGACY}-r{{}}_recalibrated",
    "hard,\nline": f"{RING}-n{{}}_line",
    "hard,\nring": f"{RING}-n{{}}",
}
# Points of the ring → name of the network in print → arm.
HISTOGRAMS = {size: {"snapped": f"{RING_LEGACY}-r{size}_snapped", "hard ring": f"{RING}-n{size}"} for size in (4, 8)}
PUBLISHED = 3  # the first stages, which are of one network
SERIES = {
    ("resnet20", 4): Mark(BLUE, "o"),
    ("resnet20", 8): Mark(VERMILLION, "s", "--"),
    ("resnet32", 4): Mark(GREEN, "^", ":"),
    ("resnet32", 8): Mark(ORANGE, "D", "-."),
}
PARTS = {
    "n4_line": "4 levels on a line",
    "n8_line": "8 levels on a line",
    "n4_sine": "4 levels of a sine",
    "n8_sine": "8 levels of a sine",
    "n4_learned": "4 learned levels",
    "n8_learned": "8 learned levels",
    "n4_phase0": "4 points without phase",
    "n4_anneal": "4 levels, annealed",
    "n4_narrowing": "4 levels, gradient narrowed",
    "r4": "4 points, soft",
    "r8": "8 points, soft",
    "r4_snapped": "4 points, snapped",
    "r8_snapped": "8 points, snapped",
    "r4_recalibrated": "4 points, recalibrated",
    "r8_recalibrated": "8 points, recalibrated",
    "w2_tensor_count": "2 bits, gradient by layer",
}


def shortened(arm: str) -> str:
    """Leave out that the last layer stays in full precision.

    >>> shortened("ring-keep_last-n4_line")
    'ring-n4_line'
    """
    return arm.replace("-keep_last", "")


# --- tables -----------------------------------------------------------------------------------------------------------


def headline(query: Query) -> list[Line]:
    """List the arms at every depth."""
    lines = [Line(query, *PLACE, arm, group=group) for group, arms in HEADLINE.items() for arm in arms]
    return [line for line in lines if any(line.of(model=model).score for model in MODELS)]


def codebooks(query: Query) -> list[Line]:
    """List numbers of levels, waves, and ways to harden, on the smallest network."""
    return there(Line(query, *PLACE, arm, other) for arm, other in CODEBOOKS.items())


def methods(query: Query) -> list[Line]:
    """List all methods by their bits on the smallest network, each against full precision."""
    return there(Line(query, *PLACE, arm, "fp32", group) for group, arms in METHODS.items() for arm in arms)


def _levels(query: Query, arm: str) -> int | None:
    """Return the largest number of levels of a layer of the smallest network; None where weights ship as floats."""
    layers = query.layers(*PLACE, arm)
    return None if layers.empty else int(layers["levels"].max())


def _other(line: Line) -> str:
    return line.query.sources.prints.label(line.other) if line.other else ""


LEVELS = Column("Levels", lambda line, _: whole(_levels(line.query, line.arm)))
TABLES = (
    Table(
        "ring_accuracy",
        headline,
        (
            Column("Network", lambda line, _: line.label, r">{\raggedright\arraybackslash}p{0.24\textwidth}"),
            *(accuracy(names.model(model), model=model) for model in MODELS),
            *(LEVELS, BITS, BYTES, COMPRESSION),
        ),
        "Ring quantization as published, snapped to its own ring, and hard, beside other methods with as many levels "
        "(recalibrated: snapped, with new batch statistics); the last linear layer in full precision in all. Test "
        "accuracy in percent of the packed file, last epoch, mean and sample standard deviation over n = "
        "<< query.seeds() >> seeds. Levels are those in the file of ResNet-20, bits those of a weight that ships as a "
        "code, scales included; bytes on disk, compression against an FP32 file.",
        group=lambda line: line.group,
        breaks=True,
    ),
    Table(
        "ring_codebooks",
        codebooks,
        (label("Ring"), accuracy(), LEVELS, BITS, *delta(), Column("to", lambda line, _: _other(line))),
        "Hard rings in ResNet-20: numbers of levels, other waves, learned levels, and a kernel that narrows during the "
        "training instead of a hard forward pass. $\\Delta$ is the difference to the arm named beside it, paired by "
        "seed, with its 95\\,\\% $t$ interval. Four points without phase are those of the wave's trough, zero twice, "
        "and its peak.",
    ),
    Table(
        "ring_methods",
        methods,
        (label("Method"), accuracy(), LEVELS, BITS, BYTES, *delta()),
        "All methods by bits in ResNet-20, its last linear layer in full precision: test accuracy in percent of the "
        "packed file, last epoch, mean and sample standard deviation over n = << query.seeds() >> seeds. Levels are "
        "those in the file, bits those of a weight that ships as a code, scales included. $\\Delta$ is the difference "
        "to FP32, paired by seed, with its 95\\,\\% $t$ interval.",
        group=lambda line: line.group,
    ),
)


# --- figures ----------------------------------------------------------------------------------------------------------


def geometry(query: Query, figure: Canvas) -> None:
    """Draw the published template and ours, on the wave that both sample."""
    panels = figure.subplots(1, 4, sharey=True)
    for axes, size in zip(panels[:2], (4, 8), strict=True):
        _template(axes, [k / (size - 1) for k in range(size)], both_ends(size), VERMILLION)
        axes.set_title(f"published, {size} points")
    for axes, size in zip(panels[2:], (4, 8), strict=True):
        _template(axes, [(k + 0.25) / size for k in range(size)], quarter_step(size), BLUE)
        axes.set_title(f"here, {size} points")
    panels[0].set_ylabel("value")


def _template(axes: Axes, along: Sequence[float], values: Sequence[float], color: str) -> None:
    axes.plot([0, 0.5, 1], [-1, 1, -1], color="0.75", lw=0.8)
    axes.hlines(sorted(set(values)), 0, 1, color=color, lw=0.5, ls=":")
    axes.plot(along, values, "o", color=color)
    for place, (x, y) in enumerate(zip(along, values, strict=True)):
        axes.annotate(str(place), (x, y), (0, 5), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks([0, 0.5, 1], ["0", "1/2", "1"])
    axes.set_ylim(-1.15, 1.35)
    axes.set_xlabel("along the ring")
    axes.grid(visible=False)


def slopes(query: Query, figure: Canvas) -> None:
    """Draw the published network soft, snapped and recalibrated as slopes, and where the weights of the files are."""
    arms = [(name, arm, size) for size in (4, 8) for name, arm in HISTOGRAMS[size].items()]
    found = [(name, size, at) for name, arm, size in arms if (at := _histogram(query, arm, size))]
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2), squeeze=False)[0]
    _slopes(left.subplots(), query)
    if found:
        panels = list(right.subplots(-(-len(found) // 2), min(len(found), 2), squeeze=False).flat)
        for axes, (name, size, shares) in zip(panels, found, strict=False):
            _bars(axes, shares)
            axes.set_title(f"{name}, {size}", fontsize=7)
        for axes in panels[len(found) :]:
            axes.set_visible(False)


def _slopes(axes: Axes, query: Query) -> None:
    stages = [name for name, arm in STAGES.items() if any(_at_stage(query, *of, arm) for of in SERIES)]
    for place, ((model, size), mark) in enumerate(SERIES.items()):
        name, aside = f"{names.model(model)}, {size}", 0.04 * (place - 1.5)
        slope = {at: stage for at, stage in enumerate(stages) if stage in list(STAGES)[:PUBLISHED]}
        for some in (slope, *({at: stage} for at, stage in enumerate(stages) if at not in slope)):  # other networks
            arms = [STAGES[stage].format(size) for stage in some.values()]
            named = name if name not in axes.get_legend_handles_labels()[1] else None
            _means(axes, query, model, [aside + at for at in some], arms, mark, named)
    full = query.score(*PLACE, "fp32")
    if full and full.mean is not None:
        axes.axhline(full.mean, color=BLACK, lw=0.7, ls=":")
        snapped = 1  # the stage with the most room below the line
        axes.annotate(
            "ResNet-20, FP32", (snapped, full.mean), (0, -2), textcoords="offset points",
            ha="center", va="top", fontsize=7,
        )  # fmt: skip
    axes.set_xticks(range(len(stages)), stages)
    axes.set_xlim(-0.4, len(stages) - 0.6)
    axes.set_ylabel(draw.PERCENT)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _at_stage(query: Query, model: str, size: int, arm: str) -> bool:
    return query.score(DATASET, model, arm.format(size)) is not None


def _histogram(query: Query, arm: str, size: int) -> dict[float, float]:
    """Compute the share of the weights at each level of the ring, over all layers and seeds, in percent."""
    layers = [histogram for histogram in query.layers(*PLACE, arm)["histogram"] if len(histogram)]
    widest = max(map(len, layers), default=0)
    counts = [float(sum(level)) for level in zip(*(each for each in layers if len(each) == widest), strict=True)]
    ring = sorted(set(both_ends(size) if "legacy" in arm else quarter_step(size)))
    levels = ring if len(ring) == len(counts) else [float(place) for place in range(len(counts))]
    return {level: 100 * count / (sum(counts) or 1) for level, count in zip(levels, counts, strict=True)}


def _bars(axes: Axes, shares: Mapping[float, float]) -> None:
    levels = list(shares)
    width = 0.7 * min((b - a for a, b in pairwise(levels)), default=1)
    axes.bar(levels, list(shares.values()), width=width, color=BLUE)
    axes.set_xticks([levels[0], levels[-1]], [f"{level:.3g}" for level in (levels[0], levels[-1])])
    axes.tick_params(labelsize=6.5)
    axes.set_ylabel("weights, %", fontsize=7)


def _means(
    axes: Axes, query: Query, model: str, places: Sequence[float], arms: Sequence[str], mark: Mark, name: str | None
) -> None:
    """Draw the arms' means joined by a line, their seeds as small points."""
    found = [
        (place, score) for place, arm in zip(places, arms, strict=True) if (score := query.score(DATASET, model, arm))
    ]
    for place, score in found:
        values = list(score.by_seed.values())
        axes.plot([place] * len(values), values, ".", color=mark.color, ms=2.5, mew=0)
    means = [(place, score.mean) for place, score in found if score.mean is not None]
    if means:
        x, y = zip(*means, strict=True)
        axes.plot(x, y, color=mark.color, marker=mark.marker, ls=mark.line, ms=3.5, mfc="none", label=name)


FIGURES = (
    Figure(
        "ring_geometry",
        geometry,
        2.1,
        "A triangle wave and the values that a ring takes from it. Left, as published: both ends are sampled, so that "
        "four points have two values and eight have four. Right, as here: a quarter of a step off the trough, end left "
        "out, so that every point has its own. Numbers count the places along the ring.",
    ),
    Figure(
        "ring_slopes",
        slopes,
        2.6,
        "Left: accuracy of the file of the published network, soft, snapped to its ring, and with new batch "
        "statistics (lines), beside networks trained with hard levels. Small points are seeds, marks their means. "
        "Right: share of the weights of ResNet-20 on each level of its file, for four and for eight points or levels.",
    ),
)


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers(query: Query) -> Iterator[Number]:
    """Yield the levels in the files, and the share of accuracy left after snapping."""
    for size in (4, 8):
        yield count(f"ring.levels.legacy{size}", _levels(query, f"{RING_LEGACY}-r{size}_snapped"))
        yield count(f"ring.levels.ring{size}", _levels(query, f"{RING}-n{size}"))
        for model in MODELS[:2]:
            soft, hard = (query.score(DATASET, model, f"{RING_LEGACY}-r{size}{how}") for how in ("", "_snapped"))
            share = 100 * hard.mean / soft.mean if soft and hard and soft.mean and hard.mean is not None else None
            yield measure(f"ring.left.{model}.{size}", share, "--" if share is None else f"{share:.1f}", percent=True)


PRINTED = Printed(
    tables=TABLES,
    figures=FIGURES,
    numbers=numbers,
    parts=PARTS,
    shortened=shortened,
    across="model",
    # First the same computation, then what the name promises.
    asked={ring: (f"{ring}_legacy", f"{ring}_legacy_hard", ring) for ring in ("ring4", "ring8")},
)
