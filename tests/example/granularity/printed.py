"""Print the study granularity: a table, a figure, a number, and the name of an arm."""

from collections.abc import Iterator

from matplotlib.figure import Figure as Canvas

from bitq.report import draw
from bitq.report.columns import BITS, BYTES, Line, accuracy, delta, label, there
from bitq.report.figures import Figure
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.table import Table
from bitq.report.values import Number, count

PLACE = "cifar10", "resnet20"
ARMS = ("fp32", "twn", "twn-fine")


def scales(query: Query) -> list[Line]:
    """List the arms, each against full precision."""
    return there(Line(query, *PLACE, arm, None if arm == "fp32" else "fp32") for arm in ARMS)


def seeds(query: Query, figure: Canvas) -> None:
    """Draw the arms with every seed."""
    scores = {line.label: line.score for line in scales(query)}
    axes = figure.subplots()
    draw.dots(axes, {name: list(score.by_seed.values()) for name, score in scores.items() if score})
    axes.set_ylabel(draw.PERCENT)


def numbers(query: Query) -> Iterator[Number]:
    """Yield the bytes that the finer scales cost."""
    fine, coarse = (Line(query, *PLACE, arm).mean("file_bytes") for arm in ("twn-fine", "twn"))
    yield count("granularity.bytes", None if fine is None or coarse is None else fine - coarse)


PRINTED = Printed(
    tables=(
        Table(
            "granularity_scales",
            scales,
            (label("Weights"), accuracy(), BITS, BYTES, *delta()),
            "Ternary weights in ResNet-20: test accuracy in percent over n = << query.seeds() >> seeds, bits of a "
            "weight with its share of the scales, bytes on disk, and the difference to full precision.",
        ),
    ),
    figures=(Figure("granularity_seeds", seeds, 2.0, "Accuracy of every seed, and the mean of each arm."),),
    numbers=numbers,
    parts={"fine": "scale a channel"},
)
