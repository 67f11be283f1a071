"""The arithmetic of fast inference, in plain torch: int32 sums of codes, one multiplier a channel, one rounding.

Kernels are compared with these functions bit by bit; nothing else says what fast inference computes.

    sums = Σ (codes - zero)·weight                      int32
    y    = relu(float(sums')·multiplier + shift)        two roundings to fp32, sums' = Σ codes·weight
    code = clamp(round(y + zero'), 0, 255)              half to even

`shift` contains -zero·Σ weight·multiplier, so that kernels need not know of a zero point: codes of padding are `zero`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LARGEST = 255  # code


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product of uint8 codes and int8 weights; `zero` is the code that stands for 0."""

    weight: Tensor  # int8, (out, in / groups, rows, columns) or (out, in)
    zero: int = 0
    highest: int = LARGEST  # code that occurs
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def is_convolution(self) -> bool:
        """Tell a convolution from a matrix product."""
        return self.weight.dim() == 4

    @property
    def borders(self) -> list[int]:
        """Return the padding of each side, as torch's `pad` takes it."""
        rows, columns = self.padding
        return [columns, columns, rows, rows]

    def per_output(self, value: Tensor) -> Tensor:
        """Shape one value per output channel to multiply the output."""
        return value.view(-1, 1, 1) if self.is_convolution else value


def integer_sums(product: Product, codes: Tensor) -> Tensor:
    """Sum codes times weights in int32.

    >>> ones = Product(torch.tensor([[[[1, 2]]]], dtype=torch.int8))
    >>> integer_sums(ones, torch.tensor([[[[3, 255, 0]]]], dtype=torch.uint8)).tolist()
    [[[[513, 255]]]]
    """
    weight = product.weight.int()
    if not product.is_convolution:
        return codes.int() @ weight.t()
    images = functional.pad(codes, product.borders, value=product.zero).int()
    rows, columns = (_outputs(images.shape[2 + axis], product, axis) for axis in (0, 1))
    groups, inside = product.groups, weight.shape[1]
    kernels = weight.view(groups, len(weight) // groups, inside, *weight.shape[2:])
    total = images.new_zeros(len(images), groups, kernels.shape[1], rows * columns)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            seen = _tap(images, product, row, column, rows, columns)
            total += kernels[..., row, column] @ seen.reshape(len(images), groups, inside, -1)
    return total.view(len(images), -1, rows, columns).contiguous(memory_format=torch.channels_last)


def _outputs(size: int, product: Product, axis: int) -> int:
    reach = product.dilation[axis] * (product.weight.shape[2 + axis] - 1) + 1
    return (size - reach) // product.stride[axis] + 1


def _tap(images: Tensor, product: Product, row: int, column: int, rows: int, columns: int) -> Tensor:
    """Return the pixels that one tap of the kernel meets."""
    top, left = row * product.dilation[0], column * product.dilation[1]
    down, right = product.stride
    return images[:, :, top : top + down * (rows - 1) + 1 : down, left : left + right * (columns - 1) + 1 : right]


@dataclass(frozen=True)
class Epilogue:
    """What follows the sums; with `zero`, the zero point of the layers that come next, it ends in their codes."""

    multiplier: Tensor  # float32, one an output
    shift: Tensor | None = None
    relu: bool = False
    zero: int | None = None


def finished(product: Product, sums: Tensor, epilogue: Epilogue) -> Tensor:
    """Scale sums to real numbers, in fp32 rounded after the product and after the sum, or on to codes."""
    y = sums.float() * product.per_output(epilogue.multiplier)
    if epilogue.shift is not None:
        y = y + product.per_output(epilogue.shift)
    y = y.relu_() if epilogue.relu else y
    return y if epilogue.zero is None else encoded(y, epilogue.zero)


def encoded(y: Tensor, zero: int) -> Tensor:
    """Round to codes, halves to even.

    >>> encoded(torch.tensor([-9.0, 0.5, 1.5, 300.0]), zero=0).tolist(), encoded(torch.tensor([0.5]), zero=1).tolist()
    ([0, 0, 2, 255], [2])
    """
    return (y + zero).round_().clamp_(0, LARGEST).to(torch.uint8)


class Reference:
    """A kernel that follows the definition word for word."""

    name = "reference"

    def __init__(self, product: Product) -> None:
        self.product = product

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Sum, then scale."""
        return finished(self.product, integer_sums(self.product, codes), epilogue)
