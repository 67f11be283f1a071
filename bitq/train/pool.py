"""Train runs side by side: several warm processes on each GPU, or on the processor.

Each worker is a session of its own that takes one run after the other; the parent says which, as JSON, one line a run.
A run waits for its parents, and of those that are ready the one with the most work goes first. A worker that dies ends
its run alone, and another one takes its place.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch

from bitq import deadline
from bitq.errors import BitqError, Bug, Preempted, UsageError
from bitq.io import must_be_writable
from bitq.machine import Machine, machine
from bitq.results.folder import finished
from bitq.results.jobs import flops, with_parents
from bitq.run import Run
from bitq.status.recorded import RecordedSession, discard_state
from bitq.train.board import Board
from bitq.train.session import SEVERITY, Session
from bitq.train.signals import STOP, StopRequest, stop_on_signals

Environment = dict[str, str]


def train_side_by_side(session: Session, runs: Iterable[Run], jobs: int) -> int:
    """Train all that is not done yet, `jobs` runs at a time on each GPU or on the processor; return the exit code."""
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} was given; allowed: 1 and more, such as --jobs 2.")
    must_be_writable(session.results)
    with stop_on_signals() as stop:
        pool = Pool(session, with_parents(tuple(runs)), stop)
        with pool.board:
            try:
                pool.start(places(session.machine) * jobs)
                return pool.train()
            finally:
                pool.close()


def places(on: Machine) -> list[Environment]:
    """For each GPU, the environment that shows it alone; nothing to set for the processor or a GPU that was named."""
    if on.device.type != "cuda" or on.device.index is not None:
        return [{}]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else map(str, range(torch.cuda.device_count()))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


class Worker:
    """A process, and the run that it trains."""

    def __init__(self, session: Session, environment: Environment, reports: "Reports", board: Board) -> None:
        self.environment, self.reports, self.board = environment, reports, board
        self.run: Run | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bitq.train.pool", json.dumps(settings_of(session))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            # Signals, and the deadline, reach it through its parent alone.
            env={**os.environ, **environment, deadline.OURS: ""}, start_new_session=True,
        )  # fmt: skip
        self.threads = [threading.Thread(target=task, daemon=True) for task in (self._listen, self._pass_on)]
        for thread in self.threads:
            thread.start()

    def take(self, run: Run, need_model: bool) -> None:
        """Give it a run."""
        self.run = run
        self.board.begin(run.id)
        line = json.dumps({"run": run.model_dump(mode="json"), "models": need_model})
        with suppress(BrokenPipeError):  # it has died, and the end of its output will say so
            print(line, file=self.process.stdin, flush=True)

    def close(self) -> None:
        """End it once its run is over, and pass on all that it wrote."""
        with suppress(BrokenPipeError), self.process:  # which closes all pipes and waits
            if self.process.stdin:
                self.process.stdin.close()
            for thread in self.threads:
                thread.join()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self.reports.put((self, int(line)))
        self.reports.put((self, None))

    def _pass_on(self) -> None:
        for line in self.process.stderr or ():
            self.board.hear(line)


Reports = SimpleQueue[tuple[Worker, int | None]]  # the exit code of a worker's run; none when the process has ended


@dataclass
class Pool:
    """Workers, and the runs that none of them has taken yet."""

    session: Session
    runs: tuple[Run, ...]
    stop: StopRequest
    workers: list[Worker] = field(default_factory=list)
    reports: Reports = field(default_factory=SimpleQueue)
    worst: int = 0

    def __post_init__(self) -> None:
        self.order = priorities(self.runs)
        self.needed = {parent.id for run in self.runs for parent in run.parents}
        self.waiting = []
        for run in self.runs:
            if self._is_done(run):
                discard_state(self.session.state / run.hash, run.id)
            else:
                self.waiting.append(run)
        self.board = Board(len(self.waiting))

    def start(self, environments: list[Environment]) -> None:
        """Start a worker in each place, but no more than there are runs."""
        chosen = environments[: len(self.waiting)]
        self.workers += [Worker(self.session, environment, self.reports, self.board) for environment in chosen]

    def train(self) -> int:
        """Hand out runs until none is left or a signal comes; return the worst exit code."""
        told = False
        while True:
            if not self.stop:
                self._hand_out()
            elif not told:
                told = self._tell_to_stop()
            if not any(worker.run for worker in self.workers):
                return Preempted.exit_code if self.stop else self.worst
            try:
                self._hear(*self.reports.get(timeout=0.2))  # a short wait: signals are passed on at once
            except Empty:
                continue

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()

    def _hand_out(self) -> None:
        unfinished = {run.id for run in self.waiting} | {worker.run.id for worker in self.workers if worker.run}
        ready = [run for run in self.waiting if not any(parent.id in unfinished for parent in run.parents)]
        ready.sort(key=lambda run: self.order[run.id], reverse=True)
        idle = [worker for worker in self.workers if worker.run is None]
        for worker, run in zip(idle, ready, strict=False):
            self.waiting.remove(run)
            worker.take(run, self._needs_model(run))

    def _hear(self, worker: Worker, code: int | None) -> None:
        if code is None:
            code = self._bury(worker)
        self.worst = max(self.worst, code, key=SEVERITY.index)
        if worker.run:
            self.board.end(worker.run.id)
        worker.run = None

    def _bury(self, worker: Worker) -> int:
        """Put another worker in the place of a dead one; the exit code of the run that it leaves behind."""
        worker.close()
        self.workers.remove(worker)
        if self.waiting and not self.stop:
            self.workers.append(Worker(self.session, worker.environment, self.reports, self.board))
        if worker.run is None:
            return 0
        status = worker.process.returncode
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        self.board.hear(f"bitq: the process that trained {worker.run.id} ended with {how}; start it again.\n")
        return Preempted.exit_code if status < 0 or status == Preempted.exit_code else Bug.exit_code

    def _tell_to_stop(self) -> bool:
        for worker in self.workers:
            if self.stop.received and worker.process.poll() is None:
                worker.process.send_signal(self.stop.received)
        return True

    def _is_done(self, run: Run) -> bool:
        try:
            return finished(run, self.session.results, self._needs_model(run)) is not None
        except BitqError:
            return False  # a worker says what is wrong

    def _needs_model(self, run: Run) -> bool:
        return self.session.models or run.id in self.needed


def priorities(runs: tuple[Run, ...]) -> dict[str, float]:
    """Sum the work of each run, and of the longest chain of runs that wait for it; parents come before children."""
    own = {run.id: flops(run) for run in runs}
    order = dict(own)
    for run in reversed(runs):
        for parent in run.parents:
            if parent.id in own:
                order[parent.id] = max(order[parent.id], own[parent.id] + order[run.id])
    return order


def settings_of(session: Session) -> dict[str, Any]:
    """Describe a session to a worker, in what JSON can hold."""
    plain = {key: value for key, value in asdict(session).items() if key != "machine"}
    on = asdict(session.machine)
    return json.loads(json.dumps(plain | {"machine": on}, default=str))  # type: ignore[no-any-return]


def work(settings: dict[str, Any], lines: Iterable[str]) -> Iterator[int]:
    """Train the runs that the lines describe; the exit code of each."""
    on, results, state = machine(**settings["machine"]), Path(settings["results"]), Path(settings["state"])
    on.prepare()
    for line in lines:
        task = json.loads(line)
        session = RecordedSession(on, results, state, settings["strict"], settings["models"] or task["models"])
        yield session.train([Run.model_validate(task["run"])])


def main() -> None:
    """Be a worker: runs come in, exit codes go out."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what else is printed is no answer
    for number in STOP:
        signal.signal(number, lambda *_: sys.exit(Preempted.exit_code))  # between two runs
    for code in work(json.loads(sys.argv[1]), sys.stdin):
        print(code, file=answers, flush=True)


if __name__ == "__main__":
    main()
