"""Additive powers of two (Li et al. 2020): levels that are sums of few powers of two, denser near zero."""

from typing import Any

import torch
from torch import Tensor, nn

from bitq.errors import UsageError
from bitq.quant.base import Codes, Quantizer, nearest_level
from bitq.quant.standardize import standardized

# Of the largest level. Three bits: one power of two; four: 2⁰, 2⁻¹, 2⁻³ or none and 2⁻² or none, over 2⁰ + 2⁻².
SIZES = {2: (0.0, 1.0), 3: (0.0, 0.25, 0.5, 1.0), 4: (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)}
FIRST_CLIP = 3.0  # in standard deviations
CLIP_RATE = 0.2  # of the gradient: the authors train α with a rate of 0.02 where the weights have 0.1
SMALLEST = 1e-8  # α


class Apot(Quantizer):
    """ŵ = α·v, v the level next to x = (w - mean)/(std·α), mean and std those of the layer, taken as constants.

    Two bits have the levels {-1, 0, 1}, three ±{0, ¼, ½, 1}, four ±{0, .1, .2, .3, .4, .6, .8, 1}; α is trained, 3 at
    the start. ŵ has no memory of mean and size of w: a normalisation has to follow.

    Gradients: dŵ/dw = 1/std, clipped or not; dŵ/dα = v - x inside [-1, 1], sign(x) outside, times 0.2, the ratio of the
    published learning rates of α and w.

    >>> w = torch.tensor([-3.0, -1.0, 0.0, 4.0], requires_grad=True)   # mean 0, std √(26/3) = 2.944
    >>> apot = Apot(w, bits=3)
    >>> _ = apot.clip.data.fill_(1.0); w_hat = apot(w); w_hat.tolist()   # x = -1.019, -0.34, 0, 1.359
    [-1.0, -0.25, 0.0, 1.0]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> [round(value, 3) for value in w.grad.tolist()], round(apot.clip.grad.item(), 3)   # 0.2·(-1 + 2·0.09 + 4·1)
    ([0.34, 0.679, 1.019, 1.359], 0.636)
    """

    levels: int = 15
    values: Tensor

    def __init__(self, weight: Tensor, bits: int = 4) -> None:
        super().__init__(weight)
        if bits not in SIZES:
            raise UsageError(f"apot bits={bits} was given; allowed: 2, 3 or 4, for example bits: 4.")
        values = [*(-size for size in SIZES[bits][:0:-1]), *SIZES[bits]]
        self.bits, self.levels = bits, len(values)
        self.register_buffer("values", torch.tensor(values, device=weight.device), persistent=False)
        self.clip = nn.Parameter(weight.new_tensor(FIRST_CLIP))

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _ApotFunction.apply(weight, self.clip, self.values)
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        clip = usable(self.clip.detach().float())
        share, _ = share_of_clip(weight.detach(), clip)
        return Codes(nearest_level(share, self.values).to(torch.uint8), self.values, clip)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


def share_of_clip(weight: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Divide standardized weights by their clip; also return the layer's standard deviation."""
    standard, std = standardized(weight, tuple(range(weight.dim())))
    return standard / clip, std


def usable(clip: Tensor) -> Tensor:
    """Keep a clip above zero, wherever training has driven it."""
    return clip.clamp(min=SMALLEST)


class _ApotFunction(torch.autograd.Function):
    """The law above; of the weights only their derivative by α is kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, clip: Tensor, values: Tensor) -> Tensor:
        share, std = share_of_clip(weight, usable(clip))
        level = values[nearest_level(share, values)]
        ctx.save_for_backward(torch.where(share.abs() > 1, share.sign(), level - share), std)
        return level.mul_(usable(clip))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        slope, std = ctx.saved_tensors
        return grad / std, (grad * slope).sum() * CLIP_RATE, None
