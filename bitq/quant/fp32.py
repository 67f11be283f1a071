"""Full precision: the weight as it is."""

from torch import Tensor

from bitq.quant.base import Quantizer


class Fp32(Quantizer):
    """ŵ = w; shipped as float, never shown under a bit width.

    >>> import torch
    >>> w = torch.tensor([0.3, -1.0], requires_grad=True)
    >>> Fp32(w)(w) is w, Fp32.levels
    (True, None)
    """

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        return weight
