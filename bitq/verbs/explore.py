"""Write all results as one page for a browser."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.verbs.common import emit
from bitq.verbs.report import BUILD, Build, sources


def explore(
    build: Build = BUILD,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. [default: explore.html in the build folder]")
    ] = None,
) -> None:
    """Write runs, plots, claims and published values as one HTML page that works without a network."""
    from bitq.explore.page import write_page

    page = out or build / "explore.html"
    size = write_page(sources(build), page)
    emit(None, False, f"{page}, {size / 1e6:.1f} MB")
