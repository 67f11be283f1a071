"""Training speed of ResNet-18 width 16, batch 128, fp32, one thread, in images per CPU-second.

    python benchmarks/training.py                  each arm under each cap of the instruction set, and the ratios
    python benchmarks/training.py --cap avx2       one cap
    python benchmarks/training.py --repeats 20     steadier

All arms of a cap share one process and take turns, one step each; the fastest step of an arm counts, so that a busy
machine slows all alike. `eager` is a plain channels-last loop on data that is ready; `conventional` the loop that most
code is written as: PIL transforms, DataLoader with num_workers=0, NCHW; `legacy` the published BitNet arithmetic,
operation by operation, on data that is ready.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq import models
from bitq.data.registry import variant
from bitq.data.store import ImageSet
from bitq.grid.adhoc import sweep
from bitq.machine import fingerprint, machine
from bitq.train.images import training_batches
from bitq.train.loop import Training, train_step
from bitq.train.network import build_network

BATCH, SET = 128, 1280  # images of a step, and of the set that is gone through again and again
CAPS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "none": {},
}
METHODS = ("fp32", "bitnet", "ttq", "ring", "lsq", "atq")
GOALS = {
    ("fp32", "eager"): 0.9,
    ("bitnet", "fp32"): 0.85,
    **{(method, "fp32"): 0.9 for method in METHODS[2:]},
    ("bitnet", "legacy"): None,
    ("fp32", "conventional"): None,
}
Step = Callable[[], object]


def ours(method: str) -> Step:
    options = {"model": "resnet18", "dataset": "cifar10", "width": 16, "method": method, "mixup": 0.2}
    run = sweep("full", {key: [value] for key, value in (options | {"precision": "fp32"}).items()})[0]
    x, y = noise()
    images, on = ImageSet(x, y, x[:1], y[:1], None, variant("cifar10")), machine("cpu")
    training = Training(run, build_network(run, on, Path()), training_batches(images, run, on), on, Path())
    training.model.train()
    batches = endless(training.batches.epoch)
    return lambda: train_step(training, next(batches))


def endless(epoch: Callable[[int], Iterator]) -> Iterator:
    number = 0
    while True:
        yield from epoch(number)
        number += 1


def noise() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SET, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, SET).astype(np.uint8)


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


def plain(batches: Iterator[tuple[Tensor, Tensor]], layout: torch.memory_format, legacy: bool = False) -> Step:
    model = models.build("resnet18", 10, width=16).train().to(memory_format=layout)
    for layer in model.modules():
        if legacy and isinstance(layer, nn.Conv2d):
            layer.__class__ = LegacyConv
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(x.to(memory_format=layout)), y).backward()
        optimizer.step()

    return step


def ready(layout: torch.memory_format) -> Iterator[tuple[Tensor, Tensor]]:
    batch = torch.randn(BATCH, 3, 32, 32).to(memory_format=layout), torch.arange(BATCH) % 10
    while True:
        yield batch


def by_pillow() -> Iterator[tuple[Tensor, Tensor]]:
    from PIL import Image
    from torchvision import transforms

    chain = transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    data = [(Image.fromarray(image), int(label)) for image, label in zip(*noise(), strict=True)]

    def collate(batch: list) -> tuple[Tensor, Tensor]:
        return torch.stack([chain(image) for image, _ in batch]), torch.tensor([label for _, label in batch])

    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=0, collate_fn=collate)
    return endless(lambda _: iter(loader))


ARMS: dict[str, Callable[[], Step]] = {
    **{method: lambda method=method: ours(method) for method in METHODS},
    "eager": lambda: plain(ready(torch.channels_last), torch.channels_last),
    "legacy": lambda: plain(ready(torch.contiguous_format), torch.contiguous_format, legacy=True),
    "conventional": lambda: plain(by_pillow(), torch.contiguous_format),
}


def seconds(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """CPU seconds of each arm's fastest step, the arms taking turns."""
    best = dict.fromkeys(steps, float("inf"))
    for repeat in range(repeats + 1):
        for arm, step in steps.items():
            start = time.process_time()
            step()
            if repeat:  # the first step allocates
                best[arm] = min(best[arm], time.process_time() - start)
    return best


def measure(cap: str, repeats: int) -> None:
    """Print the arms under the cap that this process was started with."""
    torch.set_num_threads(1)
    print(f"cap {cap}: {fingerprint(machine('cpu'))}")
    best = seconds({arm: build() for arm, build in ARMS.items()}, repeats)
    for arm, taken in best.items():
        print(f"  {arm:<14}{BATCH / taken:6.0f} images/CPU-s")
    for (one, other), goal in GOALS.items():
        ratio = best[other] / best[one]
        judged = f"  (goal {goal}: {'ok' if ratio >= goal else 'MISSED'})" if goal else ""
        print(f"  {one} / {other}: {ratio:.2f}{judged}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cap", choices=CAPS, help="this cap alone")
    parser.add_argument("--repeats", type=int, default=8, help="steps of each arm")
    parser.add_argument("--here", action="store_true", help="in this process, whose environment is set")
    asked = parser.parse_args()
    if asked.here:
        return measure(asked.cap, asked.repeats)
    for cap in [asked.cap] if asked.cap else CAPS:
        command = [sys.executable, __file__, "--here", "--cap", cap, "--repeats", str(asked.repeats)]
        free = {key: value for key, value in os.environ.items() if key not in CAPS["avx2"]}
        subprocess.run(command, check=True, env=free | CAPS[cap])


if __name__ == "__main__":
    main()
