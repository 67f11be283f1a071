"""Training speed of ResNet-18 width 16, batch 128, one thread, in images per CPU-second of the whole process.

    python benchmarks/training.py            prints each arm and the ratios
    python benchmarks/training.py --arm fp32 one arm, one number

`conventional` is the loop that most code is written as: PIL transforms, DataLoader with num_workers=0, fp32, NCHW.
`legacy` replaces its layers by the published BitNet arithmetic, operation by operation, on data that is ready.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq import models
from bitq.data.registry import variant
from bitq.data.store import ImageSet
from bitq.grid.adhoc import sweep
from bitq.machine import machine
from bitq.train.images import training_batches
from bitq.train.loop import Training, train_step
from bitq.train.network import build_network

BATCH, WARM, STEPS = 128, 2, 12
GOALS = {("bitnet", "legacy"): 4.0, ("fp32", "legacy"): 5.0, ("fp32", "conventional"): 2.2}


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count).astype(np.uint8)


def rate(step, steps: int = STEPS) -> float:
    """Images per CPU-second."""
    for _ in range(WARM):
        step()
    start = time.process_time()
    for _ in range(steps):
        step()
    return BATCH * steps / (time.process_time() - start)


def ours(method: str) -> float:
    options = {"model": "resnet18", "dataset": "cifar10", "width": 16, "method": method, "mixup": 0.2}
    run = sweep("full", {key: [value] for key, value in options.items()})[0]
    x, y = noise(BATCH * (WARM + STEPS))
    images, on = ImageSet(x, y, x[:1], y[:1], None, variant("cifar10")), machine("cpu")
    training = Training(run, build_network(run, on, Path()), training_batches(images, run, on), on, Path())
    batches = training.batches.epoch(0)
    return rate(lambda: train_step(training, next(batches)))


class LegacyConv(nn.Conv2d):
    """The published layer: normalise, scale to ±128 without rounding, ternary weights, rescale; all in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.layer_norm(x, x.shape[1:])
        peak = x.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-5)
        codes = torch.clamp(x * 128 / peak, -128 + 1e-5, 128 - 1e-5)
        beta = self.weight.abs().mean()
        signs = torch.clamp(torch.round(self.weight / (beta + 1e-5)), -1, 1)
        y = self._conv_forward(codes, signs + (self.weight - self.weight.detach()), self.bias)
        return y * peak * beta / 128


def eager(legacy: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = models.build("resnet18", 10, width=16)
    for layer in model.modules() if legacy else ():
        if type(layer) is nn.Conv2d:
            layer.__class__ = LegacyConv
    return model.train(), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def legacy() -> float:
    model, optimizer = eager(legacy=True)
    x, y = torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10
    return rate(lambda: update(model, optimizer, x, y))


def conventional() -> float:
    from PIL import Image
    from torchvision import transforms

    steps = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    x, y = noise(BATCH * (WARM + STEPS))
    data = [(Image.fromarray(image), int(label)) for image, label in zip(x, y, strict=True)]

    def collate(batch):
        return torch.stack([steps(image) for image, _ in batch]), torch.tensor([label for _, label in batch])

    batches = iter(torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=0, collate_fn=collate))
    model, optimizer = eager(legacy=False)
    return rate(lambda: update(model, optimizer, *next(batches)))


ARMS = {"fp32": lambda: ours("fp32"), "bitnet": lambda: ours("bitnet"), "legacy": legacy, "conventional": conventional}


def in_process_of_its_own(arm: str) -> float:
    command = [sys.executable, __file__, "--arm", arm]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arm", choices=ARMS)
    arm = parser.parse_args().arm
    torch.set_num_threads(1)
    if arm:
        print(ARMS[arm]())
        return
    rates = {name: in_process_of_its_own(name) for name in ARMS}
    for name, value in rates.items():
        print(f"{name:<14}{value:8.0f} images/CPU-s")
    for (one, other), goal in GOALS.items():
        print(f"{one} / {other}: {rates[one] / rates[other]:.2f}×  (goal {goal}×)")


if __name__ == "__main__":
    main()
