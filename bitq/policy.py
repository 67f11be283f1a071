"""Whether and when a command that failed is started again: one table, by the class of its failure.

`python -m bitq.policy [--attempt N --record FILE] COMMAND…` runs a command until it is done or the table says no. It is
what the workflow wraps around each training, so that no scheduler has to know one failure from another.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import FrameType

from bitq.deadline import OURS, SLURM, is_near
from bitq.errors import BitqError, Bug, DataError, Diverged, OutOfMemory, Preempted, StorageError, UsageError
from bitq.io import read_json, write_json


@dataclass(frozen=True)
class Policy:
    """What happens to a run after a failure of one class."""

    failure: str
    again: float  # so many times
    pause: float = 0.0  # s before the first of them, doubled for each further one up to LONGEST
    alone: bool = False  # on a GPU that no other run shares


LONGEST = 300.0  # s
POLICIES = {
    UsageError.exit_code: Policy("a request that cannot be met", again=0),
    DataError.exit_code: Policy("a file that is damaged or missing", again=0),
    Bug.exit_code: Policy("a bug", again=0),
    Diverged.exit_code: Policy("a run that diverged, under --strict", again=0),
    OutOfMemory.exit_code: Policy("no memory left on the device", again=1, alone=True),
    StorageError.exit_code: Policy("reading or writing failed", again=3, pause=20),
    Preempted.exit_code: Policy("stopped, or running elsewhere", again=inf, pause=10),
}
UNKNOWN = Policy("an unknown failure", again=0)
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
KILLED = -signal.SIGKILL  # for memory, as a rule: the scheduler's `retries` count, and it asks for more


def policy_of(code: int) -> Policy:
    """Return the policy on an exit code."""
    return POLICIES.get(code, UNKNOWN)


@dataclass
class Supervisor:
    """A command, and the signals that came while it ran."""

    command: list[str]
    stopped: int = 0  # the signal that asked for it
    child: subprocess.Popen[bytes] | None = None
    failures: dict[int, int] = field(default_factory=dict)

    def listen(self) -> None:
        """Pass signals on to the command from now on."""
        for number in STOP:
            signal.signal(number, self._pass_on)

    def run(self) -> int:
        """Run the command as often as the policies on its failures allow; return its last exit code."""
        alone = False
        while True:
            code = self._run_once(alone)
            policy = policy_of(code)
            count = self.failures[code] = self.failures.get(code, 0) + 1
            if code == 0 or count > policy.again:
                return code
            if code == Preempted.exit_code and (requeued() or self.stopped or is_near()):
                return code
            alone = alone or policy.alone
            pause = min(policy.pause * 2 ** (count - 1), LONGEST)
            say(f"exit code {code}, {policy.failure}; once more in {pause:.0f} s.")
            if self._is_stopped_within(pause):
                return Preempted.exit_code

    def _run_once(self, alone: bool) -> int:
        environment = dict(os.environ) | deadline_of_job() | ({"BITQ_ALONE": "1"} if alone else {})
        self.child = subprocess.Popen(self.command, env=environment)
        if self.stopped:  # while the command was being started
            self.child.send_signal(self.stopped)
        code = self.child.wait()
        self.child = None
        return Preempted.exit_code if -code in STOP else code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.stopped = number
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(number)

    def _is_stopped_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.stopped and time.monotonic() < end:
            time.sleep(min(0.2, max(end - time.monotonic(), 0.0)))
        return bool(self.stopped)


# --- Slurm -----------------------------------------------------------------------------------------------------------


def is_cluster_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a Slurm job was made for this command, and is not one that somebody runs a whole workflow in."""
    return bool(environment.get("BITQ_OWN_JOB") and environment.get("SLURM_JOB_ID") and shutil.which("scontrol"))


def deadline_of_job() -> dict[str, str]:
    """Ask Slurm when it will end the job, where it did not say so; in the words of bitq's own deadline."""
    if not is_cluster_job() or OURS in os.environ or SLURM in os.environ:
        return {}
    left = slurm("squeue", "--noheader", "--format=%L", "--jobs") or ""
    days, _, clock = left.rpartition("-")
    try:
        seconds = sum(60**place * int(part) for place, part in enumerate(reversed(clock.split(":"))))
        return {OURS: str(time.time() + 86400 * int(days or 0) + seconds)}
    except ValueError:  # UNLIMITED, or no answer
        return {}


def requeued() -> bool:
    """Send the own Slurm job back into its queue, which is no failure to whoever watches it."""
    if not is_cluster_job() or slurm("squeue", "--noheader", "--format=%T", "--jobs") != "RUNNING":
        return False  # not such a job, or Slurm ends it for reasons of its own, and requeues it or not
    say("stopped with all saved; the job goes back into the queue.")
    return slurm("scontrol", "requeue") is not None


def slurm(*words: str) -> str | None:
    """Return what a command of Slurm says of the own job; None if it fails."""
    done = subprocess.run([*words, os.environ["SLURM_JOB_ID"]], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


# --- one attempt of a scheduler ---------------------------------------------------------------------------------------


def attempt(work: Supervisor, number: int, record: Path | None) -> int:
    """Run a command, unless an earlier attempt of the same call ended in a failure that is never tried again."""
    if record and number > 1 and record.exists():
        code = int(read_json(record)["exit_code"])
        say(f"not tried again: the attempt before ended with exit code {code}, {policy_of(code).failure}; see above.")
        return code
    if record:
        record.unlink(missing_ok=True)
    code = work.run()
    if record and code not in (0, Preempted.exit_code, KILLED):
        with contextlib.suppress(StorageError):  # a full disk may be what ended the run
            write_json(record, {"exit_code": code})
    return code if code >= 0 else 128 - code


def say(text: str) -> None:
    """Tell whoever reads the log."""
    print(f"bitq: {text}", file=sys.stderr, flush=True)


def main(words: list[str]) -> int:
    """Read the options before the command, and run it."""
    number, record = 1, None
    while words[:1] and words[0] in ("--attempt", "--record"):
        option, value, *words = words
        number, record = (int(value), record) if option == "--attempt" else (number, Path(value))
    if not words:
        raise UsageError("no command was given; call until_done [--attempt N --record FILE] COMMAND….")
    work = Supervisor(words)
    work.listen()
    return attempt(work, number, record)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BitqError as error:
        say(str(error))
        sys.exit(error.exit_code)
