"""Ring quantization as its published code computes it: the weight is a blend of the ring's values and stays one."""

from typing import Any

import torch
from torch import Tensor

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer
from bitq.quant.waves import both_ends

WAVES = ("triangle", "sin")


class RingLegacy(Quantizer):
    """ŵ = Σ a_k·v_k with a = softmax(-d²/2σ²), d the circular distance of R·p to k, σ = max(½, R/32), no scale.

    v samples one period of the wave *with both ends*, so R points have R/2 values. Positions start uniform, are clamped
    to [0, 1] and decay. With `snap` the evaluation, and only that, takes the value of the nearest point: R/2 levels.

    Gradient, as automatic differentiation has it: dŵ/dp = -R/σ² · Σ a_k·(v_k - ŵ)·d_k·s_k, s_k = ±1 the slope of d_k.

    >>> legacy = RingLegacy(torch.zeros(3), ring_size=4)
    >>> [round(value, 3) for value in legacy.template], legacy.levels
    ([-1.0, 0.333, 0.333, -1.0], None)
    >>> p = torch.tensor([0.05, 0.125, 0.375], requires_grad=True)
    >>> w_hat = legacy(p); [round(value, 3) for value in w_hat.tolist()]
    [-0.704, -0.333, 0.309]
    >>> w_hat.sum().backward(); [round(value, 2) + 0.0 for value in p.grad.tolist()]
    [3.92, 5.53, 0.0]
    >>> snapped = RingLegacy(torch.zeros(3), ring_size=4, snap=True).eval()
    >>> snapped.levels, [round(value, 3) for value in snapped(p).tolist()]
    (2, [-1.0, -1.0, 0.333])
    """

    levels = None
    decay_scalars = True
    latent_from_weight = False
    of_evaluation = ("snap",)

    def __init__(self, weight: Tensor, ring_size: int = 8, wave: str = "triangle", snap: bool = False) -> None:
        super().__init__(weight)
        if wave not in WAVES:
            raise one_of("wave", wave, WAVES)
        if not 2 <= ring_size <= 256:
            raise UsageError(f"ring_size={ring_size} was given; allowed: 2 to 256, for example ring_size: 4.")
        self.ring_size, self.wave, self.snap = ring_size, wave, snap
        self.sigma = max(0.5, ring_size / 32)
        self.template = both_ends(ring_size, wave)
        self.values = distinct(self.template)
        self.levels = len(self.values) if snap else None

    def latent(self, weight: Tensor) -> Tensor:
        """Draw uniform positions, seeded by the initial weight and so by the seed of the run."""
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

    def latent_from_codes(self, codes: Codes) -> Tensor:
        """Return for each code the first point of the ring with its value."""
        points = [self.template.index(min(self.template, key=lambda v, to=value: abs(v - to)))  # type: ignore[misc]
                  for value in codes.values.tolist()]  # fmt: skip
        return torch.tensor(points, device=codes.index.device)[codes.index.int()] / self.ring_size

    def extra_repr(self) -> str:
        return f"ring_size={self.ring_size}, wave={self.wave}, snap={self.snap}"


def distinct(values: list[float]) -> list[float]:
    """Sort values and drop those that differ by rounding alone."""
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > 1e-9:
            found.append(value)
    return found


def nearest_to(value: float, among: list[float]) -> int:
    """Return the index of the nearest value."""
    return min(range(len(among)), key=lambda index: abs(among[index] - value))


class _Blend(torch.autograd.Function):
    """The published blend, point after point rather than all at once: memory for the weights, not for weights × R."""

    @staticmethod
    def forward(ctx: Any, position: Tensor, template: list[float], sigma: float) -> Tensor:
        along, total, mean = position * len(template), torch.zeros_like(position), torch.zeros_like(position)
        for k, value in enumerate(template):
            share = offset(along, k, len(template)).square_().mul_(-0.5 / sigma**2).exp_()
            total.add_(share)
            mean.add_(share, alpha=value)
        mean.div_(total)
        ctx.save_for_backward(position, total, mean)
        ctx.template, ctx.sigma = template, sigma
        return mean.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        position, total, mean = ctx.saved_tensors
        size = len(ctx.template)
        along, pulls, values = position * size, torch.zeros_like(position), torch.zeros_like(position)
        for k, value in enumerate(ctx.template):  # Σ a_k·d_k·s_k and Σ a_k·d_k·s_k·v_k
            off = offset(along, k, size)
            pull = off.square().mul_(-0.5 / ctx.sigma**2).exp_().mul_(off)
            pulls.add_(pull)
            values.add_(pull, alpha=value)
        slope = values.sub_(pulls.mul_(mean)).div_(total).mul_(-size / ctx.sigma**2)
        return slope.mul_(grad), None, None


def offset(along: Tensor, k: int, size: int) -> Tensor:
    """Return d_k·s_k, the signed distance from point k the shorter way around."""
    straight = along - k
    return straight.sub_((straight / size).round_(), alpha=size)
