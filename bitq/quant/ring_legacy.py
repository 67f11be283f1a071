"""Ring quantization as its published code computes it: the weight is a blend of the ring's values and stays one."""

import math
from typing import Any

import torch
from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer

WAVES = ("triangle", "sin")


class RingLegacy(Quantizer):
    """ŵ = Σ a_k·v_k with a = softmax(-d²/2σ²), d the circular distance of R·p to k, σ = max(½, R/32), no scale.

    v samples one period of the wave *with both ends*, so R points have R/2 values. Positions start uniform, are clamped
    to [0, 1] and decay. With `snap` the evaluation, and only that, takes the value of the nearest point: R/2 levels.

    Gradient, as automatic differentiation has it: dŵ/dp = -R/σ² · Σ a_k·(v_k - ŵ)·d_k·s_k, s_k = ±1 the slope of d_k.

    >>> legacy = RingLegacy(torch.zeros(3), ring_size=4)
    >>> [round(value, 3) for value in legacy.template], legacy.levels
    ([-1.0, 0.333, 0.333, -1.0], None)
    >>> p = torch.tensor([0.0, 0.125, 0.375], requires_grad=True)
    >>> w_hat = legacy(p); [round(value, 3) for value in w_hat.tolist()]
    [-0.858, -0.333, 0.309]
    >>> w_hat.sum().backward(); [round(value, 2) + 0.0 for value in p.grad.tolist()]
    [2.26, 5.53, 0.0]
    >>> snapped = RingLegacy(torch.zeros(3), ring_size=4, snap=True).eval()
    >>> snapped.levels, [round(value, 3) for value in snapped(p).tolist()]
    (2, [-1.0, -1.0, 0.333])
    """

    levels = None
    decay_scalars = True

    def __init__(self, weight: Tensor, ring_size: int = 8, wave: str = "triangle", snap: bool = False) -> None:
        super().__init__(weight)
        if wave not in WAVES:
            raise one_of("wave", wave, WAVES)
        if not 2 <= ring_size <= 256:
            raise UsageError(f"ring_size={ring_size} was given; allowed: 2 to 256, for example ring_size: 4.")
        self.ring_size, self.wave, self.snap = ring_size, wave, snap
        self.sigma = max(0.5, ring_size / 32)
        self.template = template_of(ring_size, wave)
        self.values = distinct(self.template)
        self.levels = len(self.values) if snap else None

    def latent(self, weight: Tensor) -> Tensor:
        """Uniform, whatever the weight; yet drawn from it, so that a seed of a run decides it."""
        if weight.is_meta:
            return weight
        seed = int(weight.detach().float().contiguous().view(torch.int32).sum(dtype=torch.int64)) & (2**63 - 1)
        drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(weight.device)

    def project_(self, weight: Tensor) -> None:
        weight.clamp_(0, 1)

    def forward(self, weight: Tensor) -> Tensor:
        if self.snap and not self.training:
            return self.codes(weight).decode()
        blended: Tensor = _Blend.apply(weight, self.template, self.sigma)
        return blended

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def codes(self, weight: Tensor) -> Codes:
        values = torch.tensor(self.values, device=weight.device)
        rank = torch.tensor([nearest_to(value, self.values) for value in self.template], device=weight.device)
        point = (weight.detach() * self.ring_size).round().long() % self.ring_size
        return Codes(rank[point].to(torch.uint8), values, values.new_ones(()))

    def extra_repr(self) -> str:
        return f"ring_size={self.ring_size}, wave={self.wave}, snap={self.snap}"


def template_of(size: int, wave: str) -> list[float]:
    """One period of the wave, both ends included: u_k = k/(R-1)."""
    along = [k / (size - 1) for k in range(size)]
    if wave == "sin":
        return [math.sin(2 * math.pi * u) for u in along]
    return [2 * abs(2 * (u - math.floor(u + 0.5))) - 1 for u in along]


def distinct(values: list[float]) -> list[float]:
    """In ascending order, without those that differ by rounding alone."""
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > 1e-9:
            found.append(value)
    return found


def nearest_to(value: float, among: list[float]) -> int:
    """Its index."""
    return min(range(len(among)), key=lambda index: abs(among[index] - value))


class _Blend(torch.autograd.Function):
    """The published blend, point after point rather than all at once: memory for the weights, not for weights × R."""

    @staticmethod
    def forward(ctx: Any, position: Tensor, template: list[float], sigma: float) -> Tensor:
        total, mean = torch.zeros_like(position), torch.zeros_like(position)
        for k, value in enumerate(template):
            distance, _ = circular_distance(position, k, len(template))
            share = distance.square_().mul_(-0.5 / sigma**2).exp_()
            total.add_(share)
            mean.add_(share, alpha=value)
        mean.div_(total)
        ctx.save_for_backward(position, total, mean)
        ctx.template, ctx.sigma = template, sigma
        return mean.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        position, total, mean = ctx.saved_tensors
        slope = torch.zeros_like(position)
        for k, value in enumerate(ctx.template):
            distance, sign = circular_distance(position, k, len(ctx.template))
            share = (distance.square() * (-0.5 / ctx.sigma**2)).exp_()
            slope.add_(share.mul_(distance).mul_(sign).mul_(value - mean))
        return grad * slope.div_(total) * (-len(ctx.template) / ctx.sigma**2), None, None


def circular_distance(position: Tensor, k: int, size: int) -> tuple[Tensor, Tensor]:
    """min(|R·p - k|, R - |R·p - k|), and its slope over R·p: +1, -1, or 0 at p = k/R itself."""
    offset = position * size - k
    straight = offset.abs()
    around = size - straight
    return torch.minimum(straight, around), torch.where(straight < around, 1.0, -1.0).to(offset) * offset.sign()
