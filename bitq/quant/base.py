"""The interface of weight quantizers: a weight goes in, a weight of few levels comes out, and both can be shipped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.errors import UsageError


@dataclass(frozen=True)
class Residual:
    """Corrections of a few weights on top of their codes: ŵ[position] += value · scale."""

    position: Tensor  # int64, (count,), ascending, into the flat weight
    value: Tensor  # int8, or float32 where weights ship in full precision, (count,)
    scale: Tensor  # float32, ()

    def added_to(self, weight: Tensor) -> Tensor:
        """Add the residual to a weight."""
        return weight.flatten().index_add(0, self.position, self.value * self.scale).view(weight.shape)


@dataclass(frozen=True)
class Codes:
    """The codes of a weight tensor as they ship: ŵ = values[index] · scale, and for a few weights a residual on top.

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
        """Decode without the residual, to the declared number of levels under each scale."""
        return look_up(self.values, self.index) * self.scale

    def decode(self) -> Tensor:
        """Decode to the weights that inference uses."""
        return self.residual.added_to(self.dense()) if self.residual else self.dense()


class Quantizer(nn.Module):
    """Base of the weight quantizers.

    A subclass splits a weight into unscaled levels and a scale, ŵ = unscaled · scale, with the gradient it wants, and
    says which codes ship. In eval mode ŵ equals `codes(w).decode()` bit for bit.

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
        """Initialise the scalars from the layer's initial weight, which is not kept."""
        super().__init__()

    def latent(self, weight: Tensor) -> Tensor:
        """Return the tensor that is trained in place of the initial weight."""
        return weight

    def latent_from_codes(self, codes: Codes) -> Tensor:
        """Recover a trainable latent from shipped codes, and set the scalars that they determine."""
        if self.state_dict():
            raise UsageError(
                f"{type(self).__name__} ships codes, which do not tell all that it trains; start from an fp32 run."
            )
        return self.latent(codes.decode())

    @property
    def host_state(self) -> tuple[Any, ...] | None:
        """All that `progress` decides of a step, on the host; None if a step reads a value of the device as well.

        A captured step is replayed while this stays equal, and runs operation by operation while it changes.
        """
        return ()

    def project_(self, weight: Tensor) -> None:
        """Project the latent, in place, onto its allowed range after a step."""

    def transform_input(self, x: Tensor) -> Tensor:
        """Transform the layer's input before its product."""
        return x

    def shipped(self, weight: Tensor) -> Tensor:
        """Return the weight as the file of a float method holds it."""
        return weight

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Split the weight into (unscaled, scale), both differentiable."""
        raise NotImplementedError

    def codes(self, weight: Tensor) -> Codes:
        """Encode the weight as it ships."""
        raise NotImplementedError

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize the weight differentiably, ŵ = unscaled · scale."""
        unscaled, scale = self.factors(weight)
        return unscaled * scale


def check_share(name: str, value: float) -> None:
    """Refuse a value that is no share."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"{name}={value} was given; it is a share, from 0 to 1.")


def straight_through(value: Tensor, surrogate: Tensor, slope: Tensor | None = None) -> Tensor:
    """Return exactly `value` with the gradient of `surrogate`, multiplied by `slope` where one is given.

    >>> w = torch.tensor([0.4, -1.7], requires_grad=True)
    >>> y = straight_through(w.round(), 2 * w)
    >>> y.tolist()
    [0.0, -2.0]
    >>> y.sum().backward(); w.grad.tolist()
    [2.0, 2.0]
    """
    passed: Tensor = _StraightThrough.apply(value.detach(), surrogate, slope)
    return passed


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, surrogate: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(*(() if slope is None else (slope,)))
        return value + 0.0  # -0.0 becomes 0.0, as it is in a file

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, Tensor, None]:
        slope = ctx.saved_tensors  # type: ignore[attr-defined]
        return None, grad * slope[0] if slope else grad, None


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
    """Return the same value with its gradient scaled by `factor`."""
    return parameter.detach() + (parameter - parameter.detach()) * factor


TERNARY = (-1.0, 0.0, 1.0)


def ternary_codes(signs: Tensor, scale: Tensor) -> Codes:
    """Encode a ternary tensor of signs in {-1, 0, 1} with its scale."""
    index = (signs.detach() + 1).to(torch.uint8)
    return Codes(index, torch.tensor(TERNARY, device=signs.device), scale.detach().float())


def where_above(x: Tensor, edge: Tensor | float) -> Tensor:
    """Return 1 where x > edge and 0 elsewhere, as floats: these multiply several times faster than booleans.

    >>> where_above(torch.tensor([0.1, 0.7]), 0.5).tolist()
    [0.0, 1.0]
    """
    return torch.gt(x, edge, out=torch.empty_like(x))


def where_below(x: Tensor, edge: Tensor | float) -> Tensor:
    """Return 1 where x < edge and 0 elsewhere, as floats."""
    return torch.lt(x, edge, out=torch.empty_like(x))


def signs_of(x: Tensor) -> Tensor:
    """Return -1 where x < 0 and 1 elsewhere.

    >>> signs_of(torch.tensor([-0.5, 0.0, 2.0])).tolist()
    [-1.0, 1.0, 1.0]
    """
    return where_below(x, 0.0).mul_(-2).add_(1)


def look_up(values: Tensor, index: Tensor) -> Tensor:
    """Return values[index] in the memory format of the index, some six times as fast as by indexing.

    >>> look_up(torch.tensor([0.5, -1.0]), torch.tensor([[1, 0]], dtype=torch.uint8)).tolist()
    [[-1.0, 0.5]]
    """
    return shaped_like(index, values.index_select(0, in_memory_order(index).reshape(-1).int()))


def in_memory_order(weight: Tensor) -> Tensor:
    """Permute a weight in channels-last format so that it is contiguous; others stay as they are."""
    return weight.permute(0, 2, 3, 1) if _channels_last(weight) else weight


def shaped_like(weight: Tensor, flat: Tensor) -> Tensor:
    """Give numbers in the memory order of a weight its shape and format."""
    if not _channels_last(weight):
        return flat.view(weight.shape)
    return flat.view(in_memory_order(weight).shape).permute(0, 3, 1, 2)


def _channels_last(weight: Tensor) -> bool:
    last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return last and not weight.is_contiguous()
