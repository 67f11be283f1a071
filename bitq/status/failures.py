"""Record why a run failed last, beside its state, until it is started again."""

import contextlib
from pathlib import Path

from pydantic import ValidationError

from bitq.errors import BitqError, Bug, Preempted
from bitq.io import read_bytes, write_atomic
from bitq.records import Frozen
from bitq.results.folder import text

NAME = "failure.json"
# By exit code, as docs/command-line.md lists them.
CLASSES = {2: "usage", 65: "data", 70: "bug", 71: "diverged", 72: "memory", 74: "storage"}


class Failure(Frozen):
    """How a run ended without a result."""

    exit_code: int
    text: str

    @property
    def kind(self) -> str:
        """Name the class of failure."""
        return CLASSES.get(self.exit_code, str(self.exit_code))


def note_failure(folder: Path, error: BaseException) -> None:
    """Record the error that ended a run; being stopped, or running elsewhere, is no failure."""
    if isinstance(error, Preempted) or not isinstance(error, Exception):
        return
    code = error.exit_code if isinstance(error, BitqError) else Bug.exit_code
    failure = Failure(exit_code=code, text=str(error) or type(error).__name__)
    with contextlib.suppress(BitqError):  # on a full disk, where the error itself is all that can be told
        write_atomic(folder / NAME, text(failure))


def forget_failure(folder: Path) -> None:
    """Delete the record of the last failure."""
    with contextlib.suppress(OSError):
        (folder / NAME).unlink()


def failure_of(folder: Path) -> Failure | None:
    """Read the record of the last failure; None if there is none."""
    try:
        return Failure.model_validate_json(read_bytes(folder / NAME))
    except (BitqError, ValidationError):
        return None
