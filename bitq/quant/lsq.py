"""Learned step size quantization (Esser et al. 2020) of weights: uniform levels whose step is trained."""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer, slowed, straight_through

INITS, GRANULARITIES, COUNTS = ("lsq", "mse"), ("tensor", "channel"), ("channel", "tensor")


class Lsq(Quantizer):
    """ŵ = s·q, q = round(clamp(w/s, -Qn, Qp)), Qn = 2^(b-1), Qp = Qn - 1; two bits are {-2, -1, 0, 1}·s.

    Gradients: dŵ/dw = 1 inside the clamp and 0 outside; dŵ/ds = q - w/s inside, -Qn or Qp outside, times 1/√(n·Qp).
    n counts the weights that share the step, `gradient_count: channel`, as in the paper; public code with a step per
    channel counts those of the whole tensor, `gradient_count: tensor`, and so trains its steps more slowly.

    >>> w = torch.tensor([[0.9, -0.3], [1.6, -4.0]], requires_grad=True)
    >>> lsq = Lsq(w)
    >>> _ = lsq.step.data.fill_(1.0); w_hat = lsq(w); w_hat.tolist()
    [[1.0, 0.0], [1.0, -2.0]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> w.grad.tolist(), round(lsq.step.grad.item(), 6)         # (0.1 + 2·0.3 + 3·1 - 4·2)/√(4·1)
    ([[1.0, 2.0], [0.0, 0.0]], -2.15)
    """

    levels: int = 4
    active_if = {"gradient_count": {"granularity": ("channel",)}}

    def __init__(
        self,
        weight: Tensor,
        bits: int = 2,
        granularity: str = "tensor",
        init: str = "lsq",
        gradient_count: str = "channel",
    ) -> None:
        """Start from a step of 2·E|w|/√Qp as published (`init: lsq`), or from that of least squared error (`mse`)."""
        super().__init__(weight)
        if not 2 <= bits <= 8:
            raise UsageError(f"lsq bits={bits} was given; allowed: 2 to 8, for example bits: 4.")
        for kind, value, allowed in (
            ("init", init, INITS),
            ("granularity", granularity, GRANULARITIES),
            ("gradient_count", gradient_count, COUNTS),
        ):
            if value not in allowed:
                raise one_of(kind, value, allowed)
        self.bits, self.granularity, self.levels = bits, granularity, 2**bits
        self.gradient_count = gradient_count
        self.negative, self.positive = 2 ** (bits - 1), 2 ** (bits - 1) - 1
        rows = weight.detach().float().reshape(len(weight) if granularity == "channel" else 1, -1)
        step = least_squares_step(rows, bits) if init == "mse" else published_step(rows, bits)
        self.step = nn.Parameter(
            step.reshape(-1, *[1] * (weight.dim() - 1)) if granularity == "channel" else step[0, 0]
        )

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        step = usable(self.step)
        if self.training:
            step = slowed(step, 1 / math.sqrt(self._count(weight) * self.positive))
        unscaled: Tensor = _RoundClamped.apply(weight, step, self.negative, self.positive)
        return unscaled, step

    def _count(self, weight: Tensor) -> int:
        """Count the weights by which the step's gradient is slowed."""
        return weight.numel() // (self.step.numel() if self.gradient_count == "channel" else 1)

    def codes(self, weight: Tensor) -> Codes:
        step = usable(self.step.detach().float())
        index = (weight.detach() / step).clamp(-self.negative, self.positive).round() + self.negative
        values = torch.arange(-self.negative, self.positive + 1, device=weight.device, dtype=torch.float32)
        return Codes(index.to(torch.uint8), values, step)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, granularity={self.granularity}"


class _RoundClamped(torch.autograd.Function):
    """q = round(clamp(w/s)), differentiated as clamp(w/s): dq/dw = 1/s and dq/ds = -w/s² inside, 0 outside."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, step: Tensor, negative: int, positive: int) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.ends = -negative, positive  # type: ignore[attr-defined]
        return (weight / step).clamp_(-negative, positive).round_().add_(0.0)  # -0.0 becomes 0.0, as it is in a file

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, step = ctx.saved_tensors  # type: ignore[attr-defined]
        ratio = weight / step
        inside = torch.eq(ratio, ratio.clamp(*ctx.ends), out=torch.empty_like(ratio))  # type: ignore[attr-defined]
        to_weight = inside.mul_(grad).div_(step)
        return to_weight, -ratio.mul_(to_weight).sum_to_size(step.shape), None, None


def usable(step: Tensor) -> Tensor:
    """Keep a step above zero, where it would mirror the levels; the gradient passes, so that training can raise it."""
    return straight_through(step.clamp(min=1e-8), step)


def published_step(rows: Tensor, bits: int) -> Tensor:
    """Return 2·E|w|/√Qp per row; a row of zeros may have any step."""
    step = 2 * rows.abs().mean(1, keepdim=True) / math.sqrt(2 ** (bits - 1) - 1)
    return torch.where(step > 0, step, 1.0)


def least_squares_step(rows: Tensor, bits: int, candidates: int = 100) -> Tensor:
    """Search for the step of least squared error per row, among clips at 1, 2, … percent of its largest weight."""
    negative, positive = 2 ** (bits - 1), 2 ** (bits - 1) - 1
    widest = rows.abs().amax(1, keepdim=True) / positive
    widest = torch.where(widest > 0, widest, 1.0)
    best, least = widest, torch.full_like(widest, math.inf)
    for share in range(1, candidates + 1):
        step = widest * share / candidates
        error = ((rows / step).clamp(-negative, positive).round() * step - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best
