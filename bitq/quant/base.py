"""What every weight quantizer is: a weight goes in, a weight of few levels comes out, and both can be shipped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitq.errors import UsageError


@dataclass(frozen=True)
class Residual:
    """What a few weights get on top of their codes: ŵ[position] += value · scale."""

    position: Tensor  # int64, (count,), ascending, into the flat weight
    value: Tensor  # int8, or float32 where weights ship in full precision, (count,)
    scale: Tensor  # float32, ()

    def added_to(self, weight: Tensor) -> Tensor:
        """The weight with the residual on top."""
        return weight.flatten().index_add(0, self.position, self.value * self.scale).view(weight.shape)


@dataclass(frozen=True)
class Codes:
    """What ships in place of a weight tensor: ŵ = values[index] · scale, and for a few weights a residual on top.

    >>> index, values = torch.tensor([0, 2], dtype=torch.uint8), torch.tensor([-1.0, 0.0, 1.0])
    >>> Codes(index, values, torch.tensor(0.5)).decode()
    tensor([-0.5000,  0.5000])
    >>> boost = Residual(torch.tensor([1]), torch.tensor([-3], dtype=torch.int8), torch.tensor(0.25))
    >>> Codes(index, values, torch.tensor(0.5), boost).decode()
    tensor([-0.5000, -0.2500])
    """

    index: Tensor  # uint8, the shape of the weight
    values: Tensor  # float32, (levels,), ascending
    scale: Tensor  # float32, () or (out, 1, …)
    residual: Residual | None = None

    def dense(self) -> Tensor:
        """The weights without the residual: so many levels under each scale, no more."""
        return self.values[self.index.int()] * self.scale

    def decode(self) -> Tensor:
        """The weights that inference uses."""
        return self.residual.added_to(self.dense()) if self.residual else self.dense()


class Quantizer(nn.Module):
    """Base of the weight quantizers.

    A subclass says how a weight splits into a grid and a scale, ŵ = grid · scale, with the gradient it wants;
    and which codes ship. In eval mode ŵ equals `codes(w).decode()` bit for bit.

    The layer's weight is the latent that is trained. It starts as `latent(initial weight)`: most methods train the
    weight itself, some a position on a ring. `progress`, the share of the training that is done, is set before each
    step; whatever follows a schedule is a function of it. `project_` runs after each step, `transform_input` on each
    input.
    """

    levels: int | None = None  # number of distinct values before scaling; None: a float method, shipped as float
    decay_scalars = False  # does the optimizer's weight decay reach the quantizer's own parameters?
    decay_latent = True  # … and the layer's weight?
    latent_from_weight = True  # does the first latent depend on the initial weight beyond chance?
    progress = 1.0
    # Settings that do something only with certain values of another: {setting: {other: values}}; no values at all stand
    # for any but the default.
    active_if: Mapping[str, Mapping[str, tuple[Any, ...]]] = {}
    # Settings of the evaluation alone: what was trained means the same with and without.
    of_evaluation: tuple[str, ...] = ()

    def __init__(self, weight: Tensor) -> None:
        """`weight` is the layer's initial weight: scalars are initialised from it, it is not kept."""
        super().__init__()

    def latent(self, weight: Tensor) -> Tensor:
        """What is trained in place of the initial weight."""
        return weight

    def latent_from_codes(self, codes: Codes) -> Tensor:
        """The latent to go on from where a layer of this method shipped; what else it knows is set to what they say."""
        if self.state_dict():
            raise UsageError(
                f"{type(self).__name__} ships codes, which do not tell all that it trains; start from an fp32 run."
            )
        return self.latent(codes.decode())

    def project_(self, weight: Tensor) -> None:
        """Bring the latent back, in place, to where it may be."""

    def transform_input(self, x: Tensor) -> Tensor:
        """The layer's input as its product sees it."""
        return x

    def shipped(self, weight: Tensor) -> Tensor:
        """The weight as the file of a float method holds it."""
        return weight

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(grid, scale), differentiable."""
        raise NotImplementedError

    def codes(self, weight: Tensor) -> Codes:
        """What ships."""
        raise NotImplementedError

    def forward(self, weight: Tensor) -> Tensor:
        """ŵ, differentiable, of the weight's shape."""
        grid, scale = self.factors(weight)
        return grid * scale


def check_share(name: str, value: float) -> None:
    """Refuse what is no share."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{name}={value} was given; it is a share, from 0 to 1.")


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Exactly `value` going forward, the gradient of `surrogate` going back.

    >>> w = torch.tensor([0.4, -1.7], requires_grad=True)
    >>> y = straight_through(w.round(), 2 * w)
    >>> y.tolist()
    [0.0, -2.0]
    >>> y.sum().backward(); w.grad.tolist()
    [2.0, 2.0]
    """
    # (s - sg(s)) is exactly zero for finite s, so no rounding reaches the value.
    return value.detach() + (surrogate - surrogate.detach())


def nearest_level(weight: Tensor, ascending: Tensor) -> Tensor:
    """Find the index of the level next to each weight; half-way between two it is the lower one.

    >>> nearest_level(torch.tensor([-9.0, 0.5, 0.6]), torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [0, 1, 2]
    """
    return bucket(weight, (ascending[1:] + ascending[:-1]) / 2)


def bucket(weight: Tensor, bounds: Tensor) -> Tensor:
    """Count the ascending bounds below each weight."""
    # torch.bucketize forgets the weight's memory format, and a convolution is computed by that of what it is given.
    return torch.empty_like(weight, dtype=torch.int32).copy_(
        torch.bucketize(weight.contiguous(), bounds, out_int32=True)
    )


def slowed(parameter: Tensor, factor: float) -> Tensor:
    """The same value, a gradient scaled by `factor`."""
    return parameter.detach() + (parameter - parameter.detach()) * factor


TERNARY = (-1.0, 0.0, 1.0)


def ternary_codes(signs: Tensor, scale: Tensor) -> Codes:
    """Codes of a ternary tensor with one scale: signs in {-1, 0, 1}."""
    index = (signs.detach() + 1).to(torch.uint8)
    return Codes(index, torch.tensor(TERNARY, device=signs.device), scale.detach().float())
