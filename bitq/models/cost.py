"""Count what one image costs a network, without allocating it: multiplications, weights, activations."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bitq.models.adapter import Geometry
from bitq.models.registry import unguarded

# Their outputs are kept for the backward pass.
REMEMBERED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)


@dataclass(frozen=True)
class Flops:
    """The cost of one image."""

    forward_macs: int  # multiply-accumulates of convolutions and linear layers
    params: int
    activations: int  # numbers that convolution, linear and normalisation layers put out


@cache
def flops(name: str, geometry: Geometry) -> Flops:
    """Count the cost of one image in one network, before it is quantized.

    Products with padding count like all others, so the network is the one that leaves none of them out.
    """
    with torch.device("meta"):
        model = unguarded(name, geometry).eval()
        image = torch.empty(1, geometry.channels, geometry.image_size, geometry.image_size)
        tokens = torch.zeros(1, geometry.words, dtype=torch.int64)
    outputs = _record_outputs(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model((image, tokens) if geometry.words else image)
    params = sum(parameter.numel() for parameter in model.parameters())
    return Flops(counter.get_total_flops() // 2, params, sum(outputs))


def _record_outputs(model: nn.Module) -> list[int]:
    """Make a list that every forward pass extends by the output sizes of the remembered layers."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.numel())

    for module in model.modules():
        if isinstance(module, REMEMBERED):
            module.register_forward_hook(note)
    return sizes
