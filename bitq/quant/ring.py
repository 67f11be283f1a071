"""Hard ring quantization: every weight is a position on a ring of levels and takes the level next to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from bitq.errors import UsageError, one_of
from bitq.quant.base import Codes, Quantizer, check_share, look_up, nearest_level, slowed, where_above
from bitq.quant.waves import quarter_step

WAVES, ORDERS, MODES = ("triangle", "sine", "learned"), ("ring", "line"), ("ste", "anneal", "soft_until")
MOST_LEVELS = 256  # a code is a byte


class Ring(Quantizer):
    """ŵ = s·v[round(N·p) mod N]: p is trained, v are N samples of one period of a wave, s belongs to an output channel.

    A quarter of a step off its trough the triangle wave has N distinct values, {-(N-1), -(N-3), …, N-1}/N, most of them
    two levels from their neighbours on the ring. `order: line` is the same codebook in ascending order, clamped.

    The gradient is that of the soft weight, the mean of v under a Gaussian of width σ around N·p, divided by the mean
    square of its slope: on average a step then moves the soft weight as far as it would move a plain one.

    >>> ring = Ring(torch.tensor([[0.75, -0.75], [1.5, 1.5]]))
    >>> ring.codebook.tolist(), ring.scale.flatten().tolist()
    ([-0.75, 0.25, 0.75, -0.25], [1.0, 2.0])
    >>> p = torch.tensor([[0.0, 0.25], [0.6, -0.25]], requires_grad=True)
    >>> w_hat = ring(p); w_hat.tolist()
    [[-0.75, 0.25], [1.5, -0.5]]
    >>> w_hat.backward(torch.ones(2, 2)); [round(value, 4) for value in p.grad.flatten().tolist()]
    [0.1238, 0.3713, -0.2722, -0.1857]
    """

    levels: int = 4
    decay_latent = False  # a position has no zero to decay to
    active_if = {"hard_from": {"mode": ("soft_until",)}}
    codebook: Tensor

    def __init__(
        self,
        weight: Tensor,
        levels: int = 4,
        wave: str = "triangle",
        phase: float = 0.25,
        order: str = "ring",
        mode: str = "ste",
        sigma: Sequence[float] = (0.5, 0.5),
        hard_from: float = 0.8,
    ) -> None:
        """Set the ring up.

        `mode` is what training sees: levels (ste), soft weights that harden with σ (anneal), or soft weights until the
        share `hard_from` of the training. `sigma` holds the kernel's first and last width, in places.
        """
        super().__init__(weight)
        check(levels, wave, order, mode, sigma)
        check_share("ring phase", phase)
        check_share("ring hard_from", hard_from)
        self.wave, self.phase, self.mode, self.hard_from = wave, phase, mode, hard_from
        self.sigma = (float(sigma[0]), float(sigma[-1]))
        self.track = Track(levels, closed=order == "ring")
        template = quarter_step(levels, wave, phase)
        self.levels = levels if wave == "learned" else len(set(template))
        template = template if order == "ring" else sorted(template)
        codebook = torch.tensor(template, device=weight.device)
        if wave == "learned":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook, persistent=False)
        self.template = tuple(template)
        self.scale = nn.Parameter(fitted_scale(weight.detach(), sorted(set(template))))

    def latent(self, weight: Tensor) -> Tensor:
        """Place positions at the nearest level of each weight, as near to the next place as it is to the next level."""
        target, codebook = weight / abs_nonzero(self.scale.detach()), self.codebook.detach()
        place = nearest_place(target, codebook)
        rising = place + self.phase < self.track.points / 2 if self.track.closed else torch.ones_like(place).bool()
        off = (target - codebook[place]) * (self.track.points / 2) * torch.where(rising, 1.0, -1.0)
        return self.track.kept((place + off.clamp(-0.49, 0.49)) / self.track.length)

    def project_(self, weight: Tensor) -> None:
        weight.copy_(self.track.kept(weight))

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale: Tensor = self.scale
        codebook = self.codebook
        steepness = mean_square_slope(self.template, self.track, self.width)
        gain = 1 / (steepness * abs_nonzero(scale.detach()).square())
        if self.training:  # both gather the gradients of many weights: slowed as in LSQ, by 1/√(n·levels)
            scale = slowed(scale, 1 / math.sqrt(weight[0].numel() * self.track.points))
            if self.wave == "learned":
                codebook = slowed(codebook, 1 / math.sqrt(weight.numel() * self.track.points))
        unscaled: Tensor = _RingFunction.apply(weight, codebook, gain, self.track, self.width, self.hard)
        return unscaled, scale

    def codes(self, weight: Tensor) -> Codes:
        codebook = self.codebook.detach()
        # Learned values that have met still count as so many levels.
        values = codebook.sort().values if self.wave == "learned" else codebook.unique()  # type: ignore[no-untyped-call]
        rank = torch.bucketize(codebook, values)
        place, _ = self.track.nearest(weight.detach())
        return Codes(rank[place].to(torch.uint8), values, self.scale.detach().float())

    @property
    def hard(self) -> bool:
        """Say whether the forward pass sees levels, as it always does in evaluation."""
        late = self.mode == "soft_until" and self.progress >= self.hard_from
        return not self.training or self.mode == "ste" or late

    @property
    def width(self) -> float:
        """Return the kernel's σ at this point of the training."""
        first, last = self.sigma
        return float(first * (last / first) ** self.progress)

    @property
    def host_state(self) -> tuple[Any, ...]:
        return self.width, self.hard

    def extra_repr(self) -> str:
        order = "ring" if self.track.closed else "line"
        return f"levels={self.levels}, wave={self.wave}, phase={self.phase}, order={order}, mode={self.mode}"


@dataclass(frozen=True)
class Track:
    """So many places in a row, closed to a ring or not; a position in [0, 1] runs along it once."""

    points: int
    closed: bool = True

    @property
    def length(self) -> int:
        """Return the length in places."""
        return self.points if self.closed else self.points - 1

    def kept(self, position: Tensor) -> Tensor:
        """Bring positions back to the track: wrap them around a ring, stop them at the ends of a line."""
        return position - position.floor() if self.closed else position.clamp(0, 1)

    def nearest(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return the place next to each position, and how far beyond it, in places, the position lies."""
        along = self.kept(position).mul_(self.length)
        rounded = along.round()
        beyond = along.sub_(rounded)
        if self.closed:  # the end of the ring is its beginning
            rounded.sub_(where_above(rounded, self.points - 0.5).mul_(self.points))
        return rounded.int(), beyond

    def beside(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value before and the value after each place; the ends of a line are beside themselves."""
        if self.closed:
            return values.roll(1), values.roll(-1)
        return torch.cat([values[:1], values[:-1]]), torch.cat([values[1:], values[-1:]])

    def neighbours(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return for each place the one before and the one after; the ends of a line are their own."""
        places = torch.arange(self.points, device=device)
        before, after = places - 1, places + 1
        return (
            (before % self.points, after % self.points)
            if self.closed
            else (before.clamp(0), after.clamp(max=self.length))
        )


class _RingFunction(torch.autograd.Function):
    """Levels or soft values going forward, the slope of the soft value going back; nothing kept but the positions."""

    @staticmethod
    def forward(
        ctx: Any, position: Tensor, codebook: Tensor, gain: Tensor, track: Track, sigma: float, hard: bool
    ) -> Tensor:
        ctx.save_for_backward(position, codebook, gain)
        ctx.track, ctx.sigma, ctx.hard = track, sigma, hard
        return look_up(codebook, track.nearest(position)[0]) if hard else soft_value(position, codebook, track, sigma)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        position, codebook, gain = ctx.saved_tensors
        to_position = soft_slope(position, codebook, ctx.track, ctx.sigma).mul_(gain).mul_(grad)
        to_codebook = None
        if ctx.needs_input_grad[1]:
            to_codebook = _codebook_gradient(grad, position, codebook, ctx.track, ctx.sigma, ctx.hard)
        return to_position, to_codebook, None, None, None, None


def _codebook_gradient(
    grad: Tensor, position: Tensor, codebook: Tensor, track: Track, sigma: float, hard: bool
) -> Tensor:
    """Sum for every value the gradients of the weights that took it, by the share that they took."""
    place, beyond = track.nearest(position)

    def gathered(share: Tensor) -> Tensor:
        return torch.zeros_like(codebook).index_add_(0, place.flatten(), share.flatten())

    if hard:
        return gathered(grad)
    before, at, after = kernel(beyond, sigma)
    previous, following = track.neighbours(codebook.device)
    return (
        gathered(grad * at)
        .index_add(0, previous, gathered(grad * before))
        .index_add(0, following, gathered(grad * after))
    )


def kernel(beyond: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Gaussian's shares of the place before, the nearest one and the place after; others have none.

    >>> [round(share.item(), 4) for share in kernel(torch.tensor(0.5), sigma=0.5)]
    [0.0091, 0.4955, 0.4955]
    """
    sharpness = 1 / sigma**2
    before = (beyond * -sharpness).sub_(sharpness / 2).exp_()
    after = (beyond * sharpness).sub_(sharpness / 2).exp_()
    at = (before + after).add_(1).reciprocal_()
    return before.mul_(at), at, after.mul_(at)


def soft_value(position: Tensor, codebook: Tensor, track: Track, sigma: float) -> Tensor:
    """Average the three values around a position under the kernel."""
    place, beyond = track.nearest(position)
    before, at, after = kernel(beyond, sigma)
    previous, following = track.beside(codebook)
    around = (look_up(values, place) for values in (previous, codebook, following))
    return sum(share * value for share, value in zip((before, at, after), around, strict=True))  # type: ignore[return-value]


def soft_slope(position: Tensor, codebook: Tensor, track: Track, sigma: float) -> Tensor:
    """Differentiate the soft value by the position: length/σ² times the covariance of place and value."""
    place, beyond = track.nearest(position)
    before, _, after = kernel(beyond, sigma)
    previous, following = track.beside(codebook)
    fall = look_up(previous - codebook, place).mul_(before)
    rise = look_up(following - codebook, place).mul_(after)
    # cov = E[place·value] - E[place]·E[value], both counted from the nearest place
    product_of_means = after.sub_(before).mul_(rise + fall)
    return rise.sub_(fall).sub_(product_of_means).mul_(track.length / sigma**2)


@lru_cache(maxsize=64)  # σ may change from step to step, and all layers ask for the same
def mean_square_slope(template: tuple[float, ...], track: Track, sigma: float) -> float:
    """Average the squared slope of the soft values over all positions.

    >>> round(mean_square_slope((-0.75, 0.25, 0.75, -0.25), Track(4), sigma=0.5), 2)
    6.88
    """
    everywhere = torch.linspace(0, 1, 64 * track.points, device="cpu")
    return float(soft_slope(everywhere, torch.tensor(template, device="cpu"), track, sigma).square().mean())


def fitted_scale(weight: Tensor, values: Sequence[float], rounds: int = 20) -> Tensor:
    """Fit one scale per output channel by least squares of the levels to the weights: s = ⟨w, v⟩/⟨v, v⟩.

    Which level each weight takes depends on the scale, so fitting and taking alternate, as in Lloyd's method.
    """
    levels = torch.tensor(values, device=weight.device)
    rows = weight.float().reshape(len(weight), -1)
    scale = rows.square().mean(1, keepdim=True).sqrt() / levels.square().mean().sqrt()
    for _ in range(rounds):
        taken = levels[nearest_level(rows / abs_nonzero(scale), levels)]
        fitted = (rows * taken).sum(1, keepdim=True) / taken.square().sum(1, keepdim=True).clamp(min=1e-12)
        scale = torch.where(fitted > 0, fitted, scale)
    # A channel without any weight fits every scale.
    return torch.where(scale > 0, scale, 1.0).reshape(-1, *[1] * (weight.dim() - 1))


def nearest_place(target: Tensor, codebook: Tensor) -> Tensor:
    """Return the place with the nearest value; where two have the same one, a hash of the weight's index picks."""
    ascending, order = codebook.sort(stable=True)
    value = ascending[nearest_level(target, ascending)]
    first, last = torch.bucketize(value, ascending), torch.bucketize(value, ascending, right=True)
    index = torch.arange(target.numel(), device=target.device).view(target.shape)
    coin = (index * 2654435769 >> 16) & 0xFF  # Fibonacci hashing
    return order[first + coin % (last - first)]


def abs_nonzero(scale: Tensor) -> Tensor:
    """Return the size of a scale, clamped away from zero."""
    return scale.abs().clamp(min=1e-8)


def check(levels: int, wave: str, order: str, mode: str, sigma: Sequence[float]) -> None:
    """Reject settings that mean nothing."""
    for kind, value, allowed in (("wave", wave, WAVES), ("order", order, ORDERS), ("mode", mode, MODES)):
        if value not in allowed:
            raise one_of(kind, value, allowed)
    if not 2 <= levels <= MOST_LEVELS:
        raise UsageError(f"ring levels={levels} was given; allowed: 2 to {MOST_LEVELS}, for example levels: 4.")
    if len(sigma) != 2 or min(sigma) <= 0:
        raise UsageError(f"ring sigma={list(sigma)} was given; it takes two widths above 0, as in sigma: [0.5, 0.15].")
