"""List what runs, and plan what it will cost."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.verbs.common import DeviceOption, Ints, Json, ResultsOption, ScaleOption, Texts, emit


def grid(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Explain this run: its id, or the first 6 or more digits of its hash; or list those of a glob.",
        ),
    ] = None,
    scale: ScaleOption = "full",
    study: Texts = None,
    phase: Texts = None,
    dataset: Texts = None,
    model: Texts = None,
    method: Texts = None,
    seed: Ints = None,
    commands: Annotated[bool, typer.Option("--commands", help="Print the exact command of every run.")] = False,
    batches: Annotated[bool, typer.Option("--batches", help="Print the workflow's jobs as JSON.")] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="DIR",
            help="Folder of one-off runs; with --batches: list what this folder lacks. [default: results]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List, filter and explain the runs of the studies."""
    from bitq.grid.commands import command
    from bitq.grid.describe import explain_run, row, table
    from bitq.grid.select import Selection, find_runs
    from bitq.grid.select import grid as select
    from bitq.results.jobs import jobs_of

    named = find_runs(run, scale, results) if run else ()
    if run and len(named) == 1:
        (found,) = named
        emit(found.model_dump(mode="json") | {"id": found.id, "hash": found.hash}, as_json, explain_run(found))
        return
    chosen = Selection(phase or (), dataset or (), model or (), method or (), seed or ())
    runs = chosen.of(named) if named else select(scale, study or (), chosen)
    if batches:
        emit(jobs_of(runs, results), True)
    elif commands:
        emit([command(r) for r in runs], as_json, "\n".join(map(command, runs)))
    else:
        emit([row(r) for r in runs], as_json, f"{table(runs)}\n{len(runs)} runs at scale {scale}")


def plan(
    scale: Texts = None,
    study: Texts = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    as_json: Json = False,
) -> None:
    """Estimate FLOPs, hours on this machine, disk and memory of what is not done yet, per study and scale."""
    from bitq.grid.plan import plan_table
    from bitq.measure.speed import plan_studies
    from bitq.paths import results_dir

    rows = plan_studies(scale or [], study or [], jobs, device, results or results_dir())
    emit([r.model_dump() for r in rows], as_json, plan_table(rows, jobs))
