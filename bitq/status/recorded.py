"""Train in a session that records why a run failed, for `bitq status` and `bitq why`."""

import contextlib
from pathlib import Path

from bitq.errors import Preempted, StorageError
from bitq.results.schema import Results
from bitq.run import Run
from bitq.status.failures import forget_failure, note_failure
from bitq.train import checkpoint
from bitq.train.lock import exclusive
from bitq.train.session import Session
from bitq.train.signals import StopRequest


class RecordedSession(Session):
    """A session that writes what ended a run beside its state."""

    def ensure(self, run: Run, stop: StopRequest, need_model: bool = False) -> Results:
        """Return the run's results, trained now if they are not there."""
        folder = self.state / run.hash
        forget_failure(folder)
        try:
            outcome = super().ensure(run, stop, need_model)
        except OSError as error:  # of whatever is not written by bitq.io, such as the lock on a full disk
            failure = StorageError(
                f"{run.id}: {error.filename or 'its state'}: {error.strerror or error}; free space, then start again."
            )
            note_failure(folder, failure)
            raise failure from error
        except Exception as error:
            note_failure(folder, error)
            raise
        discard_state(folder, run.id)
        return outcome


def discard_state(folder: Path, run_id: str) -> None:
    """Delete what is left of the state of a finished run: its process was killed between its last two steps."""
    if folder.exists():
        with contextlib.suppress(Preempted, StorageError), exclusive(folder, run_id):  # unless somebody works on it
            checkpoint.discard(folder)
