"""Write the paper from the statistics. What `stats` and `claims` wrote lies in the same build folder as the tables."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.paths import CHECKOUT
from bitq.verbs.common import emit

Build = Annotated[Path, typer.Option("--build", help="Folder of the derived files.")]
BUILD = Path("build")


def tables(build: Build = BUILD) -> None:
    """Write every table of the paper, as LaTeX."""
    from bitq.report.tables import write_tables

    written = write_tables(*sources(build), build / "paper" / "tables")
    emit(None, False, f"{len(written)} tables in {build}/paper/tables")


def figures(build: Build = BUILD) -> None:
    """Draw every figure of the paper, as PDF."""
    from bitq.report.figures import write_figures

    written = write_figures(*sources(build), build / "paper" / "figures")
    emit(None, False, f"{len(written)} files in {build}/paper/figures")


def numbers(build: Build = BUILD) -> None:
    """Write every number that the text names; refuse typed ones."""
    from bitq.report.numberlint import check_numbers
    from bitq.report.numbers import write_numbers

    check_numbers(CHECKOUT, *sources(build))
    write_numbers(*sources(build), build / "paper")
    emit(None, False, f"{build}/paper/numbers.tex")


def paper(build: Build = BUILD) -> None:
    """Typeset the paper."""
    from bitq.report.paper import build as typeset

    emit(None, False, str(typeset(CHECKOUT, build)))


def submission(build: Build = BUILD) -> None:
    """Archive the paper's sources; they compile by themselves."""
    from bitq.report.paper import submission as archive

    emit(None, False, str(archive(build)))


def sources(build: Path) -> tuple[Path, Path, Path]:
    """Locate the tables of runs, their statistics, and the verdicts on the claims."""
    return build, build / "stats.json", build / "claims.json"
