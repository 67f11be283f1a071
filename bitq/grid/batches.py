"""Workflow jobs: runs that one warm process trains in a row."""

from typing import Any

from bitq.grid.run import Run
from bitq.grid.study import scale


def level(run: Run, known: dict[str, int]) -> int:
    """0 for a run without parents in the grid, else one more than its latest parent."""
    return max((known[parent.id] + 1 for parent in run.parents if parent.id in known), default=0)


def batches(runs: tuple[Run, ...]) -> list[dict[str, Any]]:
    """Runs in jobs of the scale's size, none sharing a job with its parent; each says which jobs it waits for."""
    levels: dict[str, int] = {}
    for run in runs:
        levels[run.id] = level(run, levels)
    jobs: list[dict[str, Any]] = []
    job_of: dict[str, str] = {}
    for group in _groups(runs, levels):
        first = group[0]
        name = f"{first.scale}-{first.study}-{len(jobs):04d}"
        needs = sorted({job_of[parent.id] for run in group for parent in run.parents if parent.id in job_of})
        jobs.append({"name": name, "scale": first.scale, "runs": [run.id for run in group], "needs": needs})
        job_of |= {run.id: name for run in group}
    return jobs


def _groups(runs: tuple[Run, ...], levels: dict[str, int]) -> list[tuple[Run, ...]]:
    parts: dict[tuple[str, str, int, str], list[Run]] = {}
    for run in runs:
        parts.setdefault((run.scale, run.study, levels[run.id], run.model), []).append(run)
    return [group for part in sorted(parts) for group in _batched(parts[part])]


def _batched(runs: list[Run]) -> list[tuple[Run, ...]]:
    size = scale(runs[0].scale).batch_runs
    return [tuple(runs[start : start + size]) for start in range(0, len(runs), size)]
