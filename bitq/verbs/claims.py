"""Judge the claims, from a table of runs or straight from a folder of results."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from bitq.verbs.common import Json, ResultsOption, emit
from bitq.verbs.results import MixHardware

if TYPE_CHECKING:
    from bitq.run import Run


def claims(
    runs: Annotated[
        Path | None, typer.Option("--runs", help="The table that aggregate wrote, instead of a folder of results.")
    ] = None,
    results: ResultsOption = None,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="NAME", help="full, mini or smoke, if not that of the paper.")
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only the claims that this study decides, by its runs; repeatable."),
    ] = None,
    across: MixHardware = None,
    out: Annotated[Path | None, typer.Option(help="Write the verdicts there as JSON and print none.")] = None,
    as_json: Json = False,
) -> None:
    """Judge each published claim by the runs that decide it, and say which of these are missing."""
    from bitq.errors import UsageError
    from bitq.io import write_json
    from bitq.stats import judge
    from bitq.stats.cells import read_runs
    from bitq.stats.listing import listing

    if runs and (results or scale or study):
        raise UsageError(
            "--runs was given with --results, --scale or --study; a table holds its own runs, so give it alone."
        )
    with TemporaryDirectory() as folder:
        table = runs or collected(_selected(scale, study), results, Path(folder))
        found = judge.verdicts(table, across or (), study or ())
        scales = set(read_runs(table)["scale"]) if runs else {run.scale for run in _selected(scale, study)}
    if out:
        write_json(out, judge.as_json(found))
    if as_json or not out:
        emit(judge.as_json(found), as_json, listing(found, scales))


def _selected(scale: str | None, study: list[str] | None) -> "tuple[Run, ...]":
    """Select the runs of the paper, or those of a scale or of studies."""
    from bitq.verbs.results import selected

    return selected(scale is None and not study, study, scale or "full")


def collected(selection: "tuple[Run, ...]", results: Path | None, folder: Path) -> Path:
    """Collect what is there of the runs; only damage is an error, not what is missing."""
    from bitq.paths import results_dir
    from bitq.results.aggregate import aggregate
    from bitq.results.verify import require, verify

    root = results or results_dir()
    found = verify(root, selection, allow_missing=True)
    if found.missing < found.expected:
        require(found)
    aggregate(root, selection, folder)
    return folder / "runs.parquet"
