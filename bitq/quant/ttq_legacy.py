"""The published study's "TTQ", arithmetic unchanged: TWN's threshold, frozen at its first value; softplus scales."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from bitq.quant.base import Codes, Quantizer
from bitq.quant.ttq import AsymmetricTernary, asymmetric_codes


class TtqLegacy(Quantizer):
    """ŵ = wp | 0 | -wn around ±δ, each of wp, wn, δ the softplus of a stored scalar; δ = 0.7·E|w₀| gets no gradient.

    dw = g everywhere (not scaled by region), and weight decay pulls the stored scalars towards softplus(0) = 0.69.

    >>> w = torch.tensor([1.0, -0.5, 0.1, -0.8], requires_grad=True)   # E|w| = 0.6, δ = 0.42
    >>> ttq = TtqLegacy(w)
    >>> [round(v, 4) for v in ttq(w).tolist()]
    [0.6, -0.6, 0.0, -0.6]
    >>> ttq(w).backward(torch.tensor([1.0, 2.0, 3.0, 4.0])); w.grad.tolist(), ttq.delta.grad
    ([1.0, 2.0, 3.0, 4.0], None)
    """

    levels = 3
    decay_scalars = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        mean = weight.detach().abs().mean()
        self.wp = nn.Parameter(_inverse_softplus(mean))
        self.wn = nn.Parameter(_inverse_softplus(mean))
        self.delta = nn.Parameter(_inverse_softplus(0.7 * mean))

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        wp, wn, unit = softplus(self.wp), softplus(self.wn), weight.new_ones(())
        quantized: Tensor = AsymmetricTernary.apply(weight, wp, wn, unit, self._threshold(), False)
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        wp, wn, unit = softplus(self.wp), softplus(self.wn), weight.new_ones(())
        return asymmetric_codes(weight.detach(), self._threshold(), wp, wn, unit)

    def _threshold(self) -> Tensor:
        return softplus(self.delta).detach()


def _inverse_softplus(value: Tensor) -> Tensor:
    # The original stores v itself below 1e-3, where softplus(v) ≈ 0.69: kept, it is part of what it does.
    return torch.where(value < 1e-3, value, torch.log(torch.expm1(value)))
