"""Which weights a ternary method keeps: masks over the rows of a matrix, one row for each scale."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Rule = Callable[[Tensor], Tensor]  # sizes |w| in rows → mask of those that stay


def floor_count(share: float, of: int) -> int:
    """Return a share of a count, rounded down.

    >>> floor_count(0.29, 100)   # 28.999999999999996 in floats
    29
    """
    return math.floor(share * of + 1e-9)


def on_host(values: Tensor) -> bool:
    """Tell whether the host can read the values without waiting for a device, and numpy can sort them."""
    return values.device.type == "cpu"


def smallest(values: Tensor, count: int) -> Tensor:
    """Mask the `count` smallest of each row, exactly so many: of equal ones those that come first.

    >>> smallest(torch.tensor([[2.0, 1.0, 1.0, 1.0]]), 2).tolist()
    [[False, True, True, False]]
    """
    if count == 0:
        return values.new_zeros(values.shape).bool()
    edge = kth_smallest(values, count)
    at_most = values <= edge
    if on_host(values) and bool((at_most.sum(1) == count).all()):  # no ties; a GPU would have to be waited for
        return at_most
    below, equal = values < edge, values == edge
    missing = count - below.sum(1, keepdim=True)
    return below | (equal & (equal.cumsum(1) <= missing))


def kth_smallest(values: Tensor, count: int) -> Tensor:
    """Return the `count`-th smallest of each row, (rows, 1). On a CPU by numpy, which is twice as fast as torch.

    >>> kth_smallest(torch.tensor([[3.0, 1.0, 2.0]]), 2).tolist()
    [[2.0]]
    """
    if not on_host(values):
        return values.sort(dim=1).values[:, count - 1 : count]
    parted = np.partition(values.detach().float().numpy(), count - 1, axis=1)
    return torch.from_numpy(parted[:, count - 1 : count])


def sort_rows(values: Tensor) -> Tensor:
    """Sort each row. On a CPU by numpy, some thirty times as fast as torch, which sorts their places too.

    >>> sort_rows(torch.tensor([[3.0, 1.0, 2.0]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    if not on_host(values):
        return values.sort(dim=1).values
    return torch.from_numpy(np.sort(values.detach().float().numpy(), axis=1))


def by_quantile(size: Tensor, sparsity: float) -> Tensor:
    """Mask all but the given share of each row, the smallest ones, exactly so many also where sizes are equal.

    >>> by_quantile(torch.tensor([[3.0, 1.0, 1.0, 1.0, 2.0]]), 0.4).tolist()
    [[True, False, False, True, True]]
    """
    return ~smallest(size, floor_count(sparsity, size.shape[1]))


def above_mean(size: Tensor, factor: float = 0.7) -> Tensor:
    """Mask sizes above 0.7·E|w|, as in ternary weight networks (Li et al. 2016).

    >>> above_mean(torch.tensor([[1.0, -0.5, 0.1, -0.2]]).abs()).tolist()   # 0.7·0.45 = 0.315
    [[True, True, False, False]]
    """
    return size > factor * size.mean(1, keepdim=True)


def above_max(size: Tensor, factor: float = 0.05) -> Tensor:
    """Mask sizes above 0.05·max|w|, as in trained ternary quantization (Zhu et al. 2017).

    >>> above_max(torch.tensor([[1.0, 0.06, 0.04]])).tolist()
    [[True, True, False]]
    """
    return size > factor * size.amax(1, keepdim=True)


def by_least_squares(size: Tensor) -> Tensor:
    """Mask the k largest whose ternary weights are closest to the weights: those that maximise (Σ|w|)²/k.

    With the best scale, the mean of the kept sizes, the squared error is Σw² - (Σ kept |w|)²/k; the best k of one row
    are its largest ones, so sorting finds the exact optimum.

    >>> by_least_squares(torch.tensor([[1.0, 0.1, 0.9, 0.2]])).tolist()   # 1, 1.805, 1.47, 1.21
    [[True, False, True, False]]
    """
    falling = sort_rows(size).flip(1)
    total = falling.double().cumsum(1)
    count = total.new_ones(total.shape).cumsum(1)
    last = (total.square() / count).argmax(1, keepdim=True)
    return (size >= falling.gather(1, last)) & (size > 0)


RULES: dict[str, Rule] = {"twn": above_mean, "max": above_max, "ls": by_least_squares}
