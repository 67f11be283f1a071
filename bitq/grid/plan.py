"""Estimate what a grid will cost, from the cost of one step: arithmetic only."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bitq.records import Frozen
from bitq.run import Run


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
    side_by_side = f"hours ×{jobs}"
    lines = [
        f"{'study':<16} {'scale':<5} {'runs':>5} {'done':>5} {'PFLOP':>11} {'core-h':>9} {side_by_side:>9} "
        f"{'GiB disk':>8} {'memory':>7}"
    ]
    for r in rows:
        lines.append(
            f"{r.study:<16} {r.scale:<5} {r.runs:>5} {r.done:>5} {r.pflops:>11,.2f} {r.core_hours:>9,.2f} "
            f"{r.hours:>9,.2f} {r.disk_gib:>8.2f} {r.memory_gib:>7.2f}"
        )
    return "\n".join(lines)
