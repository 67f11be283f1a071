"""DoReFa (Zhou et al. 2016) for weights: squeezed by tanh into [-1, 1], then rounded to evenly spaced levels."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from bitq.errors import UsageError
from bitq.quant.base import Codes, Quantizer, look_up, signs_of, straight_through


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
        if self.bits == 1:
            scale = clamp_nonzero(weight.detach().abs().mean())
            return straight_through(signs_of(weight.detach()), weight, 1 / scale), scale
        levels: Tensor = _SqueezedLevels.apply(weight, self.levels)
        return levels, weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        unscaled, scale = self.factors(weight)
        return unscaled * scale if self.bits == 1 else unscaled

    def codes(self, weight: Tensor) -> Codes:
        weight = weight.detach().float()
        values = levels_between_ends(self.levels, weight.device)
        if self.bits == 1:
            return Codes((weight >= 0).to(torch.uint8), values, clamp_nonzero(weight.abs().mean()))
        return Codes(nearest_even_level(squeeze(weight)[0], self.levels).to(torch.uint8), values, values.new_ones(()))

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class _SqueezedLevels(torch.autograd.Function):
    """The nearest of evenly spaced levels in [-1, 1] to tanh(w)/max|tanh w|, differentiated as if it did not round."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, levels: int) -> Tensor:
        squeezed, largest = squeeze(weight.float())
        ctx.save_for_backward(squeezed, largest)
        index = nearest_even_level(squeezed, levels)
        return look_up(levels_between_ends(levels, weight.device), index).to(weight.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        squeezed, largest = ctx.saved_tensors  # type: ignore[attr-defined]
        # (1 - tanh²w)/max, with tanh w = squeezed·max
        slope = squeezed.square().mul_(-largest).add_(1 / largest)
        return slope.mul_(grad), None


def squeeze(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return tanh w over its largest size, and that size."""
    curve = torch.tanh(weight)
    largest = clamp_nonzero(torch.maximum(curve.amax(), -curve.amin()))
    return curve.div_(largest), largest


def nearest_even_level(squeezed: Tensor, levels: int) -> Tensor:
    """Return the index of the level next to a value in [-1, 1]."""
    return (squeezed + 1).mul_((levels - 1) / 2).round_().clamp_(0, levels - 1)


def levels_between_ends(levels: int, device: torch.device) -> Tensor:
    """Return evenly spaced levels from -1 to 1."""
    return 2 * torch.arange(levels, device=device, dtype=torch.float32) / (levels - 1) - 1


def clamp_nonzero(scale: Tensor) -> Tensor:
    """Clamp a scale away from zero."""
    return scale.clamp(min=1e-8)
