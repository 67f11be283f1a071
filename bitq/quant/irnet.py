"""IR-Net (Qin et al. 2020): signs of standardized weights, a power of two as scale, a gradient that grows narrow."""

from typing import Any

import torch
from torch import Tensor

from bitq.quant.base import Codes, Quantizer
from bitq.quant.standardize import freedom, standardized

FIRST, LAST = 0.1, 10.0  # steepness at the start and at the end of the training


class Irnet(Quantizer):
    """ŵ = s·sign(x), sign(0) = 1, x = (w - mean)/std and s = 2^round(log₂ mean|x|) of the output channel.

    The gradient of the sign is max(t, 1)·(1 - tanh²(t·x)), t from 0.1 to 10 along the training, and flows through mean
    and std, not through s. ŵ has no memory of the size of w: a normalisation has to follow.

    >>> w = torch.tensor([[1.0, 3.0, 5.0, 7.0]], requires_grad=True)   # mean 4, std √(20/3) = 2.582, mean|x| = 0.775
    >>> irnet = Irnet(w)
    >>> irnet.progress = 0.0; w_hat = irnet(w); w_hat.tolist()
    [[-1.0, -1.0, 1.0, 1.0]]
    >>> w_hat.backward(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))   # reaches x₁ as h₁ = 1 - tanh²(0.1·x₁) = 0.987
    >>> [round(value, 3) for value in w.grad.flatten().tolist()]   # (h - mean h - x·⟨h, x⟩/3)/std
    [0.115, -0.153, -0.038, 0.076]
    """

    levels = 2

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = _IrnetFunction.apply(weight, self.steepness)
        return signs, scale

    @property
    def steepness(self) -> float:
        """t at this point of the training."""
        return float(FIRST * (LAST / FIRST) ** self.progress)

    @property
    def host_state(self) -> tuple[Any, ...]:
        return (self.steepness,)

    def codes(self, weight: Tensor) -> Codes:
        standard, _ = standardized(weight.detach(), dims_of(weight))
        return Codes((standard >= 0).to(torch.uint8), standard.new_tensor([-1.0, 1.0]), power_of_two(standard))


def power_of_two(standard: Tensor) -> Tensor:
    """Round the mean size of each output channel to a power of two, by its logarithm; a channel of zeros gets 1."""
    size = standard.abs().mean(dims_of(standard), keepdim=True)
    return torch.where(size > 0, size, 1.0).log2().round().exp2()


def dims_of(weight: Tensor) -> tuple[int, ...]:
    """List the dimensions within an output channel; a vector is one channel."""
    return tuple(range(1, weight.dim())) or (0,)


class _IrnetFunction(torch.autograd.Function):
    """(signs, scale); the signs have the gradient above, through the standardization in closed form."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, steepness: float) -> tuple[Tensor, Tensor]:
        standard, std = standardized(weight, dims_of(weight))
        ctx.save_for_backward(standard, std)
        ctx.steepness = steepness
        scale = power_of_two(standard)
        ctx.mark_non_differentiable(scale)
        return torch.where(standard < 0, -1.0, 1.0), scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        standard, std = ctx.saved_tensors
        dims = dims_of(standard)
        slope = (standard * ctx.steepness).tanh_().square_().neg_().add_(1).mul_(max(ctx.steepness, 1.0)).mul_(grad)
        along = (slope * standard).sum(dims, keepdim=True).div_(max(1, freedom(standard, dims)))
        return slope.sub_(slope.mean(dims, keepdim=True)).sub_(standard * along).div_(std), None
