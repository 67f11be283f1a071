"""Selective gradient routing: the forward pass is the identity, the backward pass reaches a share of the entries."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from bitq.quant.thresholds import floor_count, smallest


def largest(importance: Tensor, share: float) -> Tensor:
    """Mask the given share of the entries, rounded down, with the largest importance; exactly so many also at ties.

    >>> largest(torch.tensor([[0.0, 3.0], [0.0, 1.0]]), 0.75).tolist()
    [[False, True], [True, True]]
    """
    row = importance.reshape(1, -1)
    count = floor_count(share, row.shape[1])
    return ~smallest(row, row.shape[1] - count).view(importance.shape)


def route(x: Tensor, kept: Tensor) -> Tensor:
    """Return x with a gradient that reaches only the kept entries.

    >>> x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    >>> y = route(x, largest(x.detach().abs(), 2 / 3))
    >>> y.backward(torch.ones(3)); y.tolist(), x.grad.tolist()
    ([1.0, -2.0, 3.0], [0.0, 1.0, 1.0])
    """
    routed: Tensor = _Route.apply(x, kept)
    return routed


class _Route(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * kept, None
