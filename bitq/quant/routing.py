"""Selective gradient routing: going forward nothing happens, going back only a stated share of the entries learns."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from bitq.quant.thresholds import floor_count, smallest


def largest(importance: Tensor, share: float) -> Tensor:
    """The share of the entries, rounded down, that matter most; exactly so many, also where they matter equally.

    >>> largest(torch.tensor([[0.0, 3.0], [0.0, 1.0]]), 0.75).tolist()
    [[False, True], [True, True]]
    """
    row = importance.reshape(1, -1)
    count = floor_count(share, row.shape[1])
    return ~smallest(row, row.shape[1] - count).view(importance.shape)


def route(x: Tensor, kept: Tensor) -> Tensor:
    """x, whose gradient reaches only the kept entries.

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
