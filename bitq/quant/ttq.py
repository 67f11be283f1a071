"""Trained ternary quantization (Zhu et al. 2017): one learned scale for the positive weights, one for the negative."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.errors import one_of
from bitq.quant.base import Codes, Quantizer, where_above, where_below

UNITS = ("fitted", "one")


class Ttq(Quantizer):
    """ŵ = s₀·a⁺ where w > Δ, -s₀·a⁻ where w < -Δ, else 0; Δ = threshold·max|w|, recomputed at each step.

    Gradients: dw = g·(a⁺ | 1 | a⁻) by region, da⁺ = s₀·Σ g over the positive region, da⁻ = -s₀·Σ g over the negative.
    The unit s₀ is a constant. `unit: fitted` is the mean size of the initial weights that Δ keeps, `unit: one` the
    published form, for weights that have been trained. Both express the same networks: the unit decides how fast the
    latents and the scales move, and trained from scratch with s₀ = 1 few codes ever change.

    >>> w = torch.tensor([1.0, -0.5, 0.01, -0.75], requires_grad=True)   # Δ = 0.05, s₀ = 0.75
    >>> ttq = Ttq(w)
    >>> _ = ttq.wn.data.fill_(0.5); w_hat = ttq(w); w_hat.tolist()
    [0.75, -0.375, 0.0, -0.375]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> w.grad.tolist(), ttq.wp.grad.item(), ttq.wn.grad.item()
    ([1.0, 1.0, 3.0, 2.0], 0.75, -4.5)
    """

    levels = 3
    s0: Tensor

    def __init__(self, weight: Tensor, threshold: float = 0.05, unit: str = "fitted") -> None:
        super().__init__(weight)
        if unit not in UNITS:
            raise one_of("unit", unit, UNITS)
        self.threshold, self.unit = threshold, unit
        weight = weight.detach()
        self.register_buffer("s0", self._fitted(weight) if unit == "fitted" else weight.new_ones(()))
        self.wp = nn.Parameter(weight.new_ones(()))  # a⁺
        self.wn = nn.Parameter(weight.new_ones(()))  # a⁻

    def _fitted(self, weight: Tensor) -> Tensor:
        """Average the sizes of the weights that the threshold keeps; zeros alone may have any unit."""
        size = weight.abs()
        kept = where_above(size, self._delta(weight))
        mean = (size * kept).sum() / kept.sum().clamp(min=1)
        return torch.where(mean > 0, mean, 1.0)

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        delta = self._delta(weight.detach())
        quantized: Tensor = AsymmetricTernary.apply(weight, self.wp, self.wn, self.s0, delta, True)
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        return asymmetric_codes(weight.detach(), self._delta(weight.detach()), self.wp, self.wn, self.s0)

    def _delta(self, weight: Tensor) -> Tensor:
        return self.threshold * torch.maximum(weight.amax(), -weight.amin())

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, unit={self.unit}"


def asymmetric_codes(weight: Tensor, delta: Tensor, wp: Tensor, wn: Tensor, unit: Tensor) -> Codes:
    """Encode a ternary tensor with its own value on either side of zero."""
    index = 1 + (weight > delta).to(torch.uint8) - (weight < -delta).to(torch.uint8)
    values = torch.stack([-unit * wn.detach(), torch.zeros_like(unit), unit * wp.detach()]).float()
    return Codes(index, values, values.new_ones(()))


class AsymmetricTernary(torch.autograd.Function):
    """ŵ = unit·(a⁺P - a⁻N) with da⁺ = unit·Σ gP, da⁻ = -unit·Σ gN, and dw = g·(a⁺ | 1 | a⁻) if `by_region`, else g.

    Regions are found anew going back, which costs less than keeping them.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, weight: Tensor, above: Tensor, below: Tensor, unit: Tensor, delta: Tensor, by_region: bool
    ) -> Tensor:
        ctx.save_for_backward(weight, above, below, unit, delta)
        ctx.by_region = by_region  # type: ignore[attr-defined]
        positive, negative = where_above(weight, delta), where_below(weight, -delta)
        return positive.mul_(unit * above).sub_(negative.mul_(unit * below))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, above, below, unit, delta = ctx.saved_tensors  # type: ignore[attr-defined]
        positive, negative = where_above(weight, delta).mul_(grad), where_below(weight, -delta).mul_(grad)
        to_above, to_below = unit * positive.sum(), -unit * negative.sum()
        if ctx.by_region:  # type: ignore[attr-defined]
            grad = grad.sub(positive).sub_(negative).add_(positive.mul_(above)).add_(negative.mul_(below))
        return grad, to_above, to_below, None, None, None
