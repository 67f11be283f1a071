"""Eight-bit activations with one range a layer, decided on training images before it is used."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.errors import one_of
from bitq.quant.activation import Int8Activation, compute_dtype
from bitq.quant.layers import Activation

CODES = 255  # the largest


class StaticUint8(nn.Module):
    """(codes - zero, scale) with x ≈ (codes - zero)·scale, codes = clamp(round(x/scale) + zero, 0, 255).

    The scale and the zero point are the layer's own and ship. The gradient passes where x lies within the range.
    While it observes, inputs go through as they are, and `seen` is told of each.

    >>> activation = StaticUint8(dims=(1,)); activation.use_range(torch.tensor(-0.5), torch.tensor(2.05))
    >>> round(activation.scale.item(), 4), activation.zero.item()
    (0.01, 50)
    >>> x = torch.tensor([[1.0, -0.6, 3.0]], requires_grad=True)
    >>> codes, scale = activation(x); codes.tolist()
    [[100.0, -50.0, 205.0]]
    >>> (codes * scale).sum().backward(); [round(g, 4) for g in x.grad[0].tolist()]
    [1.0, 0.0, 0.0]
    """

    bias_is_scaled = False
    scale: Tensor
    zero: Tensor

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero", torch.zeros((), dtype=torch.uint8))
        self.observer: Any = None

    def use_range(self, low: Tensor, high: Tensor) -> None:
        """Set scale and zero point to span low … high, widened to hold zero, which has a code: padding stays exact."""
        low, high = low.float().clamp(max=0), high.float().clamp(min=0)
        scale = ((high - low) / CODES).clamp(min=1e-12)
        self.scale.copy_(scale)
        self.zero.copy_((-low / scale).round().clamp(0, CODES).to(torch.uint8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.observer is not None:
            self.observer.see(x.detach())
            return x, x.new_ones(())
        codes: Tensor = _RoundToUint8.apply(x, self.scale, self.zero.float())
        return codes, self.scale


class _RoundToUint8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        rounded = (x.float() * (1 / scale)).round_()
        codes = rounded.clamp(-zero, CODES - zero)
        ctx.save_for_backward(rounded == codes, scale)
        ctx.dtype = x.dtype  # type: ignore[attr-defined]
        return codes.to(compute_dtype(x))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        inside, scale = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * inside / scale.to(grad.dtype)).to(ctx.dtype), None, None  # type: ignore[attr-defined]


ACTIVATIONS: dict[str, Activation | None] = {"none": None, "dynamic": Int8Activation, "static": StaticUint8}


def activation_named(name: str) -> Activation | None:
    """Look up the activation quantizer by the calibration's name for it."""
    if name not in ACTIVATIONS:
        raise one_of("treatment of activations", name, ACTIVATIONS)
    return ACTIVATIONS[name]
