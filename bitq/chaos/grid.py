"""Train a part of the grid twice, once alone and once under failures, and compare every byte."""

import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bitq.chaos import disk
from bitq.chaos.damage import DAMAGES
from bitq.chaos.plan import Plan
from bitq.chaos.processes import Process, Scheduler, wait_for_end
from bitq.deploy import tensorfile
from bitq.engine import code_sha256
from bitq.errors import Bug, DataError
from bitq.grid.select import find_run, grid
from bitq.io import is_unfinished_write
from bitq.results.folder import DIGESTED, folder_of, read, run_digest
from bitq.results.jobs import with_parents
from bitq.results.manifest import RESULTS
from bitq.results.rehearsal import TARGETS, Rehearsal, Target
from bitq.run import Run

CHECKPOINT = "checkpoint.safetensors"
DISK_MIB = 128
FILL_SHARE = 0.15  # of the starts of the scheduler
EARLY_SHARE = 0.1  # of the starts, those that are disturbed before a run has begun
MOST_DAMAGES = 3  # at once, while nothing runs
WEIGHTS = {"worker": 6, "scheduler": 2, "everything": 3, "stop": 2}
LAST_TRIES = 20
PATIENCE = 900.0  # seconds until a scheduler that nobody disturbs must have ended
# What a refusal of two damaged checkpoints tells its reader to delete.
DELETE = re.compile(r"delete (/\S+) to train")


def some_runs(scale: str, count: int, seed: int, studies: Sequence[str] = ()) -> tuple[Run, ...]:
    """Draw runs of the grid; what they learn from comes with them."""
    every = grid(scale, studies)
    return with_parents(tuple(random.Random(seed).sample(every, min(count, len(every)))))


def changed_since(path: Path, instant: float) -> bool:
    """Tell whether a file is there and was written after an instant."""
    try:
        return path.stat().st_mtime > instant
    except OSError:
        return False


def is_refused(path: Path) -> bool:
    """Tell whether what reads a file when a run goes on or is used would refuse it."""
    try:
        if path.name == CHECKPOINT:
            tensorfile.read(path)
        else:
            read(path.parent)
    except DataError:
        return True
    return False


class Chaos:
    """A rehearsal in progress."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.folder = plan, Path(plan.folder)
        self.runs = with_parents(tuple(find_run(name, plan.scale) for name in plan.runs))
        self.draw = random.Random(plan.seed)
        self.alone, self.disturbed = self.folder / "alone", self.folder / "disturbed"
        self.results, self.state = self.disturbed / "results", self.disturbed / "state"
        self.kills: Counter[Target] = Counter()
        self.damaged: Counter[str] = Counter()
        self.last: dict[Path, int] = {}  # when each damaged file was damaged last, in ns
        self.pending: set[str] = set()  # damaged places that no log has named yet
        self.told = self.detected = self.filled = self.refused = self.bugs = self.lost = self.starts = self.rounds = 0
        self.workers: set[Process] = set()
        self.schedulers: list[Scheduler] = []

    def rehearse(self) -> Rehearsal:
        """Train alone, then again and again under failures until the kills are used up; leave no process behind."""
        try:
            return self._rehearse()
        finally:
            for scheduler in self.schedulers:
                scheduler.kill_everything()

    def _rehearse(self) -> Rehearsal:
        start = time.monotonic()
        expected = self._train_alone()
        if self.plan.has_disk:
            disk.mount(self.disturbed, DISK_MIB)
        while True:
            self._train_disturbed()
            self._finish()
            self.rounds += 1
            self.lost += sum(self._digest(run, self.results) != expected[run.id] for run in self.runs)
            left_behind = self._left_behind()
            if sum(self.kills.values()) >= self.plan.kills:
                return self._record(left_behind, time.monotonic() - start)
            shutil.rmtree(self.results)

    def _train_alone(self) -> dict[str, str]:
        scheduler = self._start(self.alone)
        if scheduler.popen.wait() != 0:
            raise Bug(f"the runs cannot be trained even undisturbed; {scheduler.log} says why.")
        digests = {run.id: self._digest(run, self.alone / "results") for run in self.runs}
        return {name: digest for name, digest in digests.items() if digest}

    def _start(self, root: Path) -> Scheduler:
        self.starts += root == self.disturbed
        where = ["--results", str(root / "results"), "--state", str(root / "state")]
        words = ["train", *self.plan.runs, "--scale", self.plan.scale, *where]
        log = self.folder / "logs" / f"{root.name}-{self.starts}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        scheduler = Scheduler([*words, "--jobs", str(self.plan.jobs), "--device", "cpu", "--models"], log)
        self.schedulers.append(scheduler)
        return scheduler

    def _train_disturbed(self) -> None:
        """Disturb the grid until its end or that of the kills."""
        while not self._has_killed_enough:
            if self.plan.has_disk and self.draw.random() < FILL_SHARE:
                self._train_on_a_full_disk()
                continue
            scheduler = self._start(self.disturbed)
            self._disturb(scheduler)
            self._heed(scheduler.log)
            if scheduler.exit_code == 0:
                return
            for _ in range(self.draw.randint(1, MOST_DAMAGES)):
                self._damage()

    @property
    def _has_killed_enough(self) -> bool:
        return sum(self.kills.values()) >= self.plan.kills

    def _disturb(self, scheduler: Scheduler) -> None:
        """Kill something at random moments until the scheduler has ended, of itself or not."""
        if self.draw.random() > EARLY_SHARE:
            self._wait_for_training(scheduler)
        while self._wait(scheduler, self.draw.uniform(0, 2 * self.plan.every)):
            if self._has_killed_enough:
                self._wait(scheduler, PATIENCE)
                return
            target = self.draw.choices(TARGETS, [WEIGHTS[each] for each in TARGETS])[0]
            self.kills[target] += self._hit(scheduler, target)

    def _wait_for_training(self, scheduler: Scheduler) -> None:
        """Let the scheduler go on until a run is at work: what starts up has little to lose."""
        begun = time.time()
        while self._wait(scheduler, 0.1):
            if any(changed_since(path, begun) for path in self.state.glob("*/attempts.json")):
                return

    def _hit(self, scheduler: Scheduler, target: Target) -> bool:
        if target == "worker":
            workers = scheduler.workers
            return bool(workers) and self.draw.choice(workers).send(signal.SIGKILL)
        if target == "scheduler":
            return scheduler.kill()
        if target == "everything":
            return self._kill_everything(scheduler)
        hit = scheduler.process.send(signal.SIGTERM)
        self._wait(scheduler, PATIENCE)
        return hit

    def _kill_everything(self, scheduler: Scheduler) -> bool:
        """Kill scheduler and workers at once, those too that an earlier scheduler left behind."""
        hit = scheduler.kill_everything()
        for worker in self.workers:
            worker.send(signal.SIGKILL)
        wait_for_end(self.workers, PATIENCE)
        return hit

    def _wait(self, scheduler: Scheduler, seconds: float) -> bool:
        """Let the scheduler go on; return false if it ends by itself before the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if scheduler.exit_code is not None:
                return False
            self.workers |= set(scheduler.workers)
            time.sleep(0.05)
        return scheduler.exit_code is None

    def _train_on_a_full_disk(self) -> None:
        """Fill the disk while the grid trains; every run must say so, and go on once there is space."""
        scheduler = self._start(self.disturbed)
        running = self._wait(scheduler, self.draw.uniform(0, 2 * self.plan.every))
        disk.fill(self.disturbed, self.draw)
        self._wait(scheduler, PATIENCE)
        disk.free(self.disturbed)
        told = "No space left on device" in scheduler.log.read_text(errors="replace")
        met_damage = self._heed(scheduler.log)  # and may have ended before it wrote anything
        if running and scheduler.exit_code != 0 and (told or not met_damage):
            self.filled += 1
            self.refused += told and scheduler.exit_code != Bug.exit_code

    def _finish(self) -> None:
        """Train on undisturbed until all is done."""
        wait_for_end(self.workers, PATIENCE)
        for _ in range(LAST_TRIES):
            scheduler = self._start(self.disturbed)
            self._wait(scheduler, PATIENCE)
            self._heed(scheduler.log)
            if scheduler.exit_code == 0:
                return
            scheduler.kill_everything()

    def _damage(self) -> None:
        """Damage a checkpoint or a finished result, unless something runs that may be about to replace it."""
        if any(worker.is_running for worker in self.workers):
            return
        whole = (filter(self._is_whole, paths) for paths in (self._checkpoints(), self._finished_files()))
        groups = [group for group in map(list, whole) if group]
        if not groups:
            return
        path = self.draw.choice(self.draw.choice(groups))
        kind = self.draw.choice(sorted(DAMAGES))
        DAMAGES[kind](path, self.draw)
        self.damaged[kind] += 1
        self.detected += is_refused(path)
        self.last[path] = path.stat().st_mtime_ns
        self.pending.add(str(path) if path.name == CHECKPOINT else str(path.parent))

    def _is_whole(self, path: Path) -> bool:
        """Tell whether a file was written anew since it was damaged: a run may be killed before it does that."""
        return self.last.get(path) != path.stat().st_mtime_ns

    def _checkpoints(self) -> list[Path]:
        """List whole checkpoints that will be read again."""
        open_runs = (run for run in self.runs if not (folder_of(run, self.results) / RESULTS).exists())
        paths = (self.state / run.hash / CHECKPOINT for run in open_runs)
        return [path for path in paths if path.exists() and str(path) not in self.pending]

    def _finished_files(self) -> list[Path]:
        """List the files of whole results."""
        folders = (folder_of(run, self.results) for run in self.runs)
        whole = (folder for folder in folders if (folder / RESULTS).exists() and str(folder) not in self.pending)
        return [folder / name for folder in whole for name in DIGESTED if (folder / name).exists()]

    def _heed(self, log: Path) -> bool:
        """Look for what a log says of damaged files, and do as it says; count what it should not say."""
        text = log.read_text(errors="replace")
        self.bugs += text.count("Traceback (most recent call last)")
        named = {place for place in self.pending if f"{place}:" in text or f"{place}/" in text or f"{place} " in text}
        self.told += len(named)
        self.pending -= named
        results = {place for place in named if Path(place).is_relative_to(self.results)}
        for folder in results | set(DELETE.findall(text)):
            shutil.rmtree(folder, ignore_errors=True)
        return bool(named)

    def _digest(self, run: Run, results: Path) -> str | None:
        folder = folder_of(run, results)
        return run_digest(folder) if (folder / RESULTS).exists() else None

    def _left_behind(self) -> int:
        """Count files that nobody needs any more, and list them beside the logs."""
        unfinished = (path for path in self.disturbed.rglob("*") if is_unfinished_write(path.name))
        found = sorted({*unfinished, *(path for path in self.state.rglob("*") if path.is_file())})
        names = "".join(f"{path.relative_to(self.disturbed)}\n" for path in found)
        (self.folder / "logs" / "left-behind").write_text(names)
        return len(found)

    def _record(self, left_behind: int, seconds: float) -> Rehearsal:
        from bitq.machine import fingerprint, machine

        return Rehearsal(
            scale=self.plan.scale,
            seed=self.plan.seed,
            jobs=self.plan.jobs,
            runs=len(self.runs),
            studies=tuple(sorted({run.study for run in self.runs})),
            rounds=self.rounds,
            starts=self.starts,
            kills={target: self.kills[target] for target in TARGETS},
            damaged=dict(self.damaged),
            detected=self.detected,
            told=self.told,
            filled=self.filled,
            refused=self.refused,
            bugs=self.bugs,
            lost=self.lost,
            left_behind=left_behind,
            seconds=round(seconds, 1),
            machine=fingerprint(machine("cpu")),
            code_sha256=code_sha256(),
        )
