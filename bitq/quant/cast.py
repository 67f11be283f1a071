"""Sixteen-bit floats: fewer bits, but no levels to count."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitq.quant.base import Quantizer, straight_through

FORMATS = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Rounded:
    """Counts of what a 16-bit format did to some numbers."""

    numbers: int = 0
    overflowed: int = 0  # finite before, infinite after
    underflowed: int = 0  # not zero before, zero after
    subnormal: int = 0  # kept with fewer digits than the format has

    def note(self, before: Tensor, after: Tensor) -> None:
        """Add the counts of one tensor."""
        size = after.abs()
        self.numbers += before.numel()
        self.overflowed += int((before.isfinite() & after.isinf()).sum())
        self.underflowed += int(((before != 0) & (after == 0)).sum())
        self.subnormal += int(((size > 0) & (size < torch.finfo(after.dtype).tiny)).sum())


class Cast(Quantizer):
    """ŵ = w rounded to a 16-bit float, and so is the layer's input; it ships in 16 bits. The gradient passes through.

    >>> w = torch.tensor([1.0009765625, 1e-9, 70000.0], requires_grad=True)
    >>> Cast(w, "fp16")(w).tolist(), Cast(w, "bf16")(w).tolist()[0]
    ([1.0009765625, 0.0, inf], 1.0)
    >>> Cast(w, "bf16")(w).sum().backward(); w.grad.tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, weight: Tensor, format: str) -> None:
        super().__init__(weight)
        self.format, self.dtype = format, FORMATS[format]
        self.inputs, self.counting = Rounded(), False

    def transform_input(self, x: Tensor) -> Tensor:
        """Round the input to 16 bits."""
        rounded = x.detach().to(self.dtype)
        if self.counting:
            self.inputs.note(x.detach(), rounded)
        return straight_through(rounded.to(x.dtype), x)

    def shipped(self, weight: Tensor) -> Tensor:
        """Cast the weight to the format of the file."""
        return weight.detach().to(self.dtype)

    def rounding(self, weight: Tensor) -> Rounded:
        """Count what the format does to the weight."""
        found = Rounded()
        found.note(weight.detach(), self.shipped(weight))
        return found

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        return straight_through(self.shipped(weight).to(weight.dtype), weight)

    def extra_repr(self) -> str:
        return f"format={self.format}"


@contextmanager
def counting(model: nn.Module) -> Iterator[None]:
    """Count from zero what becomes of the inputs of all cast layers; the counts stay until the next time."""
    casts = [module for module in model.modules() if isinstance(module, Cast)]
    for cast in casts:
        cast.inputs, cast.counting = Rounded(), True
    try:
        yield
    finally:
        for cast in casts:
            cast.counting = False
