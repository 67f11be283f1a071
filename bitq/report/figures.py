"""Render figures, and write those of every study."""

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas

from bitq.io import write_atomic
from bitq.report import file_sizes, overview, schema
from bitq.report.query import Query
from bitq.report.sources import Sources
from bitq.report.style import RC, WIDTH
from bitq.report.table import ANYWHERE, HERE, place
from bitq.report.tex import Tex, render

LOW = 2.3  # inches up to which a figure stays where it stands in the text
NOTHING = "% Written by: bitq figures. No run shown has anything to draw here.\n"


@dataclass(frozen=True)
class Figure:
    """A figure `<name>.pdf`, `<name>.tex` that shows it as fig:<name>, and its data `<name>.csv`."""

    name: str
    draw: Callable[[Query, Canvas], None]
    height: float  # inches
    caption: str  # LaTeX
    position: str = ""  # of the float, if not by its height

    def files(self, query: Query) -> dict[str, bytes]:
        """Render the figure and the LaTeX around it; where nothing was drawn the latter is a comment."""
        # Without pyplot there is no window system, and no state but what the context restores.
        with matplotlib.rc_context(RC):
            canvas = Canvas(figsize=(WIDTH, self.height))
            self.draw(query, canvas)
            if not shows(canvas):
                return {"tex": NOTHING.encode()}
            drawing = pdf(canvas)
        position = Tex(self.position or (HERE if canvas.get_figheight() <= LOW else ANYWHERE))
        words = {"position": position, "name": Tex(self.name), "caption": Tex(self.caption), "source": place(self.draw)}
        tex = render("figure.tex.j2", query=query, **words).encode()
        return {"pdf": drawing, "tex": tex, "csv": query.data()}


SHARED = (
    Figure(
        "accuracy_per_byte",
        overview.accuracy_per_byte,
        4.5,  # the drawing sets it by its panels
        "Accuracy against the size of the same file (logarithmic), all arms that were run. Small points are seeds, "
        "open marks their means; the grey line is the Pareto front. An arrow leads from the size that a "
        "published factor of compression would give this network to the file that was measured.",
    ),
    Figure(
        "way_of_a_number",
        schema.way,
        1.75,
        "How every low-bit accuracy in this paper is obtained, with the numbers of one arm. Under each step stands "
        "what is checked there; a run that fails a check has no result.",
    ),
    Figure(
        "file_sizes",
        file_sizes.waterfall,
        3.0,  # the drawing sets it by its panels
        "From the size that a published factor of compression promises to the file on disk, for the arms whose works "
        "publish one. Codes are set against the size by the factor; what else has to ship is added to them. "
        "Beside each size stands the factor by which the same network in 32-bit floating point is larger.",
        HERE,
    ),
    Figure(
        "claim_map",
        overview.claim_map,
        4.0,  # the drawing sets it by its rows
        "Every claim on accuracy that the runs decide or could, at its weakest place: the estimate and its 95\\,\\% "
        "interval as the distance to the limit of the claim, positive (shaded) where the claim holds; a diamond is the "
        "same quantity at the same place from the work's own figures, where it has them. The axis is linear within one "
        "point and logarithmic beyond. Table~\\ref{tab:verdicts} has the same claims in words.",
    ),
)


def write_figures(sources: Sources, out: Path) -> list[Path]:
    """Write every figure into `out`; equal results give equal bytes."""
    written = []
    for name, files in figures(sources).items():
        for kind, content in files().items():
            written.append(out / f"{name}.{kind}")
            write_atomic(written[-1], content)
    return written


def figures(sources: Sources) -> Mapping[str, Callable[[], dict[str, bytes]]]:
    """Return what renders each figure."""
    of_studies = [(figure, printed.study) for printed in sources.printed for figure in printed.figures]
    found = {figure.name: partial(figure.files, Query(sources.of(study))) for figure, study in of_studies}
    return {figure.name: partial(figure.files, Query(sources)) for figure in SHARED} | found


def shows(canvas: Canvas) -> bool:
    """Return whether something was drawn at a place of the data, beside lines that cross a whole panel."""
    panels = canvas.axes
    # Not ==: on empty axes, from 0 to 1, the places of the data are those of the panel.
    lines = (line for axes in panels for line in axes.lines if line.get_transform() is axes.transData)
    shapes = (shape for axes in panels for shape in axes.patches if shape.get_data_transform() is axes.transData)
    return any(len(np.asarray(line.get_xdata())) for line in lines) or any(shapes)


def pdf(canvas: Canvas) -> bytes:
    """Render a drawing as PDF without date or producer."""
    buffer = io.BytesIO()
    # fontTools warns that cmr10 is dated 1970.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def png(canvas: Canvas) -> bytes:
    """Render a drawing as PNG, sharp enough for a slide."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()
