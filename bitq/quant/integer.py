"""Uniform integers as in post-training quantization: codes of b bits, one step per channel or per tensor."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer, straight_through
from bitq.quant.thresholds import kth_smallest

GRANULARITIES = ("channel", "tensor")
SHRINKS = torch.linspace(0.1, 1.0, 73).tolist()  # of the largest step, among which `mse` chooses
SMALLEST_STEP = 1e-12  # of a channel that is zero


class Integer(Quantizer):
    """ŵ = step·clamp(round(w/step), -2^(b-1), 2^(b-1) - 1), the gradient passes straight through.

    The step is decided by the initial weight and stays: `minmax` lets the largest weight be half a step beyond the
    largest code, step = 2·max|w| / (2^b - 1), as the observers of torch and torchao do; `percentile` leaves the
    largest weights out; `mse` takes the fraction of the largest step that leaves the smallest squared error.

    >>> w = torch.tensor([[0.75, -0.2, 0.1, -1.5]], requires_grad=True)   # step = 3 / 3
    >>> w_hat = Integer(w.detach(), bits=2)(w); w_hat.tolist()
    [[1.0, 0.0, 0.0, -2.0]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]])); w.grad.tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    >>> Integer(w.detach(), bits=4).levels
    16
    """

    step: Tensor
    active_if = {"percentile": {"range": ("percentile",)}}

    def __init__(
        self, weight: Tensor, bits: int, granularity: str = "channel", range: str = "minmax", percentile: float = 99.9
    ) -> None:
        super().__init__(weight)
        if granularity not in GRANULARITIES:
            raise one_of("granularity", granularity, GRANULARITIES)
        if range not in RANGES:
            raise one_of("range", range, RANGES)
        if not 50 < percentile <= 100:
            raise UsageError(f"percentile {percentile} was given; allowed: above 50 and at most 100, such as 99.9.")
        self.bits, self.levels = bits, 2**bits
        self.granularity, self.range, self.percentile = granularity, range, percentile
        self.lowest, self.highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        # As many dimensions as the weight has, so that it divides it; none for one step over all.
        shape = (len(weight),) + (1,) * (weight.dim() - 1) if granularity == "channel" else ()
        rows = weight.detach().float().reshape(math.prod(shape), -1)
        self.register_buffer("step", RANGES[range](self, rows).clamp(min=SMALLEST_STEP).reshape(shape))

    def nearest(self, weight: Tensor) -> Tensor:
        """Round to the nearest codes."""
        # The reciprocal, as torch and torchao have it: by `minmax` the largest weight lies halfway between two codes.
        return (weight * (1 / self.step)).round_().clamp_(self.lowest, self.highest)

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return straight_through(self.nearest(weight.detach()), weight, 1 / self.step), self.step

    def forward(self, weight: Tensor) -> Tensor:
        return straight_through(self.nearest(weight.detach()).mul_(self.step), weight)

    def codes(self, weight: Tensor) -> Codes:
        index = (self.nearest(weight.detach()) - self.lowest).to(torch.uint8)
        values = torch.arange(self.lowest, self.highest + 1, dtype=torch.float32, device=weight.device)
        return Codes(index, values, self.step.float())

    def largest_step(self, peak: Tensor) -> Tensor:
        """Return the step at which weights as large as `peak` lie half a step beyond the largest code."""
        return peak * 2 / (int(2**self.bits) - 1)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, granularity={self.granularity}, range={self.range}"


def minmax(of: Integer, rows: Tensor) -> Tensor:
    """Fit one step per row to its largest weight."""
    return of.largest_step(rows.abs().amax(1))


def percentile(of: Integer, rows: Tensor) -> Tensor:
    """Fit one step per row to the given percentile of its weights' sizes."""
    kept = math.ceil(of.percentile / 100 * rows.shape[1])
    return of.largest_step(kth_smallest(rows.abs(), kept)[:, 0])


def mse(of: Integer, rows: Tensor) -> Tensor:
    """Search for the step per row that leaves the smallest squared error."""
    largest = minmax(of, rows).clamp(min=SMALLEST_STEP)
    best, least = largest, torch.full_like(largest, math.inf)
    for shrink in SHRINKS:
        step = largest * shrink
        codes = (rows / step[:, None]).round_().clamp_(of.lowest, of.highest)
        error = (codes.mul_(step[:, None]).sub_(rows)).square_().sum(1)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best


RANGES: dict[str, Callable[[Integer, Tensor], Tensor]] = {"minmax": minmax, "percentile": percentile, "mse": mse}
