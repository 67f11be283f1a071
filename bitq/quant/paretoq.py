"""ParetoQ's stretched elastic quantization (Liu et al. 2025): 3 or 4 levels balanced around zero, of trained range."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bitq.errors import UsageError
from bitq.quant.base import Codes, Quantizer

CLIP = 0.99  # of the range; at 1 the largest weight of four levels would be rounded to a fifth one
SMALLEST = 1e-5  # range
GRIDS = {3: (1.5, 0.0), 4: (2.0, 0.5)}  # levels: (half the range, the level next above zero or at it), in steps


class Paretoq(Quantizer):
    """ŵ = α/h·q, q = round(h·clamp(w/α, ±0.99) - z) + z; three levels have h = 1.5, z = 0, four have h = 2, z = ½.

    So q is in {-1, 0, 1} or {-1.5, -0.5, 0.5, 1.5}; the levels divide [-α, α] evenly. α belongs to an output channel
    and starts at its largest weight.

    Gradients: dŵ/dw = 1 inside the clamp and 0 outside; dŵ/dα = q/h - w/α inside, ±(h - z)/h outside, times 1/√n for
    the n weights of the layer. With three levels that is ±1 outside, as in the authors' code, where ŵ is ±α/1.5.

    >>> w = torch.tensor([[1.0, -0.3, 0.1, -0.6]], requires_grad=True)
    >>> paretoq = Paretoq(w)
    >>> w_hat = paretoq(w); w_hat.tolist()
    [[0.75, -0.25, 0.25, -0.75]]
    >>> w_hat.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    >>> w.grad.tolist(), round(paretoq.range.grad.item(), 6)    # (0.75 + 2·0.05 + 3·0.15 - 4·0.15)/√4
    ([[0.0, 2.0, 3.0, 4.0]], 0.35)
    """

    levels: int = 4

    def __init__(self, weight: Tensor, levels: int = 4) -> None:
        super().__init__(weight)
        if levels not in GRIDS:
            raise UsageError(f"paretoq levels={levels} was given; allowed: 3 or 4, for example levels: 4.")
        self.levels, self.grid = levels, GRIDS[levels]
        largest = weight.detach().abs().reshape(len(weight), -1).amax(1)
        self.range = nn.Parameter(largest.reshape(-1, *[1] * (weight.dim() - 1)))

    def latent_from_codes(self, codes: Codes) -> Tensor:
        self.range.data.copy_(codes.scale * self.grid[0])
        return codes.decode()

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _ParetoqFunction.apply(weight, self.range, *self.grid)
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        reach, largest = usable(self.range.detach().float()), (self.levels - 1) / 2
        index = _rounded(weight.detach() / reach, *self.grid) + largest
        values = torch.arange(self.levels, device=weight.device, dtype=torch.float32) - largest
        return Codes(index.to(torch.uint8), values, reach / self.grid[0])

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


def usable(reach: Tensor) -> Tensor:
    """Keep a range above zero, wherever training has driven it."""
    return reach.clamp(min=SMALLEST)


def _rounded(share: Tensor, half: float, zero: float) -> Tensor:
    """Round weights, given as shares of their range, to q."""
    return share.clamp(-CLIP, CLIP).mul_(half).sub_(zero).round_().add_(zero)


class _ParetoqFunction(torch.autograd.Function):
    """The law above; levels are computed again for the gradient rather than kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, reach: Tensor, half: float, zero: float) -> Tensor:
        ctx.save_for_backward(weight, reach)
        ctx.grid = half, zero
        reach = usable(reach)
        return _rounded(weight / reach, half, zero).mul_(reach / half)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, reach = ctx.saved_tensors
        half, zero = ctx.grid
        share = weight / usable(reach)
        inside = share.abs() <= CLIP
        slope = torch.where(
            inside, _rounded(share, half, zero).div_(half).sub_(share), share.sign() * (1 - zero / half)
        )
        return grad * inside, (grad * slope).sum_to_size(reach.shape) / math.sqrt(weight.numel()), None, None
