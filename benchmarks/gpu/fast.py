"""Stage fast: what the card can do, and which share of it each network and method gets, alone and side by side."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.kit import Clock, Record
from bitq import models
from bitq.data.registry import variant
from bitq.data.store import ImageSet
from bitq.grid.adhoc import sweep
from bitq.machine import Machine, Mode
from bitq.run import Run
from bitq.train.capture import EAGER_STEPS
from bitq.train.images import training_batches
from bitq.train.loop import Training
from bitq.train.network import build_network

ROOT = Path(__file__).parents[2]
NETWORKS = {"resnet18 w64": ("resnet18", 64), "resnet18 w16": ("resnet18", 16), "resnet20": ("resnet20", 64),
            "vgg11": ("vgg11", 64)}  # fmt: skip
METHODS = ("fp32", "bitnet", "ring", "ttq")
SIDE_BY_SIDE = (1, 2, 4, 8)
SHARED = (("resnet18 w64", "bitnet"), ("resnet20", "ring"))  # networks that one run does not fill the card with
SECONDS = 1.0  # of each measurement


def fast(record: Record, clock: Clock, out: Path, rehearse: bool) -> int:
    """Measure all that is not known yet, until the time is over; 1 if something is left."""
    for key, measure in measurements(rehearse):
        if key in record.known():
            continue
        if clock.left < 10:
            return 1
        try:
            record.add(key, **measure())
        except RuntimeError as error:  # one network without a kernel must not cost the others
            record.add(key, error=str(error).splitlines()[0])
    side_by_side(record, clock, rehearse)
    return plan(record, clock, rehearse)


def measurements(rehearse: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is measured in this process, the ceilings first."""
    device = torch.device("cpu" if rehearse else "cuda")
    yield "ceiling matmul bf16", lambda: matmul_ceiling(device, 256 if rehearse else 8192)
    yield "ceiling copy", lambda: copy_ceiling(device, 2**20 if rehearse else 2**30)
    cells = [(*pair, "exact", capture) for pair in product(NETWORKS, METHODS) for capture in (True, False)]
    cells += [(network, "bitnet", "fast", True) for network in NETWORKS]  # the price of exactness
    for network, method, mode, capture in cells[:1] if rehearse else cells:
        key = f"rate {network} {method} {mode} {'captured' if capture else 'eager'}"
        yield key, lambda n=network, m=method, o=mode, c=capture: rate(n, m, o, c, rehearse)  # type: ignore[misc]


def seconds_of(call: Callable[[], object], device: torch.device, repeat: int) -> float:
    """Of one call, on average, once warm."""
    for _ in range(3):
        call()
    wait(device)
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    wait(device)
    return (time.perf_counter() - start) / repeat


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_ceiling(device: torch.device, size: int) -> dict[str, float]:
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return {"flops": 2 * size**3 / seconds_of(lambda: one @ other, device, 20), "size": size}


def copy_ceiling(device: torch.device, size: int) -> dict[str, float]:
    one, other = (torch.zeros(size, device=device, dtype=torch.uint8) for _ in range(2))
    return {"bytes_per_second": 2 * size / seconds_of(lambda: one.copy_(other), device, 20), "size": size}


def run_of(network: str, method: str, rehearse: bool) -> Run:
    model, width = NETWORKS[network]
    options = {"model": model, "dataset": "cifar10", "width": width, "method": method, "mixup": 0.2, "batch": 128}
    options |= {"batch": 4, "width": 8} if rehearse else {}
    return sweep("full", {key: [value] for key, value in options.items()})[0]


def training_of(run: Run, on: Machine, steps: int) -> Training:
    """A training on noise: its speed does not depend on what is seen."""
    rng = np.random.default_rng(0)
    count = run.recipe.batch * steps
    x, y = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count).astype(np.uint8)
    images = ImageSet(x, y, x[:1], y[:1], None, variant("cifar10"))
    return Training(run, build_network(run, on, Path()), training_batches(images, run, on), on, Path())


def endless(training: Training) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from training.batches.epoch(epoch)
        epoch += 1


def rate(network: str, method: str, mode: Mode, capture: bool, rehearse: bool) -> dict[str, Any]:
    """Training images a second, input included, and the arithmetic that they stand for."""
    on = Machine(torch.device("cpu" if rehearse else "cuda"), mode, 1, capture)
    on.prepare()
    run = run_of(network, method, rehearse)
    training = training_of(run, on, 4 if rehearse else 64)
    training.model.train()
    batches = endless(training)
    for _ in range(1 if rehearse else EAGER_STEPS + 20):
        training.update(next(batches))
    wait(on.device)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < (0 if rehearse else SECONDS) or not images:
        for _ in range(1 if rehearse else 20):
            batch = next(batches)
            training.update(batch)
            images += len(batch.y)
        wait(on.device)
    speed = images / (time.perf_counter() - start)
    macs = models.flops(run.model, models.Geometry.of(run.data, run.width, run.stem)).forward_macs
    recorded = training.captured.recording is not None
    return {"images_per_second": speed, "flops": 6 * macs * speed, "captured": recorded}  # forwards, twice backwards


class Neighbour:
    """A process that measures when it is told to, so that several do so at once."""

    def __init__(self, rehearse: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.gpu.fast", *(["--rehearse"] if rehearse else [])]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def begin(self, network: str, method: str) -> None:
        print(json.dumps([network, method]), file=self.process.stdin, flush=True)

    def answer(self) -> float:
        assert self.process.stdout
        return float(json.loads(self.process.stdout.readline())["images_per_second"])

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass


def side_by_side(record: Record, clock: Clock, rehearse: bool) -> None:
    """Images a second of 1, 2, 4 and 8 processes on one card, all of them together."""
    counts, cells = (SIDE_BY_SIDE[:2], SHARED[:1]) if rehearse else (SIDE_BY_SIDE, SHARED)
    todo = [(n, m, k) for n, m in cells for k in counts if f"beside {n} {m} {k}" not in record.known()]
    if not todo or clock.left < 60:
        return
    neighbours = [Neighbour(rehearse) for _ in range(max(count for *_, count in todo))]
    try:
        for network, method, count in todo:
            if clock.left < 20:
                return
            for neighbour in neighbours[:count]:
                neighbour.begin(network, method)
            rates = [neighbour.answer() for neighbour in neighbours[:count]]
            record.add(f"beside {network} {method} {count}", images_per_second=sum(rates), each=rates)
    finally:
        for neighbour in neighbours:
            neighbour.close()


def plan(record: Record, clock: Clock, rehearse: bool) -> int:
    """Hours of the grid on this card, one study after the other."""
    studies = ("atq",) if rehearse else ("bitnet", "ring", "precision", "atq", "bitnet-extended", "multimodal")
    scale, device = ("smoke", "cpu") if rehearse else ("full", "cuda")
    for study in studies:
        if f"plan {study}" in record.known():
            continue
        command = [sys.executable, "-m", "bitq.cli", "plan", "--scale", scale, "--study", study, "--device", device]
        command += ["--jobs", "1", "--json"]
        try:
            time_left = max(clock.left - 5, 1)
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=time_left)
        except subprocess.TimeoutExpired:
            return 1
        if done.returncode:
            record.add(f"plan {study}", error=done.stderr[-500:])
        else:
            record.add(f"plan {study}", rows=json.loads(done.stdout))
    return 0


def main() -> None:
    rehearse = "--rehearse" in sys.argv
    for line in sys.stdin:
        network, method = json.loads(line)
        print(json.dumps(rate(network, method, "exact", True, rehearse)), flush=True)


if __name__ == "__main__":
    main()
