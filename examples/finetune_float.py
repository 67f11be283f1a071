"""Fine-tune from float weights: load them into the plain network, quantize it, train a little more.

python examples/finetune_float.py
"""

from pathlib import Path

import torch
from own_loop import network
from torch import nn
from torch.nn import functional
from toy_data import loader

import bitq


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for x, y in loader():
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def trained() -> nn.Module:
    """Stand in for your own float weights: model.load_state_dict(...), or torchvision's weights="DEFAULT"."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        epoch(model, optimizer)
    return model


def main(path: Path) -> float:
    model = bitq.quantize(trained(), "twn", keep="0")  # starts from the float weights and statistics
    optimizer = torch.optim.AdamW(bitq.parameter_groups(model, weight_decay=1e-2), lr=1e-3)
    epoch(model, optimizer)
    bitq.export(model, path)
    score = bitq.evaluate(path, loader(seed=1), into=network())
    print(f"{score.percent:.1f} % from {path.stat().st_size:,} bytes")
    return score.percent


if __name__ == "__main__":
    main(Path("finetune_float.safetensors"))
