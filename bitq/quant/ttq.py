"""Trained ternary quantization (Zhu et al. 2017): one learned scale for the positive weights, one for the negative."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.quant.base import Codes, Quantizer


class Ttq(Quantizer):
    """ŵ = wp where w > Δ, -wn where w < -Δ, else 0; Δ = threshold·max|w|, recomputed at each step.

    Gradients: dw = g·(wp | 1 | wn) by region, dwp = Σ g over the positive region, dwn = -Σ g over the negative one.

    >>> w = torch.tensor([1.0, -0.5, 0.01, -0.75], requires_grad=True)   # Δ = 0.05
    >>> ttq = Ttq(w)
    >>> _ = ttq.wn.data.fill_(0.5); w_hat = ttq(w); w_hat.tolist()
    [1.0, -0.5, 0.0, -0.5]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> w.grad.tolist(), ttq.wp.grad.item(), ttq.wn.grad.item()
    ([1.0, 1.0, 3.0, 2.0], 1.0, -6.0)
    """

    levels = 3

    def __init__(self, weight: Tensor, threshold: float = 0.05) -> None:
        super().__init__(weight)
        self.threshold = threshold
        # 1, as in the authors' code: the three regions then learn at equal speed. Started at the size of the weights
        # (0.05), the scales cross zero within a few steps at lr 0.1 and the network stays near chance.
        self.wp = nn.Parameter(weight.new_ones(()))
        self.wn = nn.Parameter(weight.new_ones(()))

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _TtqFunction.apply(weight, self.wp, self.wn, self._delta(weight.detach()))
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        return asymmetric_codes(weight.detach(), self._delta(weight.detach()), self.wp, self.wn)

    def _delta(self, weight: Tensor) -> Tensor:
        return self.threshold * weight.abs().max()

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"


def asymmetric_codes(weight: Tensor, delta: Tensor, wp: Tensor, wn: Tensor) -> Codes:
    """Codes of a ternary tensor with its own value on either side of zero."""
    positive, negative = _regions(weight, delta)
    index = 1 + positive.to(torch.uint8) - negative.to(torch.uint8)
    values = torch.stack([-wn.detach(), torch.zeros_like(wp), wp.detach()]).float()
    return Codes(index, values, values.new_ones(()))


def _regions(weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    return weight > delta, weight < -delta


class _TtqFunction(torch.autograd.Function):
    """The law above; the region masks are recomputed rather than kept, they cost less than their memory."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, wp: Tensor, wn: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(weight, wp, wn, delta)
        positive, negative = _regions(weight, delta)
        return wp * positive - wn * negative

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        weight, wp, wn, delta = ctx.saved_tensors  # type: ignore[attr-defined]
        positive, negative = _regions(weight, delta)
        region_scale = torch.where(positive, wp, torch.where(negative, wn, torch.ones_like(wp)))
        return grad * region_scale, (grad * positive).sum(), -(grad * negative).sum(), None
