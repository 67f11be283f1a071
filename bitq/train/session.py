"""Train runs one after the other in one warm process, parents first."""

import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from bitq.engine import code_sha256
from bitq.errors import BitqError, Bug, DataError, Diverged, OutOfMemory, Preempted
from bitq.grid.select import find_run
from bitq.io import must_be_writable
from bitq.machine import Machine, fingerprint
from bitq.measure.memory import check_memory
from bitq.results.folder import finished, folder_of
from bitq.results.schema import Results
from bitq.run import Run
from bitq.train import checkpoint
from bitq.train.before_training import calibrate_before_training
from bitq.train.finish import finish
from bitq.train.images import open_data, test_batches, training_batches
from bitq.train.lock import exclusive
from bitq.train.loop import Training, train
from bitq.train.memory import forget_peak
from bitq.train.network import build_network, build_teacher, check_options
from bitq.train.parents import check_parents
from bitq.train.progress import Progress, clock
from bitq.train.signals import StopRequest, stop_on_signals

# From bad to worse; a session ends with the worst that it met.
SEVERITY = (0, 75, 74, 72, 71, 2, 65, 70)


@dataclass(frozen=True)
class Session:
    """Where to train, and where results and state lie."""

    machine: Machine
    results: Path
    state: Path
    strict: bool = False  # a diverged run is an error
    models: bool = False  # a finished run whose packed file is absent is trained again

    def train(self, runs: Iterable[Run]) -> int:
        """Train all that is not done yet, whatever fails in between; return the exit code."""
        worst = 0
        must_be_writable(self.results)  # told now, not after hours of training
        with stop_on_signals() as stop:
            for run in runs:
                code = self._train_reporting(run, stop)
                worst = max(worst, code, key=SEVERITY.index)
                if stop:
                    return Preempted.exit_code
        return worst

    def _train_reporting(self, run: Run, stop: StopRequest) -> int:
        try:
            with stop.interrupting(run.id):
                outcome = self.ensure(run, stop, need_model=self.models)
            if self.strict and outcome.status == "diverged":
                raise Diverged(f"{run.id} went non-finite ({_where(outcome)}).")
        except BitqError as error:
            print(f"bitq: {error}", file=sys.stderr)
            return error.exit_code
        except Exception:
            traceback.print_exc()
            print(
                f"bitq: {run.id} failed on a bug, see above; its state is kept in {self._folder(run)}.", file=sys.stderr
            )
            return Bug.exit_code
        return 0

    def ensure(self, run: Run, stop: StopRequest, need_model: bool = False) -> Results:
        """Return the run's results, trained now if they are not there."""
        done = finished(run, self.results, need_model)
        if done:
            return done.results
        self._check_repeatable(run)
        check_parents(run, self.results)
        check_memory(run, self.machine.device)
        self._train_parents(run, stop)
        with exclusive(self._folder(run), run.id):
            done = finished(run, self.results, need_model)  # another process may have finished it meanwhile
            outcome = done.results if done else self._train(run, stop)
            with stop.deferred():
                checkpoint.discard(self._folder(run))
        return outcome

    def _check_repeatable(self, run: Run) -> None:
        """Reject a finished run without its packed file that would not come out equal here, before it is trained."""
        there = finished(run, self.results)
        if there and (there.env.code_sha256, there.env.machine) != (code_sha256(), fingerprint(self.machine)):
            raise DataError(
                f"{run.id} is finished, but its packed file is absent, and another engine or kind of machine made it; "
                f"copy the file into {folder_of(run, self.results)}, or train into another folder: --results FOLDER."
            )

    def _train_parents(self, run: Run, stop: StopRequest) -> None:
        parents = [find_run(parent.id, run.scale, self.results) for parent in run.parents if not parent.is_file]
        if not all(finished(parent, self.results, need_model=True) for parent in parents):
            check_options(run)  # told now, not after hours of training its parents
        for parent in parents:
            if self.ensure(parent, stop, need_model=True).packed is None:
                raise DataError(f"{run.id} needs {parent.id}, which diverged and ships nothing to go on from.")

    def _train(self, run: Run, stop: StopRequest) -> Results:
        try:
            return self._train_to_the_end(run, stop)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(run, error) from error
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise _out_of_memory(run, error) from error

    def _train_to_the_end(self, run: Run, stop: StopRequest) -> Results:
        forget_peak(self.machine.device)
        model = build_network(run, self.machine, self.results)
        teacher = build_teacher(run, self.machine, self.results)
        images = open_data(run)
        test, batches = test_batches(images, run, self.machine), training_batches(images, run, self.machine)
        training = Training(run, model, batches, self.machine, self._folder(run), teacher)
        resumed = training.resume()
        done = training.epoch + training.step / batches.steps
        with Progress(run.id, run.recipe.epochs, batches.steps, done) as progress:
            if not resumed:
                progress.begin("calibrating")
                calibrate_before_training(training)
            train(training, test, stop, progress)
            progress.begin("packing")
            outcome = finish(training, test, self.results)
            progress.close(_summary(outcome, training.wall_seconds))
        return outcome

    def _folder(self, run: Run) -> Path:
        return self.state / run.hash


def _out_of_memory(run: Run, error: Exception) -> OutOfMemory:
    first_line = str(error).splitlines()[0]
    return OutOfMemory(
        f"{run.id} ran out of memory ({first_line}); train it on a larger device: a smaller batch would be another run."
    )


def _where(outcome: Results) -> str:
    return f"{outcome.diverged.what} in epoch {outcome.diverged.epoch}" if outcome.diverged else ""


def _summary(outcome: Results, seconds: float) -> str:
    if outcome.packed is None:
        return f"diverged: {_where(outcome)}"
    packed = outcome.packed
    size = f"{packed.file_bytes:,} bytes ({packed.compression:.1f}× smaller)"
    return f"{packed.accuracy:.2f} % from {size}, {clock(seconds)}"
