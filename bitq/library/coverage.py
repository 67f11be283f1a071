"""Measure which share of a network is quantized, and say what is not and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bitq.deploy.coverage import float_weights, is_integer
from bitq.deploy.export import packed_layers
from bitq.library.bypass import check_every_layer_is_called, evaluating
from bitq.library.rules import reason_without_rule
from bitq.models.layers import WeightLayer
from bitq.quant.cast import Cast
from bitq.quant.convert import quantized_layers


@dataclass(frozen=True)
class Left:
    """Weights that ship as floats."""

    name: str
    type: str
    why: str
    weights: int
    multiplications: int


@dataclass(frozen=True)
class Coverage:
    """Weights and multiplications of a network, and how many of them are quantized. Multiplications are of one call."""

    weights: int  # of all matrices; biases and normalisations are none
    packed_weights: int
    multiplications: int
    packed_multiplications: int  # by a weight that ships as codes
    integer_multiplications: int  # of an integer weight by an integer input
    between_activations: int  # multiplications outside of layers: attention scores, matrices of the network's own
    left: tuple[Left, ...]

    @property
    def share_of_weights(self) -> float:
        """Share of the weights that ship as codes."""
        return self.packed_weights / max(self.weights, 1)

    @property
    def share_of_multiplications(self) -> float:
        """Share of the multiplications whose weight is a code."""
        return self.packed_multiplications / max(self.multiplications, 1)

    def __str__(self) -> str:
        lines = [
            f"{self.share_of_weights:.1%} of {self.weights:,} weights and {self.share_of_multiplications:.1%} of "
            f"{self.multiplications:,} multiplications are quantized"
        ]
        if self.between_activations:
            lines.append(f"no layer's: {self.between_activations:,} multiplications (attention, own matrices)")
        lines += [
            f"{each.name} ({each.type}): {each.why}; {each.weights:,} weights, {each.multiplications:,} multiplications"
            for each in self.left
        ]
        return "\n".join(lines)


def coverage(model: nn.Module, *example: Any) -> Coverage:
    """Measure on one call, `model(*example)`, which share of a network is quantized; `print` shows it.

    A network that reads the weight of a quantized layer without calling the layer is refused.

    >>> import torch
    >>> from bitq.library.quantize import quantize
    >>> net = quantize(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), "bitnet", keep="2")
    >>> print(coverage(net, torch.zeros(1, 8)))
    80.0% of 160 weights and 80.0% of 160 multiplications are quantized
    2 (Linear): kept; 32 weights, 32 multiplications
    """
    check_every_layer_is_called(model, *example)
    counts, elsewhere = _multiplications(model, example)
    packed, floats = packed_layers(model), float_weights(model)
    unique = {id(layer.weight): layer.weight.numel() for layer in packed.values()}
    packed_weights = sum(unique.values())
    return Coverage(
        weights=packed_weights + sum(weight.numel() for weight in floats.values()),
        packed_weights=packed_weights,
        multiplications=sum(counts.values()) + elsewhere,
        packed_multiplications=sum(counts.get(name, 0) for name in packed),
        integer_multiplications=sum(counts.get(name, 0) for name, layer in packed.items() if is_integer(layer)),
        between_activations=elsewhere,
        left=tuple(_left(model, name, weight.numel(), counts) for name, weight in floats.items()),
    )


def _left(model: nn.Module, name: str, weights: int, counts: dict[str, int]) -> Left:
    # Of a layer it is the name of the layer, of any other matrix that of the parameter.
    modules = dict(model.named_modules())
    owner = name if name in modules else name.rpartition(".")[0]
    module = modules[owner]
    return Left(name, type(module).__name__, _why(module), weights, counts.get(owner, 0) if owner == name else 0)


def _why(module: nn.Module) -> str:
    if isinstance(module, WeightLayer) and isinstance(getattr(module, "quantizer", None), Cast):
        return "16-bit floats"
    if reason := reason_without_rule(module):
        return f"kept: {reason}"
    return "kept" if isinstance(module, WeightLayer | nn.MultiheadAttention) else "a parameter of no layer"


def _multiplications(model: nn.Module, example: tuple[Any, ...]) -> tuple[dict[str, int], int]:
    """Count the multiplications of one call by layer, and those outside of layers."""
    with evaluating(model), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        with _counted(model, counter) as counts:
            model.forward(*example)
        return counts, counter.get_total_flops() // 2 - sum(counts.values())


@contextmanager
def _counted(model: nn.Module, counter: FlopCounterMode) -> Iterator[dict[str, int]]:
    counts: dict[str, int] = {}
    begun: list[int] = []
    quantized = quantized_layers(model)
    handles = []

    def end(name: str) -> None:
        counts[name] = counts.get(name, 0) + counter.get_total_flops() // 2 - begun.pop()

    for name, layer in model.named_modules():
        if name in quantized or isinstance(layer, WeightLayer) or _is_leaf_with_products(layer):
            handles.append(layer.register_forward_pre_hook(lambda *_: begun.append(counter.get_total_flops() // 2)))
            handles.append(layer.register_forward_hook(lambda *_, name=name: end(name)))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _is_leaf_with_products(module: nn.Module) -> bool:
    return reason_without_rule(module) is not None and not list(module.children())
