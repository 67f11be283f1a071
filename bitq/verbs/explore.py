"""Write all results as one page for a browser."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bitq.verbs.claims import collected
from bitq.verbs.common import ResultsOption, Texts, emit
from bitq.verbs.report import BUILD, Build, sources
from bitq.verbs.results import selected


def explore(
    build: Build = BUILD,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. [default: explore.html in the build folder]")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="NAME", help="full, mini or smoke: show its runs, read from --results."),
    ] = None,
    study: Texts = None,
    results: ResultsOption = None,
) -> None:
    """Write runs, plots, claims and published values as one HTML page that works without a network.

    It shows the tables in the build folder, which ./reproduce.sh explore makes of the runs of the paper; with --scale,
    --study or --results it shows the finished runs of one scale, however few.
    """
    from bitq.explore.page import write_page

    page = out or build / "explore.html"
    with TemporaryDirectory() as folder:
        asked = scale or study or results
        tables = tables_of(scale or "full", study, results, Path(folder)) if asked else build
        size = write_page(sources(tables), page)
    emit(None, False, f"{page}, {size / 1e6:.1f} MB")


def tables_of(scale: str, study: list[str] | None, results: Path | None, folder: Path) -> Path:
    """Collect what is there of a scale, with its contrasts and verdicts, into a folder."""
    from bitq.stats.judge import write_claims
    from bitq.stats.summary import write_stats
    from bitq.studies.catalogue import questions

    runs = collected(selected(False, study, scale), results, folder)
    write_stats(runs, folder / "stats.json", questions(), ())
    write_claims(runs, folder / "claims.json")
    return folder
