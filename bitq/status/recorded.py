"""Train in a session that records why a run failed, for `bitq status` and `bitq why`."""

from bitq.errors import StorageError
from bitq.results.schema import Results
from bitq.run import Run
from bitq.status.failures import forget_failure, note_failure
from bitq.train.session import Session
from bitq.train.signals import StopRequest


class RecordedSession(Session):
    """A session that writes what ended a run beside its state."""

    def ensure(self, run: Run, stop: StopRequest, need_model: bool = False) -> Results:
        """Return the run's results, trained now if they are not there."""
        folder = self.state / run.hash
        forget_failure(folder)
        try:
            return super().ensure(run, stop, need_model)
        except OSError as error:  # of whatever is not written by bitq.io, such as the lock on a full disk
            failure = StorageError(
                f"{run.id}: {error.filename or 'its state'}: {error.strerror or error}; free space, then start again."
            )
            note_failure(folder, failure)
            raise failure from error
        except Exception as error:
            note_failure(folder, error)
            raise
