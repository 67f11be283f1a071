"""Workflow jobs: runs that one warm process trains in a row."""

import json
from collections.abc import Callable, Iterable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

from bitq.data.registry import variant
from bitq.grid.select import grid
from bitq.grid.study import scale
from bitq.io import sha256
from bitq.results.costs import estimated_macs
from bitq.results.folder import MODEL, folder_of
from bitq.run import Run

# What follows only has to put long jobs first and ask a cluster for enough time; `bitq plan` measures.
FLOPS_A_MINUTE = 20e12 * 60  # what a data-centre GPU sustains
START_MINUTES = 60


def jobs_of(chosen: tuple[Run, ...], results: Path | None = None) -> list[dict[str, Any]]:
    """Group the chosen runs, and those that they learn or start from, in jobs of the scale's size, parents first.

    `needs` names the jobs to wait for. With a folder of results, `todo` lists the runs that it still lacks; `models`
    says that among them are finished ones whose packed file somebody needs and nobody kept.
    """
    runs = with_parents(chosen)
    unfinished, unkept = _open(runs, results)
    jobs: list[dict[str, Any]] = []
    job_of: dict[str, str] = {}
    for group in _groups(runs):
        name, cost = _name(group), sum(map(flops, group))
        job_of |= dict.fromkeys((run.id for run in group), name)
        jobs.append(
            {
                "name": name,
                "scale": group[0].scale,
                "study": group[0].study,
                "phases": sorted({run.phase for run in group}),
                "runs": [run.id for run in group],
                "needs": sorted({job_of[parent.id] for run in group for parent in run.parents if parent.id in job_of}),
                "todo": [run.id for run in group if run.id in unfinished],
                "models": any(run.id in unkept for run in group),
                "minutes": START_MINUTES + ceil(cost / FLOPS_A_MINUTE),
                "priority": ceil(cost / 1e9),
            }
        )
    return _urgent(jobs)


def with_parents(chosen: tuple[Run, ...]) -> tuple[Run, ...]:
    """Return the runs and all that they learn or start from, parents before children."""
    found: dict[str, Run] = {}
    pool = {run.id: run for run in chosen}

    def add(run: Run) -> None:
        for parent in run.parents:
            if parent.id not in pool and not parent.is_file:
                pool.update({other.id: other for other in grid(run.scale)})
            if parent.id in pool and parent.id not in found:
                add(pool[parent.id])
        found.setdefault(run.id, run)

    for run in chosen:
        add(run)
    return tuple(found.values())


def flops(run: Run) -> float:
    """Estimate the operations of the whole training."""
    images = variant(run.data.dataset, run.data.variant).train * run.recipe.epochs
    passes = 4 if run.distillation else 3  # forwards, twice as much backwards, the teacher
    return 2 * estimated_macs(run) * passes * images


def trained(run: Run, results: Path) -> dict[str, Any] | None:
    """Read the record in the run's place, if it is of this run; `bitq verify` checks whether it is complete."""
    try:
        record = json.loads((folder_of(run, results) / "results.json").read_bytes())
        return record if record["hash"] == run.hash else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _open(runs: tuple[Run, ...], results: Path | None) -> tuple[set[str], set[str]]:
    """Find the runs to be trained, and those of them that only lack the packed file that a child needs."""
    if results is None:
        return {run.id for run in runs}, set()
    unfinished: set[str] = set()
    unkept: set[str] = set()
    needed: set[str] = set()
    for run in reversed(runs):
        record = trained(run, results)
        if record and run.id in needed and record.get("packed") and not (folder_of(run, results) / MODEL).exists():
            unkept.add(run.id)
        if record is None or run.id in unkept:
            unfinished.add(run.id)
            needed |= {parent.id for parent in run.parents}
    return unfinished, unkept


def _groups(runs: tuple[Run, ...]) -> Iterator[list[Run]]:
    """Yield jobs, none of which holds a run and its parent."""
    levels: dict[str, int] = {}
    for run in runs:
        levels[run.id] = max((levels[parent.id] + 1 for parent in run.parents if parent.id in levels), default=0)
    for level in _parts(runs, lambda run: (levels[run.id], run.scale, run.study)):
        size = scale(level[0].scale).batch_runs
        for phases in _phases(level, size):
            yield from _balanced(phases, size)


def _phases(runs: list[Run], size: int) -> list[list[Run]]:
    """Separate the phases, so that each can be trained by itself; join those that do not fill a job."""
    phases = _parts(runs, lambda run: run.phase)
    shared = [run for phase in phases if len(phase) < size for run in phase]
    return [phase for phase in phases if len(phase) >= size] + ([shared] if shared else [])


def _parts(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[list[Run]]:
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return [parts[value] for value in sorted(parts)]


def _balanced(runs: list[Run], size: int) -> list[list[Run]]:
    """Spread the runs over jobs, longest first, so that all jobs take about as long."""
    count = ceil(len(runs) / size)
    longest_first = sorted(runs, key=flops, reverse=True)
    return [longest_first[job::count] for job in range(count)]


def _name(runs: list[Run]) -> str:
    """Name a job readably, and differently as soon as any of its runs differs."""
    first = runs[0]
    readable = first.id.replace("/", "-")[:100] if len(runs) == 1 else f"{first.study}-{len(runs)}-runs"
    return f"{readable}-{sha256(' '.join(run.hash for run in runs))[:12]}"


def _urgent(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each job's priority the longest chain of work that waits for it."""
    behind = dict.fromkeys((job["name"] for job in jobs), 0)
    for job in reversed(jobs):
        job["priority"] += behind[job["name"]]
        for need in job["needs"]:
            behind[need] = max(behind[need], job["priority"])
    return jobs
