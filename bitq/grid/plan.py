"""What a grid will cost, from the cost of one step: arithmetic only."""

from collections.abc import Callable, Iterable
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
    """One study at one scale."""

    study: str
    scale: str
    runs: int
    pflops: float
    hours: float
    disk_gib: float
    memory_gib: float  # of all processes side by side


def plan_row(study: str, scale: str, runs: Iterable[Run], cost: Callable[[Run], Cost], jobs: int) -> PlanRow:
    """Add up the runs. Checkpoints exist only while a run runs, so only `jobs` of them lie on the disk at once."""
    costs = [cost(run) for run in runs]
    worst_state = max((c.state_bytes for c in costs), default=0)
    return PlanRow(
        study=study,
        scale=scale,
        runs=len(costs),
        pflops=sum(c.flops for c in costs) / 1e15,
        hours=sum(c.seconds for c in costs) / 3600 / jobs,
        disk_gib=(sum(c.result_bytes for c in costs) + jobs * worst_state) / 2**30,
        memory_gib=jobs * max((c.memory_bytes for c in costs), default=0) / 2**30,
    )


def plan_table(rows: Iterable[PlanRow]) -> str:
    """The rows for people."""
    lines = [f"{'study':<18} {'scale':<6} {'runs':>5} {'PFLOP':>12} {'hours':>10} {'disk GiB':>9} {'memory GiB':>11}"]
    for r in rows:
        lines.append(
            f"{r.study:<18} {r.scale:<6} {r.runs:>5} {r.pflops:>12,.3f} {r.hours:>10,.3f} "
            f"{r.disk_gib:>9.2f} {r.memory_gib:>11.2f}"
        )
    return "\n".join(lines)
