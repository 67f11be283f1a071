"""The input of a network: images, or images and the tokens of their sentences."""

import torch
from torch import Tensor

Inputs = Tensor | tuple[Tensor, Tensor]


def cut(x: Inputs, start: int, end: int) -> Inputs:
    """Slice the inputs from `start` to `end`."""
    return x[start:end] if isinstance(x, Tensor) else (x[0][start:end], x[1][start:end])


def device_of(x: Inputs) -> torch.device:
    """Return the device of the inputs."""
    return x.device if isinstance(x, Tensor) else x[0].device
