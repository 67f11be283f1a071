"""Run a quantized network in integers: kernels chosen for this machine by what each layer took here."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from bitq.deploy.evaluate import full_precision, inference
from bitq.errors import UsageError
from bitq.infer.fuse import fused, signed_inputs
from bitq.infer.kernels import MakeKernel, exact_kernels
from bitq.infer.layers import FastLayer, has_channels_second, has_integers, product_of
from bitq.infer.reference import Epilogue, Reference
from bitq.quant.convert import quantized_layers
from bitq.quant.static import StaticUint8

REPEATS = 3  # of a layer, the fastest of which counts


class Fast(nn.Module):
    """A network whose integer layers run on integer kernels; `kernels` names the one of each."""

    def __init__(self, network: nn.Module, kernels: dict[str, str]) -> None:
        super().__init__()
        self.network, self.kernels = network.eval(), kernels

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            y: Tensor = self.network(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)
        return y


def accelerated(model: nn.Module, example: Tensor) -> Fast:
    """Convert a network in memory for fast inference; `example` has the shape of the batches to come."""
    return _with(model, example, fastest)


def by_reference(model: nn.Module, example: Tensor) -> Fast:
    """Convert a network to the plain arithmetic that fast inference is defined by; it is slow."""
    return _with(model, example, lambda *_: Reference)


Choose = Callable[[FastLayer, Tensor, bool], MakeKernel | None]


def _with(model: nn.Module, example: Tensor, choose: Choose) -> Fast:
    if example.device.type != "cpu":
        raise UsageError(f"{example.device} was given, but fast inference has kernels for the CPU alone; give cpu.")
    inputs = inputs_of(model.eval(), example)
    chosen = {name: choose(*given) for name, given in inputs.items()}
    makers = {name: make for name, make in chosen.items() if make}
    if not inputs:
        raise UsageError(
            "fast inference multiplies 8-bit codes by integers, in linear layers and in convolutions that pad as many "
            "zeros before as after, but no layer of this network does so; use method bitnet, or quantize activations "
            'too: bitq train --calibration activations=static, or bitq.quantize(..., activations="static").'
        )
    with_norms = {name for name, (layer, x, _) in inputs.items() if has_channels_second(layer, x)}
    with torch.inference_mode():
        network = fused(model, makers, with_norms)
    return Fast(network, {name: _name(make) for name, make in chosen.items()})


def _name(make: MakeKernel | None) -> str:
    return "float" if make is None else make.name  # type: ignore[attr-defined]


def inputs_of(model: nn.Module, example: Tensor) -> dict[str, tuple[FastLayer, Tensor, bool]]:
    """Record what each integer layer is given, and whether that may have a sign."""
    seen: dict[str, tuple[FastLayer, Tensor, bool]] = {}
    signed = signed_inputs(model)
    layers = {name: layer for name, layer in quantized_layers(model).items() if has_integers(layer)}
    handles = []

    def note(name: str, layer: FastLayer, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        (x,) = (*given, *named.values())
        # Of several calls the one counts whose shape keeps normalisation apart.
        if name not in seen or has_channels_second(*seen[name][:2]):
            seen[name] = (layer, x, name in signed)

    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(partial(note, name), with_kwargs=True))
    try:
        with inference(model), full_precision():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def fastest(layer: FastLayer, x: Tensor, signed: bool) -> MakeKernel | None:
    """Time the exact kernels of a layer, and the layer as it is; None: that one is the fastest."""
    product = product_of(layer, signed)
    codes = torch.full(x.shape, product.highest, dtype=torch.uint8)
    if product.is_convolution:
        codes = codes.contiguous(memory_format=torch.channels_last)
    unit = torch.ones(len(product.weight))
    epilogue = Epilogue(unit, unit, relu=True, zero=0 if isinstance(layer.activation, StaticUint8) else None)
    with torch.inference_mode():
        taken = {make: _seconds(make(product), codes, epilogue) for make in exact_kernels(product)}
        if not taken:
            return None
        make = min(taken, key=taken.__getitem__)
        return make if taken[make] < _seconds(layer, x) else None


def _seconds(call: Callable[..., Tensor], *arguments: object) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        call(*arguments)
        best = min(best, time.perf_counter() - start)
    return best
