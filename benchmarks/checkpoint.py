"""Writing a checkpoint of full ResNet-18 with momentum, durable on disk (goal: under 0.3 s).

python benchmarks/checkpoint.py
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch

from bitq.data.registry import variant
from bitq.data.store import ImageSet
from bitq.grid.adhoc import sweep
from bitq.machine import machine
from bitq.train.images import training_batches
from bitq.train.loop import Training, train_step
from bitq.train.network import build_network


def main() -> None:
    torch.set_num_threads(1)
    options = {"model": "resnet18", "dataset": "cifar10", "width": 64, "method": "fp32", "batch": 4}
    run = sweep("full", {key: [value] for key, value in options.items()})[0]
    x, y = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8).numpy(), torch.arange(4).byte().numpy()
    images, on = ImageSet(x, y, x, y, None, variant("cifar10")), machine("cpu")
    with tempfile.TemporaryDirectory() as folder:
        batches = training_batches(images, run, on)
        training = Training(run, build_network(run, on, Path()), batches, on, Path(folder))
        train_step(training, next(training.batches.epoch(0)))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            training.save()
            seconds.append(time.perf_counter() - start)
        size = (Path(folder) / "checkpoint.safetensors").stat().st_size
    print(f"{size / 1e6:.0f} MB in {statistics.median(seconds):.3f} s  (goal 0.3 s)")


if __name__ == "__main__":
    main()
