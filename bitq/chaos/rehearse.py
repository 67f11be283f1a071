"""Prepare a rehearsal, run it in its own process, and read its record."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bitq.chaos.disk import private_mounts
from bitq.chaos.grid import some_runs
from bitq.chaos.plan import Plan
from bitq.errors import Bug, UsageError
from bitq.results.rehearsal import Rehearsal, read_rehearsal


def rehearse(
    scale: str,
    studies: Sequence[str],
    runs: int,
    kills: int,
    seed: int,
    jobs: int,
    every: float,
    folder: Path | None,
    out: Path,
) -> tuple[Rehearsal, Path]:
    """Draw runs of the grid and rehearse failures with them; return the record, written to `out`, and the folder.

    A folder of its own is deleted unless something was lost or went unnoticed: its logs say what.
    """
    if folder and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a new folder, since a rehearsal deletes what it trains.")
    words = private_mounts()
    place = (folder or Path(tempfile.mkdtemp(prefix="bitq-chaos-"))).resolve()
    plan = Plan(
        scale=scale,
        runs=tuple(run.id for run in some_runs(scale, runs, seed, studies)),
        kills=kills,
        seed=seed,
        jobs=jobs,
        every=every,
        folder=str(place),
        out=str(out.resolve()),
        has_disk=words is not None,
    )
    command = [*(words or []), sys.executable, "-m", "bitq.chaos", plan.model_dump_json()]
    if status := subprocess.run(command).returncode:
        raise Bug(f"the rehearsal itself ended with {status}; nothing was written to {out}, report it with {place}.")
    found = read_rehearsal(out)
    if folder is None and found.passed:
        shutil.rmtree(place)
    return found, place
