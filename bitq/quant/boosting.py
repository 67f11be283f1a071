"""Residual precision boosting, taken literally: a few weights get an int8 residual on top of their ternary value."""

import torch
from torch import Tensor

from bitq.quant.base import Residual

LARGEST = 127


def largest_error_positions(weight: Tensor, dense: Tensor, count: int, gradient: Tensor | None = None) -> Tensor:
    """Find the positions of the `count` largest quantization errors, ascending.

    With the gradient of the loss it is the errors that change the loss most, |g·(w - ŵ)|.

    >>> w, dense = torch.tensor([1.0, -0.2, 2.0, 0.1]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    >>> gradient = torch.tensor([9.0, 3.0, 0.1, -7.0])
    >>> [largest_error_positions(w, dense, 2, of).tolist() for of in (None, gradient)]
    [[1, 2], [1, 3]]
    """
    need = (weight - dense).abs()
    if gradient is not None:
        need = need * gradient.abs()
    return need.flatten().topk(count).indices.sort().values


def residual_at(weight: Tensor, dense: Tensor, positions: Tensor) -> Residual:
    """Quantize what is missing at the positions to int8, in steps of 1/127 of the largest.

    >>> boost = residual_at(torch.tensor([3.0, 0.5, -1.27]), torch.tensor([3.0, 0.0, 0.0]), torch.tensor([1, 2]))
    >>> boost.value.tolist(), round(boost.scale.item(), 4)
    ([50, -127], 0.01)
    """
    missing = (weight - dense).flatten()[positions]
    scale = (missing.abs().amax() / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    return Residual(positions, (missing / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale.float())
