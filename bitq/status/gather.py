"""Count finished, running, waiting and failed runs per study and phase, and estimate when all will be done."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bitq.errors import BitqError
from bitq.io import read_json
from bitq.records import Frozen
from bitq.results.folder import folder_of
from bitq.results.jobs import flops, trained
from bitq.results.schema import Env
from bitq.run import Run
from bitq.status.failures import failure_of
from bitq.status.unfinished import Holder, Progress, holder_of, progress_of

Condition = Literal["done", "running", "waiting", "failed"]


class Active(Frozen):
    """A run that a process works on now."""

    id: str
    host: str
    pid: int
    epoch: int  # finished ones, as of the last checkpoint
    epochs: int
    hours: float
    images_per_second: float | None


class Row(Frozen):
    """The runs of a phase, of a study, or of all."""

    study: str
    phase: str
    runs: int
    done: int
    diverged: int  # of those done
    running: int
    waiting: int
    begun: int  # of those waiting: with a checkpoint to go on from
    failed: dict[str, int]  # by class of failure
    images_per_second: float | None  # of training, median over finished and running runs
    hours_spent: float  # of one process each, whatever ran beside it
    hours_left: float | None  # likewise; null while nothing is finished to estimate from


class Status(Frozen):
    """The grid at an instant."""

    scale: str
    rows: tuple[Row, ...]
    total: Row
    active: tuple[Active, ...]
    failures: dict[str, str]  # by run: why it failed last
    eta_hours: float | None  # until all is done, with as many processes as work now; null if none does
    unselected: int  # unfinished runs in the state that are not in the selection


@dataclass(frozen=True)
class RunStatus:
    """One run: its condition, the work it takes, and what is known of its progress."""

    run: Run
    condition: Condition
    work: float  # operations of its training
    seconds: float = 0.0  # spent
    images_per_second: float | None = None
    diverged: bool = False
    failure: tuple[str, str] | None = None  # class, sentence
    holder: Holder | None = None
    progress: Progress | None = None
    share: float = 0.0  # of the training that is done


def status(scale: str, runs: Sequence[Run], results: Path, state: Path, others: Sequence[Run] = ()) -> Status:
    """Report the progress of every phase, with what runs now and what failed.

    The pace is that of all finished runs, the others too: a selection changes no estimate.
    """
    found = [run_status(run, results, state) for run in runs]
    pace = paces(found + [run_status(run, results, state) for run in others])
    groups: dict[tuple[str, str], list[RunStatus]] = {}
    for each in found:
        groups.setdefault((each.run.study, each.run.phase), []).append(each)
    total = row("all", "", found, pace)
    active = tuple(_active(each) for each in found if each.holder)
    known = {run.hash for run in runs}
    return Status(
        scale=scale,
        rows=tuple(row(*name, group, pace) for name, group in groups.items()),
        total=total,
        active=active,
        failures={each.run.id: each.failure[1] for each in found if each.failure},
        eta_hours=total.hours_left / len(active) if active and total.hours_left is not None else None,
        unselected=sum(folder.name not in known for folder in state.glob("*/")) if state.is_dir() else 0,
    )


def run_status(run: Run, results: Path, state: Path) -> RunStatus:
    """Read the status of one run from its results, or else from its state."""
    work = flops(run)
    if record := trained(run, results):
        return _done(run, work, record, folder_of(run, results))
    folder = state / run.hash
    if not folder.is_dir():
        return RunStatus(run, "waiting", work)
    progress, failure = progress_of(folder), failure_of(folder)
    # Who begins a run forgets its failure: where there is one, the process in the lock has gone on to another run.
    holder = None if failure else holder_of(folder)
    seconds = progress.seconds if progress else 0.0
    if holder and progress:
        seconds += max(time.time() - max(progress.written, holder.since), 0.0)  # not while nobody worked on it
    return RunStatus(
        run,
        "running" if holder else "failed" if failure else "waiting",
        work,
        seconds,
        _pace(run, progress),
        failure=(failure.kind, failure.text) if failure else None,
        holder=holder,
        progress=progress,
        share=progress.epoch / max(run.recipe.epochs, 1) if progress else 0.0,
    )


def _done(run: Run, work: float, record: dict[str, Any], folder: Path) -> RunStatus:
    try:
        env = Env.model_validate(read_json(folder / "env.json"))
    except (BitqError, ValueError):  # bitq verify says what is wrong with it
        return RunStatus(run, "done", work, share=1.0)
    diverged = record.get("status") == "diverged"
    return RunStatus(run, "done", work, env.wall_seconds, env.images_per_second, diverged, share=1.0)


def _pace(run: Run, progress: Progress | None) -> float | None:
    """Estimate training images per second of an unfinished run."""
    if progress is None or not progress.training_seconds or not progress.epoch:
        return None
    from bitq.data.registry import variant

    images = variant(run.data.dataset, run.data.variant).train * (1 - run.recipe.validation)
    return images * progress.epoch / progress.training_seconds


def paces(found: Iterable[RunStatus]) -> dict[str, float]:
    """Average the seconds per operation of finished runs by network, and of all under an empty name."""
    seconds: dict[str, float] = {}
    work: dict[str, float] = {}
    for each in found:
        if each.condition == "done" and each.seconds and not each.diverged:
            for name in (each.run.model, ""):
                seconds[name] = seconds.get(name, 0.0) + each.seconds
                work[name] = work.get(name, 0.0) + each.work
    return {name: seconds[name] / work[name] for name in seconds if work[name]}


def row(study: str, phase: str, group: Sequence[RunStatus], pace: dict[str, float]) -> Row:
    """Count the runs of a group by condition, and add up their hours."""
    conditions = Counter(each.condition for each in group)
    rates = [each.images_per_second for each in group if each.images_per_second]
    return Row(
        study=study,
        phase=phase,
        runs=len(group),
        done=conditions["done"],
        diverged=sum(each.diverged for each in group),
        running=conditions["running"],
        waiting=conditions["waiting"],
        begun=sum(each.condition == "waiting" and each.progress is not None for each in group),
        failed=dict(sorted(Counter(each.failure[0] for each in group if each.failure).items())),
        images_per_second=round(median(rates), 1) if rates else None,
        hours_spent=sum(each.seconds for each in group) / 3600,
        hours_left=_left(group, pace),
    )


def _left(group: Sequence[RunStatus], pace: dict[str, float]) -> float | None:
    """Estimate the hours of one process that the unfinished runs still take."""
    unfinished = [each for each in group if each.condition != "done"]
    if unfinished and not pace:
        return None
    return sum(each.work * (1 - each.share) * pace.get(each.run.model, pace[""]) for each in unfinished) / 3600


def _active(each: RunStatus) -> Active:
    holder, progress = each.holder, each.progress
    return Active(
        id=each.run.id,
        host=holder.host if holder else "",
        pid=holder.pid if holder else 0,
        epoch=progress.epoch if progress else 0,
        epochs=each.run.recipe.epochs,
        hours=each.seconds / 3600,
        images_per_second=each.images_per_second,
    )
