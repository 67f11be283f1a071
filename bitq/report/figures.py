"""Render figures, and write those of every study."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure as Canvas

from bitq.io import write_atomic
from bitq.report.query import Query
from bitq.report.sources import Sources
from bitq.report.style import RC, WIDTH
from bitq.report.table import place
from bitq.report.tex import Tex, render


@dataclass(frozen=True)
class Figure:
    """A figure `<name>.pdf`, and `<name>.tex` that shows it as fig:<name>."""

    name: str
    draw: Callable[[Query, Canvas], None]
    height: float  # inches
    caption: str  # LaTeX

    def files(self, query: Query) -> dict[str, bytes]:
        """Render the figure and the LaTeX around it."""
        # Without pyplot there is no window system, and no state but what the context restores.
        with matplotlib.rc_context(RC):
            canvas = Canvas(figsize=(WIDTH, self.height))
            self.draw(query, canvas)
            drawing = pdf(canvas)
        words = {"name": Tex(self.name), "caption": Tex(self.caption), "source": place(self.draw)}
        return {"pdf": drawing, "tex": render("figure.tex.j2", query=query, **words).encode()}


def write_figures(sources: Sources, out: Path) -> list[Path]:
    """Write every figure into `out`; equal results give equal bytes."""
    written = []
    for name, files in figures(sources).items():
        for kind, content in files().items():
            written.append(out / f"{name}.{kind}")
            write_atomic(written[-1], content)
    return written


def figures(sources: Sources) -> dict[str, Callable[[], dict[str, bytes]]]:
    """Return what renders each figure."""
    return {
        figure.name: partial(figure.files, Query(sources.of(printed.study)))
        for printed in sources.printed
        for figure in printed.figures
    }


def pdf(canvas: Canvas) -> bytes:
    """Render a drawing as PDF without date or producer."""
    buffer = io.BytesIO()
    # fontTools warns that cmr10 is dated 1970.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()
