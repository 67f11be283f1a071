"""Derive how far the logits of two runtimes may lie apart, from what rounding does to the network.

Runtimes sum floats in different orders, so numbers that are about to be rounded, to 16 bits or to codes, differ in
their last bits. One that lies next to the middle of two steps is then rounded down by one runtime and up by the other,
and later layers see a difference of a whole step. At worst both round without anything in common: each result is then
off the network without rounding by what rounding does, one perhaps in the other direction. With the logits y, those
without rounding of inputs u, and these in fp64 e:

    tolerance = LEAST + 2·max|y - u| + SUMS·max|u - e|, over max|y|
"""

import copy

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.deploy.evaluate import full_precision, inference
from bitq.quant.activation import Int8Activation
from bitq.quant.cast import Cast
from bitq.quant.convert import quantized_layers
from bitq.quant.static import StaticUint8

LEAST = 1e-5  # some hundred times 2⁻²⁴, where by chance torch's own sums are off by less
SUMS = 16  # how many times torch's own error another order of summation may be off; up to 5 were seen
ROUNDING = (Int8Activation, StaticUint8)


def tolerance(model: nn.Module, x: Inputs) -> float:
    """Return how far logits may lie apart, as a share of the largest."""
    with inference(model), full_precision():
        plain = without_rounding(model)
        rounded, unrounded = model(x), plain(x)
        exact = plain.double()(_double(x))
    return LEAST + 2 * share(rounded, unrounded) + SUMS * share(unrounded, exact)


def without_rounding(model: nn.Module) -> nn.Module:
    """Copy a network; its layers take their inputs as they are.

    >>> from bitq.quant.convert import convert
    >>> model = convert(nn.Sequential(nn.Linear(1, 1, bias=False)), "bf16")
    >>> plain, one, more = without_rounding(model), torch.ones(1, 1), torch.tensor([[1.001]])
    >>> bool(model(one) == model(more)), bool(plain(one) == plain(more))
    (True, False)
    """
    plain = copy.deepcopy(model)
    for layer in quantized_layers(plain).values():
        if isinstance(layer.quantizer, Cast):
            layer.quantizer.transform_input = _as_it_is  # type: ignore[method-assign]
        if isinstance(layer.activation, ROUNDING):
            layer.activation = None
    return plain


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _double(x: Inputs) -> Inputs:
    """Convert floats to fp64, and leave tokens as they are."""
    if isinstance(x, Tensor):
        return x.double() if x.is_floating_point() else x
    images, tokens = x
    return images.double(), tokens


def share(ours: Tensor, theirs: Tensor, largest: float | None = None) -> float:
    """Return the largest difference as a share of the largest number, of `ours` unless it is given.

    >>> share(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0]))
    0.25
    """
    largest = float(ours.double().abs().max()) if largest is None else largest
    return float((ours.double() - theirs.double()).abs().max()) / max(largest, torch.finfo(torch.float32).tiny)
