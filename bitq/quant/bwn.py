"""Binary weight networks (Rastegari et al. 2016): every weight is plus or minus the mean size of its output channel."""

import torch
from torch import Tensor

from bitq.quant.base import Codes, Quantizer, signs_of, straight_through


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
        return straight_through(signs, weight, 1 / scale), scale

    def forward(self, weight: Tensor) -> Tensor:
        signs, scale = _split(weight.detach())
        return straight_through(signs.mul_(scale), weight)

    def codes(self, weight: Tensor) -> Codes:
        signs, scale = _split(weight.detach())
        return Codes((signs > 0).to(torch.uint8), scale.new_tensor([-1.0, 1.0]), scale)


def _split(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Split a weight into signs and one scale per output channel; a channel of zeros may have any positive one."""
    scale = weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-8)
    return signs_of(weight), scale
