"""Draw the way from latent weights to a verdict, with the numbers of one run that took it."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import FancyBboxPatch

from bitq.report import names
from bitq.report.overview import Point, points
from bitq.report.query import Query
from bitq.report.style import BLUE, GREEN, ORANGE, PURPLE, VERMILLION
from bitq.report.tex import counted

WIDE, HIGH, STEP = 1.62, 1.0, 2.05  # of a box, and from one to the next


def way(query: Query, figure: Canvas) -> None:
    """Draw latent weights, codes, file, network read back, accuracy and verdict as boxes."""
    shown = next((point for point in points(Query(query.sources)) if _packed(point)), None)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.1, 4 * STEP + WIDE + 0.1)
    axes.set_ylim(-1.35, HIGH + 0.35)
    if shown is not None:
        line = shown.line
        line.of(query=query.of(line.query.sources.study)).runs  # noqa: B018, records the runs of this arm alone
        for place, (colour, title, text, check) in enumerate(_steps(shown)):
            _box(axes, STEP * place, colour, title, text, check)
        for place in range(4):
            ends = (STEP * place + WIDE, HIGH / 2), (STEP * (place + 1), HIGH / 2)
            axes.annotate("", xy=ends[1], xytext=ends[0], arrowprops={"arrowstyle": "->", "lw": 0.9})
        axes.text(0, -1.3, _example(shown), fontsize=7, va="bottom", color="0.3")


def _packed(point: Point) -> bool:
    return point.line.mean("packed_weights") is not None and (point.line.mean("coverage") or 0) > 0


def _example(point: Point) -> str:
    line = point.line
    seeds = counted(len(point.seeds), "seed")
    return f"Numbers: {line.label}, {names.model(line.model)} on {names.dataset(line.dataset)}, mean of {seeds}."


def _steps(point: Point) -> tuple[tuple[str, str, str, str], ...]:
    """List colour, title, text and check of each box."""
    line = point.line
    weights, bits = line.mean("packed_weights") or 0, line.mean("bits_per_packed_weight") or 0
    return (
        (
            BLUE,
            "latent weights",
            f"{_spaced(weights)} floats\nthat are trained,\nnever shipped",
            "each receives\na gradient",
        ),
        (GREEN, "codes and scale", f"{bits:.2f} bits a weight,\nscales included", "no more levels\nthan declared"),
        (ORANGE, "packed file", f"{_spaced(point.size)} bytes,\nheader included", "size on disk,\ndigest"),
        (PURPLE, "read back", "network rebuilt\nfrom the file alone", "weights and logits\nequal, bit for bit"),
        (VERMILLION, "verdict", f"{point.height:.2f} % accuracy\ninto predicates", "limits fixed\nbefore the runs"),
    )


def _spaced(count: float) -> str:
    return f"{count:,.0f}".replace(",", " ")


def _box(axes: Axes, left: float, colour: str, title: str, text: str, check: str) -> None:
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((left, 0), WIDE, HIGH, boxstyle=style, fc="white", ec=colour, lw=1.2))
    middle = left + WIDE / 2
    axes.text(middle, HIGH - 0.1, title, ha="center", va="top", fontsize=8.5, color=colour)
    axes.text(middle, 0.36, text, ha="center", va="center", fontsize=7)
    axes.text(middle, -0.12, f"checked:\n{check}", ha="center", va="top", fontsize=7, color="0.3")
