"""Binary weight networks (Rastegari et al. 2016): every weight is plus or minus the mean size of its output channel."""

import torch
from torch import Tensor

from bitq.quant.base import Codes, Quantizer, straight_through


class Bwn(Quantizer):
    """ŵ = α·sign(w), α = mean|w| of the output channel, sign(0) = 1; the gradient passes straight through.

    >>> w = torch.tensor([[0.5, -1.5], [0.0, 0.25]], requires_grad=True)   # α = 1 and 0.125
    >>> w_hat = Bwn(w)(w)
    >>> w_hat.tolist()
    [[1.0, -1.0], [0.125, 0.125]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]])); w.grad.tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """

    levels = 2

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = _split(weight.detach())
        return straight_through(signs, weight / scale), scale

    def codes(self, weight: Tensor) -> Codes:
        signs, scale = _split(weight.detach())
        return Codes((signs > 0).to(torch.uint8), scale.new_tensor([-1.0, 1.0]), scale)


def _split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Signs, and one scale an output channel: any positive number will do for a channel of zeros."""
    scale = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-8)
    return torch.where(weight < 0, -1.0, 1.0), scale
