"""What a rehearsal of failures tried, and what became of it."""

from pathlib import Path
from typing import Literal

from bitq.errors import Bug
from bitq.io import read_bytes
from bitq.records import Frozen
from bitq.results.schema import parse

NAME = "chaos.json"  # in the folder of results
Target = Literal["worker", "scheduler", "everything", "stop"]
TARGETS: tuple[Target, ...] = ("worker", "scheduler", "everything", "stop")


class Rehearsal(Frozen):
    """Failures by kind, how many were noticed, and what was lost."""

    schema_version: Literal[1] = 1
    scale: str
    seed: int
    jobs: int
    runs: int  # different ones
    studies: tuple[str, ...]
    rounds: int  # times that the grid was trained to its end, disturbed
    starts: int  # of the scheduler
    kills: dict[str, int]  # SIGKILL of a worker, of the scheduler alone, of all; SIGTERM of the scheduler
    damaged: dict[str, int]  # files, by kind of damage
    detected: int  # of the damaged files: refused by what reads them
    told: int  # of these, named in the log of a run that met them; who is killed then, or has no reader, tells nobody
    filled: int  # times that the disk was full
    refused: int  # of these, times that a run said so, and none ended as by a bug
    bugs: int  # tracebacks
    lost: int  # runs that are missing or have other bytes than undisturbed
    left_behind: int  # checkpoints and unfinished writes after the last run
    seconds: float
    machine: str
    code_sha256: str

    @property
    def passed(self) -> bool:
        """Tell whether nothing was lost and nothing went unnoticed."""
        noticed = self.detected == sum(self.damaged.values()) and self.refused == self.filled
        return noticed and not (self.lost or self.bugs or self.left_behind)


def read_rehearsal(path: Path) -> Rehearsal:
    """Read the record of a rehearsal."""
    return parse(Rehearsal, read_bytes(path), path, "Delete it, then run bitq chaos again.")


def describe(found: Rehearsal) -> str:
    """Lay a rehearsal out for people."""
    kills = ", ".join(f"{kind} {count}" for kind, count in found.kills.items())
    damaged = ", ".join(f"{kind} {count}" for kind, count in sorted(found.damaged.items())) or "none"
    rows = {
        "runs": f"{found.runs} at scale {found.scale}, trained {found.rounds} times in {found.starts} starts",
        "kills": f"{sum(found.kills.values())}: {kills}",
        "damaged": f"{sum(found.damaged.values())}: {damaged}",
        "detected": f"{found.detected}, {found.told} of them by a run that told so",
        "disk full": f"{found.filled} times, refused {found.refused}" if found.filled else "not tried",
        "tracebacks": str(found.bugs),
        "left behind": f"{found.left_behind} files",
        "lost": f"{found.lost} runs",
        "took": f"{found.seconds:.0f} s, seed {found.seed}",
    }
    return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def require(found: Rehearsal, place: Path) -> None:
    """Raise if anything was lost or went unnoticed; `place` has the logs."""
    if not found.passed:
        raise Bug(f"the grid did not survive its failures:\n{describe(found)}\nReport it with the logs in {place}.")
