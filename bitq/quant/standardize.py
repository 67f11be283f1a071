"""Weights with mean 0 and standard deviation 1, for methods that quantize those."""

import math

import torch
from torch import Tensor

FLAT = 1e-6  # standard deviation over mean, below which weights differ by no more than rounding


def standardized(weight: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Standardize weights over some dimensions; also return their standard deviation. Equal weights become 0, over 1.

    >>> standardized(torch.tensor([[1.0, 3.0, 5.0], [7.0, 7.0, 7.0]]), dims=(1,))
    (tensor([[-1.,  0.,  1.],
            [ 0.,  0.,  0.]]), tensor([[2.],
            [1.]]))
    """
    std, mean = torch.std_mean(weight.float(), dims, correction=min(1, freedom(weight, dims)), keepdim=True)
    flat = std <= FLAT * mean.abs()
    std = torch.where(flat, 1.0, std)
    return torch.where(flat, 0.0, (weight - mean) / std), std


def freedom(weight: Tensor, dims: tuple[int, ...]) -> int:
    """Count the degrees of freedom of a standard deviation: one fewer than the weights that share it.

    >>> freedom(torch.ones(4, 3, 3), dims=(1, 2))
    8
    """
    return math.prod(weight.shape[dim] for dim in dims) - 1
