"""The state of unfinished runs: who works on them, and how far the last checkpoint is. Nothing is locked to look."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitq.io import is_alive

LOCK, LEASE, CHECKPOINTS = "lock", "lease", ("checkpoint.safetensors", "previous.safetensors")
FRESH = 120.0  # s since a process on another machine gave its last sign of life
MOST_HEADER = 4 * 2**20  # bytes


@dataclass(frozen=True)
class Holder:
    """A process that works on a run."""

    host: str
    pid: int
    since: float  # time at which it took the lock


@dataclass(frozen=True)
class Progress:
    """What the last checkpoint says."""

    epoch: int
    step: int
    seconds: float  # of all attempts until then
    training_seconds: float
    made_by: tuple[str, str] | None  # engine and kind of machine
    written: float  # time of the file


def holder_of(folder: Path) -> Holder | None:
    """Find the living process that works on a run; on another machine, one that gave a sign of life lately."""
    try:
        host, pid = (folder / LOCK).read_text(errors="replace").split()[:2]
        holder = Holder(host, int(pid), _written(folder / LOCK))
    except (OSError, ValueError):
        return None
    renewed = _written(folder / LEASE)
    if holder.host == os.uname().nodename:
        # The number may be another process's by now: a holder renews its lease.
        lives = is_alive(holder.pid) and (not renewed or time.time() - renewed < FRESH)
    else:
        signs = [renewed, holder.since, *(_written(folder / name) for name in CHECKPOINTS)]
        lives = time.time() - max(signs) < FRESH
    return holder if lives else None


def _written(path: Path) -> float:
    """Return when a file was written last; 0 if it is not there, or no longer."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def progress_of(folder: Path) -> Progress | None:
    """Read how far a run was when it was saved last; None if it never was, or the file cannot be read."""
    for name in CHECKPOINTS:
        if meta := _meta(folder / name):
            return Progress(
                epoch=meta["epoch"],
                step=meta["step"],
                seconds=meta["seconds"],
                training_seconds=meta["training_seconds"],
                made_by=tuple(meta["made_by"]) if meta.get("made_by") else None,
                written=meta["written"],
            )
    return None


def _meta(path: Path) -> dict[str, Any] | None:
    """Read the metadata of a checkpoint from its header, without its tensors."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            fields = json.loads(file.read(min(length, MOST_HEADER)))
            written = os.fstat(file.fileno()).st_mtime
        meta = json.loads(fields["__metadata__"]["bitq"])
        return {**meta, "written": written} if {"epoch", "step", "seconds", "training_seconds"} <= meta.keys() else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
