"""Write tensors as arrays of C."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PER_LINE = 16
KINDS = {torch.float32: "float", torch.uint8: "uint8_t", torch.int64: "uint32_t"}


def array(name: str, value: Tensor) -> str:
    """Write a tensor as a constant array.

    >>> array("scale", torch.tensor([0.5, 1.0]))
    'static const float scale[2] = {\\n5.00000000e-01f, 1.00000000e+00f};\\n'
    """
    flat = value.detach().cpu().reshape(-1)
    numbers = [number(each) for each in flat.tolist()] if flat.is_floating_point() else map(str, flat.tolist())
    return f"static const {KINDS[flat.dtype]} {name}[{flat.numel()}] = {{\n{wrapped(numbers)}}};\n"


def number(value: float) -> str:
    """Write a float with the nine digits that tell it from all others.

    >>> number(0.1), number(-math.inf)
    ('1.00000000e-01f', '-INFINITY')
    """
    if math.isfinite(value):
        return f"{value:.8e}f"
    return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"


def wrapped(numbers: Iterable[str]) -> str:
    """Put numbers on lines."""
    listed = list(numbers)
    lines = (", ".join(listed[at : at + PER_LINE]) for at in range(0, len(listed), PER_LINE))
    return ",\n".join(lines)


def braces(*numbers: int) -> str:
    """Write a short list of whole numbers.

    >>> braces(1, 2)
    '{1, 2}'
    """
    return "{" + ", ".join(map(str, numbers)) + "}"


def four(shape: Sequence[int]) -> list[int]:
    """Put ones before a shape, up to four dimensions.

    >>> four((3, 2))
    [1, 1, 3, 2]
    """
    return [1] * (4 - len(shape)) + list(shape)
