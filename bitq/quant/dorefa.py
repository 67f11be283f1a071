"""DoReFa (Zhou et al. 2016) for weights: squeezed by tanh into [-1, 1], then rounded to evenly spaced levels."""

import torch
from torch import Tensor

from bitq.errors import UsageError
from bitq.quant.base import Codes, Quantizer, straight_through


class Dorefa(Quantizer):
    """ŵ = 2·round((2^b-1)·x)/(2^b-1) - 1 with x = tanh(w)/(2·max|tanh w|) + ½; one bit is sign(w)·E|w|.

    The gradient passes straight through the rounding and is that of 2x - 1: (1 - tanh²w)/max|tanh w|, the maximum
    taken as a constant; for one bit it is the identity.

    >>> w = torch.tensor([0.0, 0.3, -0.2, 1.0], requires_grad=True)
    >>> w_hat = Dorefa(w, bits=2)(w)
    >>> [round(value, 4) for value in w_hat.tolist()]
    [0.3333, 0.3333, -0.3333, 1.0]
    >>> w_hat.sum().backward(); [round(value, 4) for value in w.grad.tolist()]
    [1.313, 1.2016, 1.2619, 0.5514]
    """

    levels: int = 4

    def __init__(self, weight: Tensor, bits: int = 2) -> None:
        super().__init__(weight)
        if not 1 <= bits <= 8:
            raise UsageError(f"dorefa bits={bits} was given; allowed: 1 to 8, for example bits: 2.")
        self.bits, self.levels = bits, 2**bits

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codes(weight)
        surrogate = weight / clamp_nonzero(codes.scale) if self.bits == 1 else squeezed(weight)
        return straight_through(codes.values[codes.index.int()], surrogate), codes.scale

    def codes(self, weight: Tensor) -> Codes:
        weight, last = weight.detach().float(), self.levels - 1
        steps = torch.arange(self.levels, device=weight.device, dtype=torch.float32)
        values = 2 * steps / last - 1
        if self.bits == 1:
            return Codes((weight >= 0).to(torch.uint8), values, clamp_nonzero(weight.abs().mean()))
        index = ((squeezed(weight) + 1) * (last / 2)).round().clamp(0, last)
        return Codes(index.to(torch.uint8), values, values.new_ones(()))

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


def squeezed(weight: Tensor) -> Tensor:
    """tanh w over its largest size."""
    curve = torch.tanh(weight)
    return curve / clamp_nonzero(curve.detach().abs().max())


def clamp_nonzero(scale: Tensor) -> Tensor:
    """Fit to be divided by."""
    return scale.clamp(min=1e-8)
