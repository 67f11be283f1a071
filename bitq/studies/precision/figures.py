"""Draw the figures of the study on precision."""

from matplotlib.figure import Figure as Canvas

from bitq.report import draw
from bitq.report.columns import Line
from bitq.report.query import Query
from bitq.report.style import BLACK
from bitq.studies.precision.arms import CASTS, CURVES, PLACE


def loss_scaling(query: Query, figure: Canvas) -> None:
    """Draw the loss scale of training in fp16 and the steps it skipped, a line for each seed."""
    curves = query.curves(*PLACE, "fp32-trained_fp16")
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
    """Draw accuracy over the bits of a weight, and over the bytes of the file."""
    panels = figure.subplots(1, 2, sharey=True)
    for (label, arms), mark in zip(CURVES.items(), draw.MARKS[1:], strict=False):
        scores = {arm: score for arm in arms if (score := query.score(*PLACE, arm)) and score.mean is not None}
        for axes, place in zip(panels, (_bits, _bytes), strict=True):
            at = {arm: x for arm in scores if (x := place(query, arm)) is not None}
            means = [scores[arm].mean for arm in at]
            axes.plot(list(at.values()), means, color=mark.color, ls=mark.line, marker=mark.marker, ms=4, label=label)
            for arm, x in at.items():
                seeds = list(scores[arm].by_seed.values())
                axes.plot([x] * len(seeds), seeds, ".", color=mark.color, ms=2.5, mew=0)
    full = query.score(*PLACE, "fp32")
    for axes, label in zip(panels, ("bits a weight, scales included", "KiB on disk"), strict=True):
        if full and full.mean is not None:
            axes.axhline(full.mean, color=BLACK, lw=0.8)
            axes.annotate(
                "FP32", (0, full.mean), (3, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                backgroundcolor="white", bbox={"pad": 0.5, "fc": "white", "ec": "none"},
            )  # fmt: skip
        draw.log_scale(axes)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.08)
        axes.set_xlabel(label)
    panels[0].set_xticks([2, 3, 4, 5, 6, 8, 16], ["2", "3", "4", "5", "6", "8", "16"])
    panels[0].minorticks_off()
    panels[0].set_xlim(1.8, 18)
    panels[0].set_ylabel(draw.PERCENT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)


def _bits(query: Query, arm: str) -> float | None:
    return 16.0 if arm in CASTS else Line(query, *PLACE, arm).mean("bits_per_packed_weight")


def _bytes(query: Query, arm: str) -> float | None:
    size = Line(query, *PLACE, arm).mean("file_bytes")
    return None if size is None else size / 1024
