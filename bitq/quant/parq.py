"""PARQ (Jin et al. 2025): weights drawn to the levels of a least-squares fit by a proximal map that grows steep."""

import math
from typing import Any

import torch
from torch import Tensor

from bitq.errors import UsageError
from bitq.quant.base import Codes, Quantizer, bucket, check_share, nearest_level, straight_through

TERNARY_RATIO = 1.1  # of the scale to the mean size
SMALLEST = 1e-8  # scale


class Parq(Quantizer):
    """ŵ = prox(w): between two levels the weight is drawn from their middle m towards them, m + (w - m)/ρ, as far as
    the next level; beyond the outermost level it is cut off. From `until` of the training on ŵ is the nearest level.

    ρ falls from 1 to 0 along a sigmoid of the given steepness. The levels are fitted anew at each step: ±v, v = E|w|,
    for two; {-v, 0, v}, v = 1.1·E|w|, for three; ±v₁ ± v₂, v₁ = E|w|, v₂ = E||w| - v₁|, for four. The gradient at ŵ is
    the gradient of w.

    >>> w = torch.tensor([2.75, -1.25, 3.25, -4.75], requires_grad=True)   # v₁ = 3, v₂ = 1
    >>> parq = Parq(w)
    >>> parq(w).tolist(), parq.codes(w).index.tolist()
    ([2.0, -2.0, 4.0, -4.0], [2, 1, 3, 0])
    >>> parq.progress = 0.375; w_hat = parq(w); w_hat.tolist()   # half-way: ρ = 1/2
    [2.5, -2.0, 3.5, -4.0]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0])); w.grad.tolist()
    [1.0, 2.0, 3.0, 4.0]
    """

    levels: int = 4

    def __init__(self, weight: Tensor, levels: int = 4, steepness: float = 100.0, until: float = 0.75) -> None:
        """Start from the authors' choices for CIFAR-10, where the map grows steep over 150 of 200 epochs."""
        super().__init__(weight)
        if not 2 <= levels <= 4:
            raise UsageError(f"parq levels={levels} was given; allowed: 2, 3 or 4, for example levels: 4.")
        if steepness <= 0 or until <= 0:
            raise UsageError(f"parq steepness={steepness}, until={until} were given; both must be above 0.")
        check_share("parq until", until)
        self.levels, self.steepness, self.until = levels, float(steepness), until

    def latent_from_codes(self, codes: Codes) -> Tensor:
        # Weights on their levels have other means than those that the levels were fitted to: the largest level stays.
        decoded = codes.decode()
        return decoded * (codes.scale / least_squares(decoded, self.levels)[1])

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        values, scale = least_squares(weight.detach(), self.levels)
        target = weight.detach() / scale
        grid = prox(target, values, self.inverse_slope) if self.training else values[nearest_level(target, values)]
        return straight_through(grid, weight / scale), scale

    def codes(self, weight: Tensor) -> Codes:
        values, scale = least_squares(weight.detach(), self.levels)
        return Codes(nearest_level(weight.detach() / scale, values).to(torch.uint8), values, scale)

    @property
    def inverse_slope(self) -> float:
        """ρ at this point of the training, 1 at its start and 0 from `until` on."""
        return mirrored_sigmoid(self.progress / self.until, self.steepness)

    @property
    def host_state(self) -> tuple[Any, ...]:
        return (self.inverse_slope,)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, steepness={self.steepness}, until={self.until}"


def mirrored_sigmoid(share: float, steepness: float) -> float:
    """Fall from 1 at 0 to 0 at 1, fastest half-way.

    >>> [round(mirrored_sigmoid(share, 10.0), 4) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [1.0, 0.9299, 0.5, 0.0701, 0.0]
    """
    # 1/(1 + e^x) = (1 - tanh(x/2))/2, shifted and stretched between its values at 0 and at 1.
    end = math.tanh(steepness / 4)
    return (1 - math.tanh(steepness * (min(share, 1.0) - 0.5) / 2) / end) / 2


def prox(weight: Tensor, values: Tensor, inverse_slope: float) -> Tensor:
    """Draw weights to the levels next to them; with an inverse slope of 0 all the way.

    >>> prox(torch.tensor([-2.0, 0.125, 0.4375, 0.625]), torch.tensor([-1.0, 0.0, 1.0]), 0.5).tolist()
    [-1.0, 0.0, 0.375, 0.75]
    """
    if inverse_slope <= 0:
        return values[nearest_level(weight, values)]
    above = bucket(weight, values)
    lower, upper = values[(above - 1).clamp_(min=0)], values[above.clamp_(max=len(values) - 1)]
    middle = (lower + upper) / 2
    return torch.clamp((weight - middle) / inverse_slope + middle, lower, upper)


def least_squares(weight: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Fit levels: ascending, over the largest of them, and that largest one; any will do for an all-zero layer."""
    size = weight.float().abs()
    mean = size.mean()
    one, zero = torch.ones_like(mean), torch.zeros_like(mean)
    if levels == 4:
        spread = (size - mean).abs().mean()
        scale = (mean + spread).clamp(min=SMALLEST)
        inner = (mean - spread).abs() / scale
        return torch.stack([-one, -inner, inner, one]), scale
    if levels == 3:
        return torch.stack([-one, zero, one]), (mean * TERNARY_RATIO).clamp(min=SMALLEST)
    return torch.stack([-one, one]), mean.clamp(min=SMALLEST)
