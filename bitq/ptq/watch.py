"""Record the inputs and outputs of a network's layers on a few images."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.data.inputs import Inputs, cut
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import QuantConv1d, QuantConv2d, QuantLayer

Layers = Mapping[str, QuantLayer]


class _Enough(Exception):
    """Raised to stop a forward pass once the layer of interest was reached."""


@contextmanager
def in_full_precision(layers: Layers) -> Iterator[None]:
    """Run the network without its quantizers."""
    kept = [(layer, layer.quantizer, layer.activation) for layer in layers.values()]
    for layer, _, _ in kept:
        layer.quantizer, layer.activation = Fp32(layer.weight), None
    try:
        yield
    finally:
        for layer, quantizer, activation in kept:
            layer.quantizer, layer.activation = quantizer, activation


def execution_order(model: nn.Module, layers: Layers, images: Sequence[Inputs]) -> list[str]:
    """List the layers in the order in which data reaches them."""
    order: dict[str, None] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, __, name=name: order.setdefault(name))
        for name, layer in layers.items()
    ]
    try:
        model(cut(images[0], 0, 1))
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def inputs_of(model: nn.Module, layer: QuantLayer, images: Sequence[Inputs]) -> Iterator[Tensor]:
    """Yield the input of the layer's product for each batch, as values; the network runs no further than that layer."""
    seen: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(_as_multiplied(layer, args[0]))
        raise _Enough

    handle = layer.register_forward_pre_hook(stop)
    try:
        for batch in images:
            try:
                model(batch)
            except _Enough:
                yield seen.pop()
    finally:
        handle.remove()


def _as_multiplied(layer: QuantLayer, x: Tensor) -> Tensor:
    x = layer.quantizer.transform_input(x)
    if layer.norm:
        x = functional.layer_norm(x, x.shape[1:])
    if layer.activation is None:
        return x
    codes, step = layer.activation(x)
    values: Tensor = codes * step
    return values


def mean_outputs(model: nn.Module, layers: Layers, images: Sequence[Inputs]) -> dict[str, Tensor]:
    """Average each layer's outputs by channel, over images and positions."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)

    def note(name: str, layer: QuantLayer, y: Tensor) -> None:
        by_channel = (
            y.transpose(0, 1).flatten(1) if isinstance(layer, QuantConv1d | QuantConv2d) else y.flatten(0, -2).t()
        )
        sums[name] = sums.get(name, 0) + by_channel.sum(1, dtype=torch.float64)
        counts[name] += by_channel.shape[1]
        if len(layers) == 1:
            raise _Enough

    handles = [
        layer.register_forward_hook(lambda _, __, y, name=name, layer=layer: note(name, layer, y))
        for name, layer in layers.items()
    ]
    try:
        for batch in images:
            with suppress(_Enough):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}
