"""Learned step size quantization (Esser et al. 2020) of weights: uniform levels whose step is trained."""

import math

import torch
from torch import Tensor, nn

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer, slowed, straight_through

INITS, GRANULARITIES = ("lsq", "mse"), ("tensor", "channel")


class Lsq(Quantizer):
    """ŵ = s·q, q = round(clamp(w/s, -Qn, Qp)), Qn = 2^(b-1), Qp = Qn - 1; two bits are {-2, -1, 0, 1}·s.

    Gradients: dŵ/dw = 1 inside the clamp and 0 outside; dŵ/ds = q - w/s inside, -Qn or Qp outside, times
    1/√(n·Qp) for the n weights that share the step.

    >>> w = torch.tensor([[0.9, -0.3], [1.6, -4.0]], requires_grad=True)
    >>> lsq = Lsq(w)
    >>> _ = lsq.step.data.fill_(1.0); w_hat = lsq(w); w_hat.tolist()
    [[1.0, 0.0], [1.0, -2.0]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> w.grad.tolist(), round(lsq.step.grad.item(), 6)         # (0.1 + 2·0.3 + 3·1 - 4·2)/√(4·1)
    ([[1.0, 2.0], [0.0, 0.0]], -2.15)
    """

    levels: int = 4

    def __init__(self, weight: Tensor, bits: int = 2, granularity: str = "tensor", init: str = "lsq") -> None:
        """`init` of the step: 2·E|w|/√Qp as published, or the one of least squared error."""
        super().__init__(weight)
        if not 2 <= bits <= 8:
            raise UsageError(f"lsq bits={bits} was given; allowed: 2 to 8, for example bits: 4.")
        for kind, value, allowed in (("init", init, INITS), ("granularity", granularity, GRANULARITIES)):
            if value not in allowed:
                raise one_of(kind, value, allowed)
        self.bits, self.granularity, self.levels = bits, granularity, 2**bits
        self.negative, self.positive = 2 ** (bits - 1), 2 ** (bits - 1) - 1
        rows = weight.detach().float().reshape(len(weight) if granularity == "channel" else 1, -1)
        step = least_squares_step(rows, bits) if init == "mse" else published_step(rows, bits)
        self.step = nn.Parameter(
            step.reshape(-1, *[1] * (weight.dim() - 1)) if granularity == "channel" else step[0, 0]
        )

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        step = usable(self.step)
        if self.training:
            step = slowed(step, 1 / math.sqrt(weight.numel() // self.step.numel() * self.positive))
        inside = (weight / step).clamp(-self.negative, self.positive)
        return straight_through(inside.round(), inside), step

    def codes(self, weight: Tensor) -> Codes:
        step = usable(self.step.detach().float())
        index = (weight.detach() / step).clamp(-self.negative, self.positive).round() + self.negative
        values = torch.arange(-self.negative, self.positive + 1, device=weight.device, dtype=torch.float32)
        return Codes(index.to(torch.uint8), values, step)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, granularity={self.granularity}"


def usable(step: Tensor) -> Tensor:
    """A step that training has driven to zero or below it would turn the grid over; it stops short of that, and its
    gradient can bring it back."""
    return straight_through(step.clamp(min=1e-8), step)


def published_step(rows: Tensor, bits: int) -> Tensor:
    """2·E|w|/√Qp per row; any step will do for a row of zeros."""
    step = 2 * rows.abs().mean(1, keepdim=True) / math.sqrt(2 ** (bits - 1) - 1)
    return torch.where(step > 0, step, 1.0)


def least_squares_step(rows: Tensor, bits: int, candidates: int = 100) -> Tensor:
    """Of the steps that cut a row off at 1, 2, … percent of its largest weight, the one of least squared error."""
    negative, positive = 2 ** (bits - 1), 2 ** (bits - 1) - 1
    widest = rows.abs().amax(1, keepdim=True) / positive
    widest = torch.where(widest > 0, widest, 1.0)
    best, least = widest, torch.full_like(widest, math.inf)
    for share in range(1, candidates + 1):
        step = widest * share / candidates
        error = ((rows / step).clamp(-negative, positive).round() * step - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best
