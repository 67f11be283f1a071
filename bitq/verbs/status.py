"""Say how far a grid is."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bitq.errors import UsageError
from bitq.terminal import table
from bitq.verbs.common import Json, ResultsOption, ScaleOption, StateOption, Texts, emit

if TYPE_CHECKING:
    from bitq.status.gather import Active, Row, Status


def status(
    scale: ScaleOption = "full",
    study: Texts = None,
    phase: Texts = None,
    results: ResultsOption = None,
    state: StateOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks of --watch.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Say per study and phase what is done, running, waiting or failed, how fast, and when it will be finished.

    Read from the folders of results and state alone, whether or not a scheduler is at work.
    """
    if watch and as_json:
        raise UsageError("--watch was given with --json; a program calls bitq status --json as often as it likes.")
    from bitq.grid.select import Selection, grid
    from bitq.paths import results_dir, state_dir
    from bitq.status.gather import status as gather

    runs = grid(scale, study or (), Selection(phase or ()))
    selected = {run.hash for run in runs}
    others = [run for run in grid(scale) if run.hash not in selected]

    def look() -> "Status":
        return gather(scale, runs, results or results_dir(), state or state_dir(), others)

    if watch:
        show_again_and_again(look, every)
    else:
        found = look()
        emit(found.model_dump(mode="json"), as_json, describe(found))


def show_again_and_again(look: "Callable[[], Status]", every: float) -> None:
    """Draw the status in place on a terminal; elsewhere one after the other."""
    clear = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
    try:
        while True:
            text = describe(look())
            print(f"{clear}{time.strftime('%H:%M:%S')}\n{text}", flush=True)
            time.sleep(every)
    except KeyboardInterrupt:
        return


def describe(found: "Status", width: int | None = None) -> str:
    """Lay a status out for people."""
    columns = ("study", "phase", "runs", "done", "run", "wait", "failed", "img/s", "h spent", "h left")
    rows = [_row(each) for each in found.rows] + ([_row(found.total)] if len(found.rows) != 1 else [])
    parts = [table(columns, rows, left=2, width=width)]
    if found.active:
        parts.append(
            table(("running", "on", "epoch", "h", "img/s"), [_active(each) for each in found.active], 2, width)
        )
    parts += [f"failed: {name}: {text}" for name, text in found.failures.items()]
    parts.append(_when(found))
    return "\n".join(parts)


def _row(row: "Row") -> tuple[object, ...]:
    done = f"{row.done}" + (f" ({row.diverged} div)" if row.diverged else "")
    waiting = f"{row.waiting}" + (f" ({row.begun} begun)" if row.begun else "")
    failed = " ".join(f"{count} {kind}" for kind, count in row.failed.items()) or "0"
    pace = None if row.images_per_second is None else f"{row.images_per_second:,.0f}"
    left = "?" if row.hours_left is None else f"{row.hours_left:,.2f}"
    return (row.study, row.phase, row.runs, done, row.running, waiting, failed, pace, f"{row.hours_spent:,.2f}", left)


def _active(run: "Active") -> tuple[object, ...]:
    pace = None if run.images_per_second is None else f"{run.images_per_second:,.0f}"
    return (run.id, f"{run.host} {run.pid}", f"{run.epoch}/{run.epochs}", f"{run.hours:.2f}", pace)


def _when(found: "Status") -> str:
    if found.total.done == found.total.runs:
        return f"all {found.total.runs} runs at scale {found.scale} are done"
    others = f"; {found.unselected} unfinished runs in the state are not of this selection" if found.unselected else ""
    if found.total.hours_left is None:
        return f"nothing is finished from which the rest could be estimated: bitq plan measures{others}"
    if found.eta_hours is None:
        return f"nothing runs; {found.total.hours_left:,.2f} hours of one process are left{others}"
    when = time.strftime("%a %d %b %H:%M", time.localtime(time.time() + 3600 * found.eta_hours))
    side_by_side = f"{len(found.active)} side by side"
    return f"done about {when}, in {found.eta_hours:,.2f} hours with {side_by_side}{others}"
