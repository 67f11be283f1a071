"""A real Slurm stops, requeues, starves and forgets: the grid ends complete, with the bytes of an undisturbed run."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from bitq.grid.expand import expand
from bitq.grid.select import Selection
from bitq.results.folder import folder_of, run_digest
from bitq.results.jobs import with_parents
from bitq.run import Run
from tests.plugins import install_plugin
from tests.slurm.cluster import ROOT, Cluster, install, is_pending, until, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

PROFILE = ROOT / "workflow/profiles/slurm"
POLL = 3  # s from one look at the jobs to the next, instead of the 40 of a busy cluster
STUDY = """
study: tiny
title: one run that is long enough to be met
runs: 1
distilled: 0
datasets: {mnist: {}}
phases:
  - phase: "1"
    title: all
    runs: 1
    blocks: [{models: [resnet18], datasets: [mnist], seeds: [1], arms: [{method: ttq}]}]
"""
SCALE = """
scale: smoke
summary: seconds
variants: {mnist: procedural@100}
widths: {resnet18: 4}
recipe: {epochs: 30, batch: 32, lr_every: step, pad: 2}
batch_runs: 1
"""
PAPER = """
studies: {tiny: smoke}
growing: false
title: T
subtitles: {smoke: S}
notices: {smoke: N}
images: {smoke: I}
source_date_epoch: 0
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    install()
    root = tmp_path_factory.mktemp("slurm")
    install_plugin("slurm", root / "plugin")
    here = Cluster(root / "cluster")
    try:
        here.start()
        yield here
    finally:
        here.stop()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A grid of one run, in a folder whose name is not plain."""
    folder = tmp_path_factory.mktemp("the configuration")
    for name, text in {"studies/tiny.yaml": STUDY, "scales/smoke.yaml": SCALE, "paper.yaml": PAPER}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITQ_CONFIG", str(folder))
        yield folder


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the run when nothing happens."""
    results = tmp_path_factory.mktemp("undisturbed")
    return train_here(list(expand("tiny", "smoke")), results)[0]


def train_here(runs: list[Run], results: Path) -> list[str]:
    words = [sys.executable, "-m", "bitq.cli", "train", *(run.id for run in runs), "--scale", "smoke"]
    subprocess.run([*words, "--results", str(results), "--state", str(results / "state")], cwd=ROOT, check=True)
    return [run_digest(folder_of(run, results)) for run in runs]


class Grid:
    """Snakemake with the profile as shipped, in a folder of its own."""

    def __init__(self, cluster: Cluster, folder: Path, *words: str, shared: Path | None = None) -> None:
        self.cluster, self.folder, self.before = cluster, folder, set(cluster.jobs())
        self.results, self.state = (shared or folder) / "results", (shared or folder) / "state"
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "snakemake.log"
        snakemake = [str(cluster.python), "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "grid"]
        where = ["--directory", str(folder), "--profile", str(PROFILE)]
        checks = ["--slurm-init-seconds-before-status-checks", str(POLL)]
        env = os.environ | {
            "BITQ_RESULTS": str(self.results),
            "BITQ_STATE": str(self.state),
            "PYTHONPATH": os.pathsep.join([str(cluster.root.parent / "plugin"), str(ROOT)]),
        }
        with open(self.log, "a") as log:
            call = cluster.inside(*snakemake, *where, *checks, "--config", "scale=smoke", *words)
            self.process = subprocess.Popen(call, env=env, stdout=log, stderr=log)

    def said(self) -> str:
        logs = [self.log, *self.folder.rglob("*.log")]
        return "\n".join(path.read_text(errors="replace") for path in dict.fromkeys(logs))

    def jobs(self) -> list[str]:
        """The jobs of this grid, in the order of their numbers."""
        return sorted(set(self.cluster.jobs()) - self.before, key=int)

    @contextmanager
    def met_in_training(self) -> Iterator[tuple[str, int]]:
        """Wait for the first checkpoint; its job and its process, which stands still until the end of the block."""
        until(lambda: self.process.poll() is not None or any(self.state.rglob("checkpoint.safetensors")))
        assert self.process.poll() is None, self.said()
        trainer = int(next(self.state.rglob("lock")).read_text().split()[1])
        os.kill(trainer, signal.SIGSTOP)
        try:
            yield self.jobs()[0], trainer
        finally:
            with suppress(ProcessLookupError):
                os.kill(trainer, signal.SIGCONT)

    def ends(self, seconds: float = 420) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.cluster.call('squeue', '--states=all')}\n{self.said()}")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a grid's folder"


@contextmanager
def grid(cluster: Cluster, folder: Path, *words: str, shared: Path | None = None) -> Iterator[Grid]:
    running = Grid(cluster, folder, *words, shared=shared)
    try:
        yield running
    finally:
        running.kill()


def digest(results: Path) -> str:
    return run_digest(folder_of(expand("tiny", "smoke")[0], results))


def attempts_of(results: Path) -> int:
    text = (folder_of(expand("tiny", "smoke")[0], results) / "env.json").read_text()
    found = re.search(r'"attempts": (\d+)', text)
    assert found
    return int(found[1])


def complete(running: Grid, undisturbed: str) -> None:
    """Did the grid end well, with the bytes of the undisturbed run, and without a failure that counts?"""
    assert running.ends() == 0, running.said()
    assert digest(running.results) == undisturbed
    assert "Trying to restart" not in running.said()
    assert not list(running.state.iterdir())


def test_a_part_of_the_shipped_grid_ends_with_the_bytes_of_this_machine(cluster: Cluster, folder: Path) -> None:
    part = {"study": "atq", "phase": "distillation", "dataset": "fashion_mnist", "seed": "42"}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BITQ_CONFIG", raising=False)
        chosen = Selection(phases=["distillation"], datasets=["fashion_mnist"], seeds=[42]).of(expand("atq", "smoke"))
        runs = list(with_parents(tuple(chosen)))
        assert len(runs) > len(chosen)  # students and their teachers
        with grid(cluster, folder, *(f"{key}={value}" for key, value in part.items())) as running:
            assert running.ends() == 0, running.said()
        here = train_here(runs, folder.with_name("here"))
    assert [run_digest(folder_of(run, running.results)) for run in runs] == here


def test_scontrol_requeue(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as running:
        with running.met_in_training() as (job, _):
            cluster.call("scontrol", "requeue", job)
        complete(running, undisturbed)
        assert cluster.restarts(job) == 1 and attempts_of(running.results) == 2


def test_preemption_by_a_job_that_needs_the_whole_node(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as running:
        with running.met_in_training() as (job, _):
            urgent = ["--partition=urgent", "--exclusive", "--mem=0", "--output=/dev/null"]
            cluster.call("sbatch", *urgent, "--wrap=exec sleep 1")
        until(lambda: cluster.restarts(job) == 1)
        complete(running, undisturbed)
        assert cluster.restarts(job) == 1 and attempts_of(running.results) == 2


def test_scancel_with_a_signal(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as running:
        with running.met_in_training() as (job, _):
            cluster.call("scancel", "--signal=TERM", job)
        complete(running, undisturbed)
        assert cluster.restarts(job) == 1 and attempts_of(running.results) == 2


def test_the_time_limit(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder, "--set-resources", "train:runtime=3") as running:
        with running.met_in_training() as (job, trainer):  # as long as a run of hours, at no cost
            until(lambda: is_pending(trainer, signal.SIGALRM))  # its deadline, a quarter of its time before the limit
        until(lambda: cluster.restarts(job) == 1)
        cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=30")  # a busy machine needs longer for the rest
        complete(running, undisturbed)
        assert cluster.restarts(job) == 1 and attempts_of(running.results) == 2


def test_a_node_goes_down_and_comes_back(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as running:
        with running.met_in_training() as (job, _):
            cluster.crash_node()
        until(lambda: cluster.restarts(job) == 1)
        time.sleep(POLL + 1)  # Snakemake looks at least once
        cluster.return_node()
        complete(running, undisturbed)
        assert attempts_of(running.results) == 2


def test_a_job_is_killed_for_its_memory(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder, "--set-resources", "train:mem_mb=150 if attempt == 1 else 4000") as running:
        assert running.ends() == 0, running.said()
        first, second = running.jobs()
        assert "Trying to restart" in running.said()
        assert digest(running.results) == undisturbed
        assert "mem=150M" in cluster.call("scontrol", "show", "job", first)
        assert "memory limit" in (cluster.root / "slurmd.log").read_text()
        assert "mem=4000M" in cluster.call("scontrol", "show", "job", second)


def test_the_controller_crashes_while_the_grid_runs(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as running:
        with running.met_in_training():
            cluster.restart_controller()
        complete(running, undisturbed)
        assert attempts_of(running.results) == 1


def test_two_schedulers_share_results_and_state(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    shared = folder / "shared"
    with ExitStack() as grids:
        one = grids.enter_context(grid(cluster, folder / "one", shared=shared))
        with one.met_in_training():
            two = grids.enter_context(grid(cluster, folder / "two", shared=shared))
            until(lambda: two.jobs() and cluster.restarts(two.jobs()[0]))  # it met the run of the first
            refused = grids.enter_context(grid(cluster, folder / "one", shared=shared))  # in the folder of the first
            assert refused.ends() != 0 and "cannot be locked" in refused.said()
        assert one.ends() == two.ends() == 0, one.said() + two.said()
    assert digest(shared / "results") == undisturbed and attempts_of(shared / "results") == 1
    assert not list((shared / "state").iterdir())


def test_a_scheduler_is_killed_and_another_one_takes_over(cluster: Cluster, folder: Path, undisturbed: str) -> None:
    with grid(cluster, folder) as first, first.met_in_training():
        first.kill()
        with grid(cluster, folder) as refused:
            assert refused.ends() != 0 and "--unlock" in refused.said()
        with grid(cluster, folder, "--unlock") as unlocking:
            assert unlocking.ends() == 0, unlocking.said()
    with grid(cluster, folder) as second:  # the first one's job still trains, and is not disturbed
        complete(second, undisturbed)
        assert attempts_of(second.results) == 1


def test_a_python_that_no_job_could_start_is_refused_in_one_sentence(
    cluster: Cluster, folder: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = folder.with_name("an environment")
    spaced.symlink_to(sys.prefix)
    monkeypatch.setattr(cluster, "python", spaced / "bin/python")
    with grid(cluster, folder) as running:
        assert running.ends() != 0 and not running.jobs()
        said = running.log.read_text()
    assert f"started by {spaced}/bin/python, and cannot send" in said and f"ln -s '{spaced}' ~/bitq-env" in said
    assert "Traceback" not in said
