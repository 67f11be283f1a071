"""Stage real: runs of the grid, in the order in which their results are worth most, until the time is over."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.gpu.kit import Clock, Record
from bitq.data.registry import variant
from bitq.data.store import open_set
from bitq.errors import BitqError, Preempted
from bitq.grid.select import grid
from bitq.io import read_json
from bitq.results.folder import finished
from bitq.run import Run

ROOT = Path(__file__).parents[2]
PACKING = 60.0  # seconds kept for the archive
# Of study ring at scale full.
HEADLINE_MODELS = ("resnet20", "resnet32")
HEADLINE_ARMS = (
    "fp32", "ring-keep_last-n4", "ring-keep_last-n8", "ring_legacy-keep_last-r4", "ring_legacy-keep_last-r8",
    "ttq-keep_last", "lsq-keep_last-w2", "lsq-keep_last-w3",
)  # fmt: skip


def blocks(rehearse: bool) -> Iterator[tuple[str, list[Run]]]:
    """The runs in the order in which they are trained."""
    if rehearse:
        yield "smoke", list(grid("smoke", ["ring"]))[:2]
        return
    for study in ("ring", "bitnet", "precision", "atq"):
        yield "mini", list(grid("mini", [study]))
    yield "full", [run for run in grid("full", ["ring"]) if run.model in HEADLINE_MODELS and run.arm in HEADLINE_ARMS]
    yield "full", [run for run in grid("full", ["bitnet"]) if run.data.dataset == "cifar10" and run.model == "resnet18"]


def real(record: Record, clock: Clock, out: Path, rehearse: bool, jobs: int) -> int:
    """Train block after block; 1 if runs are left. What a signal interrupts goes on in the next call."""
    results, state, missing = out / "results", out / "state", 0
    for scale, block in blocks(rehearse):
        runs = [run for run in block if present(run)]
        left = [run for run in runs if not finished(run, results)]
        if left and clock.left > (0 if rehearse else PACKING) + 5:
            train([run.id for run in left], scale, results, state, clock, rehearse, jobs)
        note(record, runs, results)
        missing += sum(not finished(run, results) for run in runs) + len(block) - len(runs)
    return int(missing > 0)


def present(run: Run) -> bool:
    """Are its images on this machine?"""
    return _present(run.data.dataset, run.data.variant)


@cache
def _present(dataset: str, name: str) -> bool:
    try:
        open_set(variant(dataset, name))
    except BitqError:
        return False
    return True


def train(names: list[str], scale: str, results: Path, state: Path, clock: Clock, rehearse: bool, jobs: int) -> None:
    """Call `bitq train`, and ask it to save and stop when the time is over."""
    command = [sys.executable, "-m", "bitq.cli", "train", "--scale", scale, "--jobs", str(jobs), *names]
    command += ["--results", str(results), "--state", str(state), "--device", "cpu" if rehearse else "cuda"]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL)
    try:
        process.wait(max(clock.left - (0 if rehearse else PACKING), 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        if process.wait() != Preempted.exit_code:
            print(f"bitq train ended with {process.returncode} when it was asked to stop", file=sys.stderr)


def note(record: Record, runs: list[Run], results: Path) -> None:
    """Write down what is finished."""
    known = record.known()
    for run in runs:
        key = f"run {run.path}"
        found = finished(run, results)
        if found and key not in known:
            env = read_json(found.folder / "env.json")
            record.add(key, accuracy=found.results.accuracy, seconds=env["wall_seconds"], rate=env["images_per_second"])


def files(out: Path) -> list[Path]:
    """What goes home: all records, then the packed files, the smallest first."""
    everything = [path for path in sorted((out / "results").rglob("*")) if path.is_file()]
    models = [path for path in everything if path.suffix == ".safetensors"]
    models.sort(key=lambda path: path.stat().st_size)
    return [path for path in everything if path.suffix == ".json"] + models
