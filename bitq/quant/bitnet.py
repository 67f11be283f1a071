"""BitNet b1.58 (Ma et al. 2024): weights rounded to {-1, 0, 1} after division by their mean magnitude."""

from torch import Tensor

from bitq.quant.base import Codes, Quantizer, straight_through, ternary_codes


class Bitnet(Quantizer):
    """ŵ = β·T, β = E|w|, T = clamp(round(w/β), -1, 1), gradient passed straight through.

    >>> import torch
    >>> w = torch.tensor([1.5, -0.25, 0.25, -2.0], requires_grad=True)   # β = 1
    >>> w_hat = Bitnet(w)(w)
    >>> w_hat.tolist()
    [1.0, 0.0, 0.0, -1.0]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0])); w.grad.tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    levels = 3

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = _ternary(weight.detach())
        return straight_through(signs, weight, 1 / scale), scale

    def forward(self, weight: Tensor) -> Tensor:
        signs, scale = _ternary(weight.detach())
        return straight_through(signs.mul_(scale), weight)

    def codes(self, weight: Tensor) -> Codes:
        return ternary_codes(*_ternary(weight.detach()))


def _ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round_().clamp_(-1, 1), scale
