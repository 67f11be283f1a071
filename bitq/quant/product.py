"""The product of eight-bit activations and unscaled weights: exact sums of codes, few passes over the activations."""

from typing import Any, Protocol

import torch
from torch import Tensor

from bitq.quant.activation import Int8Activation


class Product(Protocol):
    """A convolution or a matrix product: its value, its gradients, and where its output channels lie."""

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply the input by the weight."""

    def gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Differentiate the product by its input and by its weight, as far as wanted."""

    def per_output(self, value: Tensor) -> Tensor:
        """Shape a scalar, or one value per output channel, to multiply the output."""


def int8_product(layer: Product, activation: Int8Activation, x: Tensor, unscaled: Tensor, scale: Tensor) -> Tensor:
    """Multiply int8 codes of x by the unscaled weight and rescale, y = product(codes, unscaled)·step·scale.

    With integer weights the sums are exact in fp32 below 2²⁴.
    """
    y: Tensor = _Int8Product.apply(x, unscaled, scale, activation, layer)
    return y


class _Int8Product(torch.autograd.Function):
    """The product of codes, differentiated as that of x̂ = codes·step and ŵ = unscaled·scale, straight through rounding.

    The step of a sample multiplies its output and divides its input, so the two cancel in the gradient by x, and no
    pass over activations is needed but those of the product itself.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, unscaled: Tensor, scale: Tensor, activation: Int8Activation, layer: Product
    ) -> Tensor:
        codes, step = activation.encode(x)
        y = layer.product(codes, unscaled)
        y.mul_((step * layer.per_output(scale)).to(y.dtype))
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(codes.mul_(step), unscaled, scale)
            ctx.layer, ctx.dtype = layer, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, unscaled, scale = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        weight = (unscaled * scale).to(grad.dtype)
        to_x, to_weight = ctx.layer.gradients(grad, x, weight, wanted)
        to_unscaled = to_scale = None
        if to_weight is not None:
            to_unscaled = to_weight.to(unscaled.dtype) * scale
        if to_weight is not None and ctx.needs_input_grad[2]:
            to_scale = (to_weight.to(unscaled.dtype) * unscaled).sum_to_size(scale.shape)
        return None if to_x is None else to_x.to(ctx.dtype), to_unscaled, to_scale, None, None
