"""Read the geometry of convolutions and poolings, as formats and kernels without torch's shorthands need it."""

from typing import Any

from torch import nn

from bitq.errors import UsageError


def padding_of(layer: nn.Module) -> tuple[list[int], list[int]]:
    """Return a convolution's padding with zeros before and after each dimension.

    >>> padding_of(nn.Conv2d(1, 1, (3, 2), padding="same"))
    ([1, 0], [1, 1])
    """
    if layer.padding_mode != "zeros":
        raise UsageError(f"padding_mode={layer.padding_mode!r} has no form here; allowed: zeros.")
    padding: Any = layer.padding
    if padding == "valid":
        padding = [0] * len(layer.kernel_size)  # type: ignore[arg-type]
    if padding != "same":
        return list(padding), list(padding)
    sizes = zip(layer.dilation, layer.kernel_size, strict=True)  # type: ignore[arg-type]
    total = [dilation * (size - 1) for dilation, size in sizes]
    return [each // 2 for each in total], [each - each // 2 for each in total]


def pair(value: Any) -> tuple[int, int]:
    """Spread one number over both dimensions of an image.

    >>> pair(2), pair((2, 3))
    ((2, 2), (2, 3))
    """
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def adaptive_edges(size: int, parts: int) -> list[tuple[int, int]]:
    """Return the first and the last but one of the pixels that each part of an adaptive pooling averages.

    >>> adaptive_edges(5, 2)
    [(0, 3), (2, 5)]
    """
    return [(size * part // parts, -(-size * (part + 1) // parts)) for part in range(parts)]
