"""Measure what a step, an evaluated image and the end of a run cost here, and plan whole studies from that."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bitq.data.loader import EVALUATION_BATCH
from bitq.data.registry import variant
from bitq.data.store import ImageSet
from bitq.deploy.evaluate import evaluate
from bitq.deploy.pack import BITS, default_packing
from bitq.errors import DataError
from bitq.grid.expand import expand
from bitq.grid.plan import Cost, PlanRow, plan_row
from bitq.grid.study import scale, scales, studies
from bitq.machine import Machine, machine
from bitq.measure.memory import cost_of, expected_memory
from bitq.precision import autocast
from bitq.quant.cast import Cast
from bitq.quant.convert import settings_of
from bitq.quant.registry import make_quantizer
from bitq.results.folder import finished
from bitq.run import Norm, Precision, Run
from bitq.train.capture import EAGER_STEPS
from bitq.train.finish import ship
from bitq.train.images import TestSet, test_batches, training_batches
from bitq.train.loop import Training, measure
from bitq.train.network import AS_TEACHER, build_network

# A probe's forward pass: large enough to be typical, small enough to be quick even for a full-width network.
PROBE_MACS = 7e8
STEPS = 3
RECORD_BYTES = 40_000  # four files with curves and level audit, and predictions
PLAIN: dict[str, Any] = {**AS_TEACHER, "norm": "none", "distillation": None, "keep": ()}


@dataclass(frozen=True)
class Speed:
    """Seconds of a network in full precision, measured."""

    step: float  # per training image
    evaluation: float  # per image at the end of an epoch
    start: float  # per run: building the network
    end: float  # per run: export, read back, compare


def plan_studies(
    scale_names: Sequence[str], study_names: Sequence[str], jobs: int, device: str, results: Path
) -> list[PlanRow]:
    """Plan every study at every scale; what lies finished in `results` costs nothing more."""
    startup = time.process_time()  # what this process took to load its libraries, as every job will
    planner = Planner(machine(device), startup)
    planner.machine.prepare()
    rows = []
    for at in scale_names or scales():
        for study in study_names or studies():
            runs = expand(study, at)
            done = {run.id for run in runs if _is_finished(run, results)}
            rows.append(plan_row(study, at, runs, done, planner.cost, jobs))
    return rows


def _is_finished(run: Run, results: Path) -> bool:
    try:
        return finished(run, results) is not None
    except DataError:  # damaged, or of another grid: it will have to be trained
        return False


def _say(what: str) -> None:
    """Name on stderr what is measured now: all of a grid take minutes."""
    print(f"bitq plan measures {what}", file=sys.stderr, flush=True)


class Planner:
    """Costs of runs, from one probe of each network and one of each treatment.

    A network is probed in full precision; what a method adds to a step is the ratio that it has in a small network.
    """

    def __init__(self, on: Machine, startup: float) -> None:
        self.machine, self.startup = on, startup
        self.speeds: dict[tuple[object, ...], Speed] = {}
        self.steps: dict[tuple[object, ...], float] = {}  # seconds of the small network, by treatment

    def cost(self, run: Run) -> Cost:
        """Estimate one run, start-up shared with the runs of its batch."""
        speed, found = self.speed(run), variant(run.data.dataset, run.data.variant)
        trained = found.train * (1 - run.recipe.validation) * run.recipe.epochs
        teaching = speed.evaluation if run.distillation else 0.0
        step = speed.step * self.ratio(run) + teaching if trained else 0.0
        seconds = (
            speed.start
            + trained * step
            + found.test * (run.recipe.epochs + 2) * speed.evaluation  # at the end in memory, and from the file
            + speed.end
            + self.startup / scale(run.scale).batch_runs
        )
        macs, float_size = _macs(run), 4 * _params(run)
        passes = 3 * trained + found.test * (run.recipe.epochs + 2) + (trained if run.distillation else 0)
        states = 2 if run.recipe.optimizer == "sgd" else 3  # weights, and momentum or both moments
        return Cost(
            flops=2 * macs * passes,
            seconds=seconds,
            result_bytes=RECORD_BYTES + round(float_size * stored_bits(run) / 32),
            state_bytes=2 * states * float_size,
            memory_bytes=expected_memory(run),
        )

    def speed(self, run: Run) -> Speed:
        """Probe the run's network, unless one of its shape was probed before."""
        shape = (run.model, run.width, run.stem, run.data.image_size, run.data.channels, run.data.words)
        key = (*shape, run.precision, run.recipe.batch, run.recipe.optimizer)
        if key not in self.speeds:
            _say(f"{run.model} of width {run.width} at {run.data.image_size} pixels")
            self.speeds[key] = probe(run.model_copy(update=PLAIN), self.machine)
        return self.speeds[key]

    def ratio(self, run: Run) -> float:
        """Return by how much the run's treatment of layers lengthens a step."""
        return self._small_step(run.method, run.norm, run.precision) / self._small_step("fp32", "none", run.precision)

    def _small_step(self, method: str, norm: Norm, precision: Precision) -> float:
        key = (method, norm, precision)
        if key not in self.steps:
            _say(f"{method}, {precision}")
            treatment = {"method": method, "norm": norm, "precision": precision}
            self.steps[key] = step_seconds(self._small_run().model_copy(update=treatment), self.machine)
        return self.steps[key]

    def _small_run(self) -> Run:
        first = next(run for run in expand("ring", "smoke") if run.method == "fp32")
        return first.model_copy(update=PLAIN | {"recipe": first.recipe.model_copy(update={"batch": 64})})


def stored_bits(run: Run) -> float:
    """Return the bits per weight in the file; headers are negligible. Ternary codes are packed five to a byte."""
    quantizer = make_quantizer(run.method, torch.ones(1, 1), settings_of("", run.settings))
    if isinstance(quantizer, Cast):
        return 16
    if quantizer.levels is None:
        return 32
    packing = default_packing(quantizer.levels)
    return 8 / 5 if packing == "base3" else BITS[packing]


def probe(run: Run, on: Machine) -> Speed:
    """Train a few steps of this kind of run on noise, evaluate it, and pack it."""
    batch = max(2, min(run.recipe.batch, int(PROBE_MACS / _macs(run))))
    tests = min(EVALUATION_BATCH, batch)
    images = _noise(run, batch * (STEPS + _warm(on)), tests)
    with tempfile.TemporaryDirectory() as folder:
        start, training = timed(lambda: _training(run, images, batch, on, Path(folder)), on)
        test = test_batches(images, run, on)
        step = _fastest_step(training, on)
        with autocast(run.precision, on.device):
            measure(training.model, test)
            evaluation, _ = timed(lambda: measure(training.model, test), on)
        few = test_batches(_noise(run, 2, 2), run, on)  # evaluations are counted on their own
        end, _ = timed(lambda: _ship(training, few), on)
    return Speed(step=step / batch, evaluation=evaluation / tests, start=start, end=end)


def step_seconds(run: Run, on: Machine) -> float:
    """Measure one training step on noise."""
    images = _noise(run, run.recipe.batch * (STEPS + _warm(on)), 2)
    with tempfile.TemporaryDirectory() as folder:
        return _fastest_step(_training(run, images, run.recipe.batch, on, Path(folder)), on)


def _fastest_step(training: Training, on: Machine) -> float:
    """Return the fastest step's seconds, its augmentation included: what else a machine does can only slow a step."""
    batches = iter(training.batches.epoch(0))
    seconds = [timed(lambda: training.update(next(batches)), on)[0] for _ in range(_warm(on) + STEPS)]
    return min(seconds[_warm(on) :])


def _warm(on: Machine) -> int:
    """Return the steps before those that count: on a GPU what is timed is the replay."""
    return EAGER_STEPS + 1 if on.captures else 1


def _ship(training: Training, test: TestSet) -> None:
    """End a run: measure in memory, write, read back, measure again."""
    ship(training, test, training.folder, evaluate(training.model.eval(), test))


def _training(run: Run, images: ImageSet, batch: int, on: Machine, folder: Path) -> Training:
    # So small a rate that noise cannot make the network diverge: NaNs would be neither equal nor equally fast.
    gentle = {"lr": 1e-6, "min_lr": 0.0, "batch": batch, "validation": 0.0}
    recipe = run.recipe.model_copy(update=gentle)
    probed = run.model_copy(update={"recipe": recipe, "start": None})
    return Training(
        run=probed,
        model=build_network(probed, on, folder),
        batches=training_batches(images, probed, on),
        machine=on,
        folder=folder,
    )


def _noise(run: Run, train: int, test: int) -> ImageSet:
    """Images of the run's size; their content does not change the speed."""
    rng = np.random.default_rng(0)
    shape = (run.data.image_size, run.data.image_size, run.data.channels)
    x = [rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (train, test)]
    y = [rng.integers(0, run.data.classes, n).astype(np.uint8) for n in (train, test)]
    words, vocabulary = run.data.words, run.data.vocabulary
    t = [rng.integers(0, vocabulary, (n, words)).astype(np.uint16) if words else None for n in (train, test)]
    return ImageSet(x[0], y[0], x[1], y[1], None, variant(run.data.dataset, run.data.variant), t[0], t[1])


def _macs(run: Run) -> int:
    return cost_of(run).forward_macs


def _params(run: Run) -> int:
    return cost_of(run).params


Value = TypeVar("Value")


def timed(call: Callable[[], Value], on: Machine) -> tuple[float, Value]:
    """Return seconds and value; on a CPU those of this thread alone, whatever else the machine does."""
    clock = time.perf_counter if on.device.type == "cuda" else time.process_time
    _wait(on)  # for what was launched before
    start = clock()
    value = call()
    _wait(on)
    return clock() - start, value


def _wait(on: Machine) -> None:
    if on.device.type == "cuda":
        torch.cuda.synchronize(on.device)
