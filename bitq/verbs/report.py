"""Write the paper from the statistics. What `stats` and `claims` wrote lies in the same build folder as the tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitq.paths import CHECKOUT
from bitq.verbs.common import emit

if TYPE_CHECKING:
    from bitq.report.sources import Sources

Build = Annotated[Path, typer.Option("--build", help="Folder of the derived files.")]
BUILD = Path("build")


def tables(build: Build = BUILD) -> None:
    """Write every table of the paper, as LaTeX."""
    from bitq.report.tables import write_tables

    written = write_tables(sources(build), build / "paper" / "tables")
    emit(None, False, f"{len(written)} tables in {build}/paper/tables")


def figures(build: Build = BUILD) -> None:
    """Draw every figure of the paper, as PDF."""
    from bitq.report.figures import write_figures

    written = write_figures(sources(build), build / "paper" / "figures")
    emit(None, False, f"{len(written)} files in {build}/paper/figures")


def numbers(build: Build = BUILD) -> None:
    """Write every number that the text names; refuse typed ones."""
    from bitq.report.numberlint import asked, check_numbers
    from bitq.report.numbers import Numbers, write_numbers

    found = Numbers(sources(build))
    check_numbers(CHECKOUT, found)
    write_numbers(found, asked(CHECKOUT, found.sources.printed), build / "paper")
    emit(None, False, f"{build}/paper/numbers.tex")


def paper(build: Build = BUILD) -> None:
    """Typeset the paper."""
    from bitq.report.paper import build as typeset

    emit(None, False, str(typeset(sources(build), CHECKOUT, build)))


def submission(build: Build = BUILD) -> None:
    """Archive the paper's sources; they compile by themselves."""
    from bitq.report.paper import submission as archive

    emit(None, False, str(archive(build)))


def sources(build: Path) -> "Sources":
    """Read the tables of runs, their statistics and the verdicts on the claims, for what each study prints."""
    from bitq.report.sources import load
    from bitq.studies.catalogue import printed

    return load(build, printed())
