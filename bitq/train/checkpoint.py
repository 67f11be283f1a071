"""The state of an unfinished run on disk: written whole, verified when read, the previous one kept."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bitq.deploy import tensorfile
from bitq.errors import DataError, StorageError
from bitq.io import read_json, write_json

CURRENT, PREVIOUS = "checkpoint.safetensors", "previous.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and what JSON can hold."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the current checkpoint so that the folder holds a whole one at any instant."""
    current = folder / CURRENT
    if current.exists():
        try:
            os.replace(current, folder / PREVIOUS)
        except OSError as error:
            raise StorageError(f"{current} cannot be moved aside: {error.strerror}.") from error
    tensorfile.write(current, checkpoint.tensors, checkpoint.meta)


def load(folder: Path, run_hash: str) -> Checkpoint | None:
    """Read the latest whole checkpoint of this run; return None if it never wrote one, and refuse damaged ones."""
    problems = []
    for name in (CURRENT, PREVIOUS):
        if not (folder / name).exists():
            continue
        try:
            tensors, meta = tensorfile.read(folder / name)
        except DataError as error:
            problems.append(str(error))
            continue
        if meta.get("run") != run_hash:
            raise DataError(
                f"{folder / name} is a checkpoint of run {str(meta.get('run'))[:12]}, not of {run_hash[:12]}; "
                f"delete {folder} to train this run from the start."
            )
        if problems:
            print(f"warning: {problems[0]} Going on from {folder / name}.", file=sys.stderr)
        return Checkpoint(tensors, meta)
    if problems:
        raise DataError(f"{problems[-1]} No whole checkpoint is left: delete {folder} to train the run from the start.")
    return None


def count_attempt(folder: Path) -> int:
    """Count the processes that have worked on this run, this one included."""
    file = folder / "attempts.json"
    attempts: int = (read_json(file) if file.exists() else 0) + 1
    write_json(file, attempts)
    return attempts


def discard(folder: Path) -> None:
    """Delete the state of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)
