"""Adaptive ternary quantization as the published ATQ describes it, with a gradient for every weight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from bitq.errors import UsageError, one_of
from bitq.quant import boosting
from bitq.quant.base import (
    Codes,
    Quantizer,
    Residual,
    check_share,
    in_memory_order,
    shaped_like,
    signs_of,
    straight_through,
    ternary_codes,
    where_above,
    where_below,
)
from bitq.quant.routing import largest, route
from bitq.quant.sparsity import SCHEDULES, sparsity_at
from bitq.quant.thresholds import RULES, by_quantile, floor_count

SMALLEST = 1e-8  # of scales: an all-zero layer may have any positive one
REFRESHES = 10  # times that the boosted weights are chosen anew
CHOICES = {
    "threshold": ("quantile", "learned", *RULES),
    "schedule": tuple(SCHEDULES),
    "scale": ("ls", "learned", "asym"),
    "granularity": ("tensor", "channel"),
    "gradient": ("clip", "ttq"),
    "boost_by": ("distance", "gradient"),
    "route_by": ("magnitude", "boundary"),
}
SHARES = ("sparsity", "start_sparsity", "until", "boost", "boost_until", "route_weights", "route_inputs", "budget")


class Atq(Quantizer):
    """ŵ = α·T, T = ±1 for the weights that the threshold keeps, 0 for the others; for each tensor or output channel.

    threshold  quantile: the `sparsity` smallest are zero, exactly so many; the share grows along `schedule` from
               `start_sparsity` until `until` of the training is done. twn, max, ls: see bitq.quant.thresholds.
               learned: Δ = softplus(p)·E|w|, at the start where the quantile would be.
    scale      ls: mean of the kept |w|, in the graph. learned: the same at the start, then a parameter. asym: a
               parameter for each sign. Parameters are factors of the first value, so that a step of the optimizer is
               relative to it: scales are often smaller than one step.
    gradient   clip: dŵ/dw = 1 where |w| ≤ clip·α, else 0. ttq: dŵ/dw = α/α₀ where kept, α₀ the first α; 1 elsewhere.
               That is TTQ's rule for ŵ = α₀·(a⁺P - a⁻N): were it α itself, kept weights would learn some thirty times
               more slowly than zeros do.
    boost      this share of the weights, those farthest from α·T, gets an int8 residual; chosen anew ten times until
               `boost_until` of the training is done, then no more. boost_by gradient: the distance times the size of
               the last gradient (before the first step there is none, and the distance decides).
    route_…    the share of this layer's weights, or of its inputs, that a gradient reaches: the largest ones, or the
               weights closest to the boundary.
    budget     the share of zeros of all layers together, dealt out before the first step (bitq.train.budget).

    >>> w = torch.tensor([1.0, -0.5, 0.1, -0.3], requires_grad=True)
    >>> w_hat = Atq(w, sparsity=0.5)(w); w_hat.tolist()   # α = 0.75
    [0.75, -0.75, 0.0, 0.0]
    >>> w_hat.backward(torch.tensor([1.0, 2.0, 3.0, 4.0])); w.grad.tolist()   # itself, and through α: T·(1 - 2)/2
    [0.5, 2.5, 3.0, 4.0]
    """

    levels = 3
    active_if = {
        "sparsity": {"threshold": ("quantile", "learned"), "budget": (None,)},
        "start_sparsity": {"schedule": ("linear", "cubic")},
        "until": {"schedule": ("linear", "cubic")},
        "clip": {"gradient": ("clip",)},
        "boost_by": {"boost": ()},
        "boost_until": {"boost": ()},
        "route_by": {"route_weights": ()},
    }
    share: Tensor
    first: Tensor
    positions: Tensor
    refreshed: Tensor

    def __init__(
        self,
        weight: Tensor,
        threshold: str = "quantile",
        sparsity: float = 0.3,
        schedule: str = "constant",
        start_sparsity: float = 0.05,
        until: float = 0.7,
        budget: float | None = None,
        scale: str = "ls",
        granularity: str = "tensor",
        gradient: str = "clip",
        clip: float = 2.0,
        boost: float = 0.0,
        boost_by: str = "distance",
        boost_until: float = 0.5,
        route_weights: float = 1.0,
        route_by: str = "magnitude",
        route_inputs: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.threshold, self.schedule, self.start_sparsity, self.until = threshold, schedule, start_sparsity, until
        self.sparsity, self.budget = sparsity if budget is None else budget, budget
        self.scale, self.granularity, self.gradient, self.clip = scale, granularity, gradient, clip
        self.boost, self.boost_by, self.boost_until = boost, boost_by, boost_until
        self.route_weights, self.route_by, self.route_inputs = route_weights, route_by, route_inputs
        validate_settings(self)
        self.boosted = floor_count(boost, weight.numel())  # how many weights get a residual
        self._dims = weight.dim()
        self.progress = 0.0  # the first scales belong to the first share of zeros
        self._start_from(weight.detach())
        del self.progress

    def _start_from(self, weight: Tensor) -> None:
        if self.threshold == "learned":
            size = self._rows(weight).abs()
            self.p = nn.Parameter(_inverse_softplus(_edge(size, by_quantile(size, self.sparsity)) / _mean(size)))
        if self.scale != "ls" or self.gradient == "ttq":
            self.register_buffer("first", self._least_squares(weight, self._signs(weight)))
        if self.scale != "ls":
            self.factor = nn.Parameter(torch.ones_like(self.first))
        if self.boosted:
            self.register_buffer("positions", self._largest_errors(weight))
            self.register_buffer("refreshed", torch.tensor(-1))
        if self.budget is not None:
            # This layer's share, replaced before the first step. fp64: times n it must be a whole number again.
            self.register_buffer("share", torch.tensor(self.budget, dtype=torch.float64))

    # --- forwards -----------------------------------------------------------------------------------------------------

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        weight = self._routed(weight)
        unscaled, scale = self._ternary(weight)
        if not self.boosted:
            return unscaled, scale
        return self._with_residual(weight, unscaled * scale), scale.new_ones(())

    def codes(self, weight: Tensor) -> Codes:
        weight = weight.detach()
        unscaled, scale = (factor.detach() for factor in self._ternary(weight))
        ternary = ternary_codes(unscaled.sign(), scale)
        if self.scale == "asym":
            negative, positive = self._scales(weight, unscaled.sign()).detach()
            values = torch.stack([-negative, torch.zeros_like(positive), positive]).float()
            ternary = Codes(ternary.index, values, values.new_ones(()))
        return Codes(ternary.index, ternary.values, ternary.scale, self._residual(weight, ternary.dense()))

    def _ternary(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Split into (unscaled, scale) without the residual."""
        signs = self._signs(weight.detach())
        scales = self._scales(weight, signs)
        fixed, slope = scales.detach(), self._slope(weight.detach(), signs, scales.detach())
        if self.scale == "asym":
            value = scales[1] * where_above(signs, 0.0) - scales[0] * where_below(signs, 0.0)
            pull = weight * slope + self._pull_of_threshold(weight.detach(), fixed.amax())
            return straight_through(value, value + pull), value.new_ones(())
        if self.threshold != "learned":
            return straight_through(signs, weight, slope.div_(fixed)), scales
        pull = weight * slope + self._pull_of_threshold(weight.detach(), fixed)
        return straight_through(signs, pull / fixed), scales

    def _slope(self, weight: Tensor, signs: Tensor, scales: Tensor) -> Tensor:
        """Return dŵ/dw at fixed scales."""
        if self.gradient == "clip":
            largest = self.clip * (scales.amax() if self.scale == "asym" else scales)
            return torch.le(weight.abs(), largest, out=torch.empty_like(weight))
        learned = scales / self.first
        if self.scale == "asym":
            negative, positive = where_below(signs, 0.0), where_above(signs, 0.0)
            return positive.mul_(learned[1] - 1).add_(negative.mul_(learned[0] - 1)).add_(1)
        return signs.abs().mul_(learned - 1).add_(1)

    def _pull_of_threshold(self, weight: Tensor, scale: Tensor) -> Tensor | float:
        """Return a function of a learned threshold whose derivative is that of ŵ."""
        if self.threshold != "learned":
            return 0.0
        # The step at Δ, seen through a window from Δ/2 to 3Δ/2: dŵ/dΔ = -α·sign(w)/Δ inside, 0 outside.
        delta = self._as_scale(self._delta(self._rows(weight).abs()))
        inside = (weight.abs() - delta.detach()).abs() <= delta.detach() / 2
        return -scale * weight.sign() * inside * (delta / delta.detach())

    # --- thresholds and scales ----------------------------------------------------------------------------------------

    def _signs(self, weight: Tensor) -> Tensor:
        """Return T. A kept weight is never zero, or ties could leave more zeros than asked: 0 counts as positive."""
        kept = self._kept(self._rows(weight).abs())
        return signs_of(weight).mul_(shaped_like(weight, kept))

    def _kept(self, size: Tensor) -> Tensor:
        if self.threshold == "quantile":
            return by_quantile(size, self.sparsity_now())
        if self.threshold == "learned":
            return size > self._delta(size).detach()
        return RULES[self.threshold](size)

    def sparsity_now(self) -> float:
        """Return the share of zeros that the schedule has reached."""
        end = float(self.share) if "share" in self._buffers else self.sparsity
        return sparsity_at(SCHEDULES[self.schedule], self.start_sparsity, end, self.until, self.progress)

    def _delta(self, size: Tensor) -> Tensor:
        return softplus(self.p) * _mean(size)

    def _scales(self, weight: Tensor, signs: Tensor) -> Tensor:
        """Return α, or one for the negative and one for the positive side."""
        if self.scale == "ls":
            return self._least_squares(weight, signs)
        return (self.first * self.factor).abs().clamp(min=SMALLEST)

    def _least_squares(self, weight: Tensor, signs: Tensor) -> Tensor:
        if self.scale == "asym":
            return torch.stack([_mean_where(weight.abs(), side) for side in (signs < 0, signs > 0)])
        size, kept = self._rows(weight * signs), self._rows(signs.abs())
        return self._as_scale((size.sum(1) / kept.sum(1).clamp(min=1)).clamp(min=SMALLEST))

    def _rows(self, weight: Tensor) -> Tensor:
        """Reshape to one row for each scale, in the order of memory."""
        return in_memory_order(weight).reshape(1 if self.granularity == "tensor" else len(weight), -1)

    def _as_scale(self, value: Tensor) -> Tensor:
        """Shape one value for each row to multiply the weight."""
        return value.reshape(()) if self.granularity == "tensor" else value.reshape(-1, *[1] * (self._dims - 1))

    # --- boosting and routing -----------------------------------------------------------------------------------------

    def project_(self, weight: Tensor) -> None:
        """Choose the boosted weights anew, if it is time."""
        stage = int(min(self.progress / self.boost_until, 1.0) * REFRESHES) if self.boosted else 0
        if self.boosted and stage > int(self.refreshed):
            self.positions.copy_(self._largest_errors(weight))
            self.refreshed.fill_(stage)

    def _largest_errors(self, weight: Tensor) -> Tensor:
        unscaled, scale = self._ternary(weight)
        gradient = weight.grad if self.boost_by == "gradient" else None
        return boosting.largest_error_positions(weight, (unscaled * scale).detach(), self.boosted, gradient)

    def _residual(self, weight: Tensor, ternary: Tensor) -> Residual | None:
        return boosting.residual_at(weight, ternary, self.positions) if self.boosted else None

    def _with_residual(self, weight: Tensor, ternary: Tensor) -> Tensor:
        """Replace boosted weights by themselves up to an int8 step, and pass their gradient unchanged."""
        residual = self._residual(weight.detach(), ternary.detach())
        assert residual is not None
        boosted = torch.zeros_like(weight, dtype=torch.bool).flatten().index_fill(0, self.positions, True)
        return straight_through(
            residual.added_to(ternary.detach()), torch.where(boosted.view(weight.shape), weight, ternary)
        )

    def _routed(self, weight: Tensor) -> Tensor:
        if self.route_weights == 1 or not weight.requires_grad:
            return weight
        size = self._rows(weight.detach()).abs()
        importance = size if self.route_by == "magnitude" else -(size - _edge(size, self._kept(size))).abs()
        return route(weight, shaped_like(weight, largest(importance, self.route_weights)))

    def transform_input(self, x: Tensor) -> Tensor:
        """Pass the layer's input through; only its largest entries get a gradient."""
        if self.route_inputs == 1 or not x.requires_grad:
            return x
        return route(x, largest(x.detach().abs(), self.route_inputs))

    @property
    def host_state(self) -> tuple[Any, ...] | None:
        # A budget's share of zeros, and whether boosted weights are due to be chosen anew, are values on the device.
        return (self.sparsity_now(),) if self.budget is None and not self.boosted else None

    def extra_repr(self) -> str:
        how = f"threshold={self.threshold}, scale={self.scale}, granularity={self.granularity}"
        return f"{how}, sparsity={self.sparsity}, boost={self.boost}"


def validate_settings(quantizer: Atq) -> None:
    """Reject settings that do not exist, and those that would be ignored."""
    for name, allowed in CHOICES.items():
        if getattr(quantizer, name) not in allowed:
            raise one_of(name, getattr(quantizer, name), allowed)
    for name in SHARES:
        value = getattr(quantizer, name)
        if value is not None or name != "budget":
            check_share(name, value)
    for name in ("until", "boost_until", "clip"):
        if getattr(quantizer, name) <= 0:
            raise UsageError(f"{name}={getattr(quantizer, name)} was given; it must be above 0.")
    if quantizer.threshold != "quantile" and (quantizer.schedule != "constant" or quantizer.budget is not None):
        raise UsageError(
            f"threshold {quantizer.threshold!r} decides the share of zeros by itself, so a schedule or a budget would "
            "be ignored; give threshold=quantile with them."
        )
    if quantizer.granularity == "channel" and (quantizer.scale == "asym" or quantizer.budget is not None):
        raise UsageError("scale 'asym' and a budget are made for whole tensors; give granularity=tensor with them.")
    if quantizer.budget is not None and (quantizer.scale != "ls" or quantizer.gradient == "ttq"):
        raise UsageError(
            "a budget changes the share of zeros after the first scales are fitted; give scale=ls and gradient=clip "
            "with it."
        )


def _edge(size: Tensor, kept: Tensor) -> Tensor:
    """Return the boundary between zeros and the others: the largest size in a row that became zero."""
    return (size * ~kept).amax(1, keepdim=True)


def _mean(size: Tensor) -> Tensor:
    return size.mean(1, keepdim=True).clamp(min=SMALLEST)


def _mean_where(size: Tensor, chosen: Tensor) -> Tensor:
    return ((size * chosen).sum() / chosen.sum().clamp(min=1)).clamp(min=SMALLEST)


def _inverse_softplus(value: Tensor) -> Tensor:
    return value.clamp(min=1e-3).expm1().log()
