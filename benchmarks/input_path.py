"""What the input path costs of a ResNet-18 width 16 step (goal: under 5 %): order, crop, flip, mixup, normalise.

python benchmarks/input_path.py
"""

import time
from pathlib import Path

import torch
from training import BATCH, ImageSet, noise, variant

from bitq.grid.adhoc import sweep
from bitq.machine import machine
from bitq.train.images import training_batches
from bitq.train.loop import Training, train_step
from bitq.train.network import build_network

STEPS = 20


def main() -> None:
    torch.set_num_threads(1)
    options = {"model": "resnet18", "dataset": "cifar10", "width": 16, "method": "fp32", "mixup": 0.2}
    run = sweep("full", {key: [value] for key, value in options.items()})[0]
    x, y = noise(BATCH * STEPS)
    images, on = ImageSet(x, y, x[:1], y[:1], None, variant("cifar10")), machine("cpu")
    training = Training(run, build_network(run, on, Path()), training_batches(images, run, on), on, Path())
    list(training.batches.epoch(0))
    start = time.process_time()
    batches = list(training.batches.epoch(1))
    loading = (time.process_time() - start) / STEPS
    train_step(training, batches[0])
    start = time.process_time()
    for batch in batches:
        train_step(training, batch)
    computing = (time.process_time() - start) / STEPS
    share = loading / (loading + computing)
    print(f"input {1e3 * loading:.2f} ms of a step of {1e3 * (loading + computing):.1f} ms: {share:.1%}  (goal 5 %)")


if __name__ == "__main__":
    main()
