"""A network of your own in a loop of your own: four lines are bitq's.

python examples/own_loop.py
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from toy_data import CLASSES, loader

import bitq

EPOCHS = 3


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def main(path: Path) -> float:
    train, test = loader(), loader(seed=1)
    model = bitq.quantize(network(), "bitnet", keep="0")  # ternary weights, int8 activations; the first layer in fp32
    optimizer = torch.optim.AdamW(bitq.parameter_groups(model, weight_decay=1e-2), lr=1e-2)
    for epoch in range(EPOCHS):
        for step, (x, y) in enumerate(train):
            bitq.set_progress(model, (epoch + step / len(train)) / EPOCHS)  # for methods with a schedule
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    print(bitq.coverage(model, x[:1]))
    written = bitq.export(model, path)
    score = bitq.evaluate(path, test, into=network())  # what the file says, not the network in memory
    print(f"{score.percent:.1f} % from {written.file_bytes:,} bytes")
    return score.percent


if __name__ == "__main__":
    main(Path("own_loop.safetensors"))
