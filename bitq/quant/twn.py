"""Ternary weight networks (Li et al. 2016): threshold 0.7·E|w|, scale = mean of the weights that survive it."""

from torch import Tensor

from bitq.quant.base import Codes, Quantizer, straight_through, ternary_codes


class Twn(Quantizer):
    """ŵ = α·T, Δ = threshold·E|w|, T = sign(w)·1[|w| > Δ], α = mean(|w| : |w| > Δ), gradient passed straight through.

    >>> import torch
    >>> w = torch.tensor([1.0, -0.5, 0.1, -0.2], requires_grad=True)   # Δ = 0.7·0.45 = 0.315, α = 0.75
    >>> w_hat = Twn(w)(w)
    >>> w_hat.tolist()
    [0.75, -0.75, 0.0, 0.0]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0])); w.grad.tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    levels = 3

    def __init__(self, weight: Tensor, threshold: float = 0.7) -> None:
        super().__init__(weight)
        self.threshold = threshold

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = self._ternary(weight.detach())
        return straight_through(signs, weight / scale), scale

    def codes(self, weight: Tensor) -> Codes:
        return ternary_codes(*self._ternary(weight.detach()))

    def _ternary(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        size = weight.abs()
        kept = size > self.threshold * size.mean()
        # An all-zero layer keeps nothing; its scale may be any positive number.
        scale = ((size * kept).sum() / kept.sum().clamp(min=1)).clamp(min=1e-8)
        return weight.sign() * kept, scale

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}"
