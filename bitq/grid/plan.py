"""Estimate what a grid will cost, from the cost of one step: arithmetic only."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bitq.records import Frozen
from bitq.run import Run
from bitq.terminal import table


@dataclass(frozen=True)
class Cost:
    """What one run costs on this machine."""

    flops: float  # multiply and add counted separately; training, evaluation and teacher
    seconds: float
    result_bytes: int  # its four files and its model
    state_bytes: int  # its checkpoints while it runs
    memory_bytes: int  # peak of its process


class PlanRow(Frozen):
    """One study at one scale: what is left to do."""

    study: str
    scale: str
    runs: int
    done: int  # of these, finished before
    pflops: float
    hours: float  # of `jobs` processes side by side
    core_hours: float
    disk_gib: float
    memory_gib: float  # of all processes side by side


def plan_row(
    study: str, scale: str, runs: Collection[Run], done: Collection[str], cost: Callable[[Run], Cost], jobs: int
) -> PlanRow:
    """Add up the runs that are not done. Only `jobs` of their checkpoints lie on the disk at once."""
    costs = [cost(run) for run in runs if run.id not in done]
    worst_state = max((c.state_bytes for c in costs), default=0)
    core_hours = sum(c.seconds for c in costs) / 3600
    return PlanRow(
        study=study,
        scale=scale,
        runs=len(runs),
        done=len(done),
        pflops=sum(c.flops for c in costs) / 1e15,
        hours=core_hours / jobs,
        core_hours=core_hours,
        disk_gib=(sum(c.result_bytes for c in costs) + jobs * worst_state) / 2**30,
        memory_gib=jobs * max((c.memory_bytes for c in costs), default=0) / 2**30,
    )


def plan_table(rows: Iterable[PlanRow], jobs: int) -> str:
    """Lay the rows out for people."""
    titles = ("study", "scale", "runs", "done", "PFLOP", "core-h", f"hours ×{jobs}", "GiB disk", "memory")
    cells = [
        (r.study, r.scale, r.runs, r.done, r.pflops, r.core_hours, r.hours, r.disk_gib, r.memory_gib) for r in rows
    ]
    return table(titles, cells)
