"""List every figure of the paper with the function that draws it, and write them."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Canvas

from bitq.io import write_atomic
from bitq.report import atq, multimodal, plots, precision, ring
from bitq.report.query import Query
from bitq.report.sources import STUDY, Sources, load
from bitq.report.style import RC, WIDTH
from bitq.report.tables import place
from bitq.report.tex import Tex, render


@dataclass(frozen=True)
class Figure:
    """A figure `<name>.pdf`, and `<name>.tex` that shows it as fig:<name>, if its study has results."""

    name: str
    draw: Callable[[Query, Canvas], None]
    height: float  # inches
    caption: str  # LaTeX
    study: str = STUDY


POINTS = "Whiskers are 95\\,\\% $t$ intervals over seeds"
BEYOND = "; an arrow says that one reaches beyond 0 or 100\\,\\%."

FIGURES = (
    Figure(
        "accuracy",
        plots.accuracy,
        2.3,
        f"Accuracy of the packed file, last epoch. Small points are seeds, large ones their means. {POINTS}{BEYOND}",
    ),
    Figure(
        "gap_scaling",
        plots.gap_scaling,
        2.4,
        "Gap between full precision and the ternary networks, over the number of classes (logarithmic; sets of equal "
        f"number stand side by side). {POINTS}. Differences are paired by seed.",
    ),
    Figure(
        "gap_heatmap",
        plots.gap_heatmap,
        3.5,  # the drawing sets it by its rows
        "Every arm of the published grid minus the FP32 network of its data set and network, in points, paired by "
        "seed; red is worse, blue is better. Empty cells are not part of the grid or were not run.",
    ),
    Figure(
        "layer_recovery",
        plots.layer_recovery,
        2.5,
        "Points won by leaving one group of layers of ResNet-18 in full precision, without and with distillation. The "
        "horizontal lines are the gaps to FP32, that is a recovery of 100\\,\\%; the share that each group recovers "
        "stands below its name in percent, without and, under it, with distillation (two dashes where the gap may be "
        "zero). "
        f"{POINTS}.",
    ),
    Figure(
        "kd_by_layer",
        plots.kd_by_layer,
        2.3,
        "Effect of distillation on ResNet-18 students by what they leave in full precision: distilled minus "
        f"undistilled, paired by seed. {POINTS}.",
    ),
    Figure(
        "recipe_progression",
        plots.recipe_progression,
        2.4,
        "From full precision to the fully ternary network and back: BitNet, then its first convolution in FP32, then "
        f"distillation. Small points are seeds. {POINTS}{BEYOND}",
    ),
    Figure(
        "accuracy_vs_bytes",
        plots.accuracy_vs_bytes,
        2.7,
        "Accuracy against KiB on disk of the same file (logarithmic). Open marks are ResNet-18, full marks "
        "ResNet-50; means over seeds.",
    ),
    Figure(
        "ring_geometry",
        ring.geometry,
        2.1,
        "A triangle wave and the values that a ring takes from it. Left, as published: both ends are sampled, so that "
        "four points have two values and eight have four. Right, as here: a quarter of a step off the trough, end left "
        "out, so that every point has its own. Numbers count the places along the ring.",
        "ring",
    ),
    Figure(
        "ring_hardening",
        ring.hardening,
        3.0,
        "Left: the published network soft, snapped to its ring without and with new batch statistics, beside networks "
        "trained with hard levels. Right: ResNet-20 over the number of levels that are really in the file. Accuracy of "
        "that file; small points are seeds, marks their means, which a line joins where they are of one network or one "
        "method. The horizontal line is FP32.",
        "ring",
    ),
    Figure(
        "atq_accuracy",
        atq.accuracy_comparison,
        2.3,
        "Accuracy of the packed file: FP32, ATQ in the linear layers and in all layers, and the published arithmetic "
        "with and without its ternary term. Small points are seeds, marks and numbers their means.",
        "atq",
    ),
    Figure(
        "atq_curves",
        atq.curves,
        2.4,
        "Fashion-MNIST, after each epoch, mean over the seeds of an arm. Left: zeros among the ternary weights; "
        "schedules end at seven tenths of the training, and the last epoch has what ships. Right: test accuracy.",
        "atq",
    ),
    Figure(
        "atq_codes",
        atq.ternary_distribution,
        2.0,
        "Codes in the file by layer, Fashion-MNIST, all seeds together. In the published arithmetic, which leaves the "
        "convolutions alone, the weights of the mask count as zeros: their value is in the residual.",
        "atq",
    ),
    Figure(
        "precision_loss_scale",
        precision.loss_scaling,
        2.0,
        "Trained in fp16: the loss scale, which halves when a gradient is not finite, and the steps that were left out "
        "for it, in percent of the epoch. A line for each seed.",
        "precision",
    ),
    Figure(
        "precision_bits",
        precision.accuracy_against_bits,
        2.6,
        "Accuracy of the packed file over the bits of a weight, and over the bytes of the file, all layers quantized, "
        "or at sixteen bits cast; "
        "marks are means, small points seeds. The horizontal line is the FP32 network.",
        "precision",
    ),
    Figure(
        "multimodal_controls",
        multimodal.controls,
        2.3,
        "Accuracy of the packed file with both inputs and with one of them blanked, the network otherwise the same. "
        "Small points are seeds, marks and numbers their means.",
        "multimodal",
    ),
)


def write_figures(tables: Path, stats: Path, claims: Path, out: Path) -> list[Path]:
    """Write every figure into `out`; equal results give equal bytes."""
    sources = load(tables, stats, claims)
    written = []
    for figure in FIGURES:
        if not sources.shows(figure.study):
            continue
        for kind, content in figure_files(figure, sources).items():
            written.append(out / f"{figure.name}.{kind}")
            write_atomic(written[-1], content)
    return written


def figure_files(figure: Figure, sources: Sources) -> dict[str, bytes]:
    """Render a figure and the LaTeX around it."""
    query = Query(sources.of(figure.study))
    # Without pyplot there is no window system, and no state but what the context restores.
    with matplotlib.rc_context(RC):
        canvas = Canvas(figsize=(WIDTH, figure.height))
        figure.draw(query, canvas)
        drawing = pdf(canvas)
    words = {"name": Tex(figure.name), "caption": Tex(figure.caption), "source": place(figure.draw)}
    return {"pdf": drawing, "tex": render("figure.tex.j2", query=query, **words).encode()}


def pdf(canvas: Canvas) -> bytes:
    """Render a drawing as PDF without date or producer."""
    buffer = io.BytesIO()
    # fontTools warns that cmr10 is dated 1970.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()
