"""Ternary weight networks (Li et al. 2016): threshold 0.7·E|w|, scale = mean of the weights that survive it."""

from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer, straight_through, ternary_codes, where_above

GRANULARITIES = ("tensor", "channel")


class Twn(Quantizer):
    """ŵ = α·T, Δ = threshold·E|w|, T = sign(w)·1[|w| > Δ], α = mean(|w| : |w| > Δ), gradient passed straight through.

    Means are over the tensor, as published, or over each output channel, as in the authors' later code with a
    threshold of 0.75.

    >>> import torch
    >>> w = torch.tensor([[1.0, -0.5, 0.1, -0.2]], requires_grad=True)   # Δ = 0.7·0.45 = 0.315, α = 0.75
    >>> w_hat = Twn(w)(w)
    >>> w_hat.tolist()
    [[0.75, -0.75, 0.0, 0.0]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]])); w.grad.tolist()
    [[1.0, 2.0, 3.0, 4.0]]
    >>> Twn(w, granularity="channel")(torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0]])).tolist()
    [[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0]]
    """

    levels = 3

    def __init__(self, weight: Tensor, threshold: float = 0.7, granularity: str = "tensor") -> None:
        super().__init__(weight)
        if threshold < 0:
            raise UsageError(f"twn threshold={threshold} was given; allowed: 0 and more, for example threshold: 0.75.")
        if granularity not in GRANULARITIES:
            raise one_of("granularity", granularity, GRANULARITIES)
        self.threshold, self.granularity = threshold, granularity

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = self._ternary(weight.detach())
        return straight_through(signs, weight, 1 / scale), scale

    def forward(self, weight: Tensor) -> Tensor:
        signs, scale = self._ternary(weight.detach())
        return straight_through(signs.mul_(scale), weight)

    def codes(self, weight: Tensor) -> Codes:
        return ternary_codes(*self._ternary(weight.detach()))

    def _ternary(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        by_channel = self.granularity == "channel"
        over = tuple(range(int(by_channel), weight.dim()))
        size = weight.abs()
        kept = where_above(size, self.threshold * size.mean(over, keepdim=by_channel))
        count = kept.sum(over, keepdim=by_channel).clamp_(min=1)
        # Zeros alone keep nothing; their scale may be any positive number.
        scale = (size.mul_(kept).sum(over, keepdim=by_channel) / count).clamp_(min=1e-8)
        return kept.mul_(weight.sign()), scale

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, granularity={self.granularity}"
