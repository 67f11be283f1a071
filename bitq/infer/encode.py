"""From real numbers to codes, in passes that torch vectorizes: it converts fp32 to int8 fast, but not to uint8."""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.infer.reference import LARGEST
from bitq.quant.activation import peak_over

Coded = tuple[Tensor, Tensor]  # codes, and the step of each sample


class StaticEncode(nn.Module):
    """Codes of a range that was fixed before: clamp(round(x/scale) + zero, 0, 255), as `StaticUint8` has them."""

    def __init__(self, scale: Tensor, zero: int) -> None:
        super().__init__()
        self.inverse, self.zero = float(1 / scale), zero

    def forward(self, x: Tensor) -> Tensor:
        codes = x.mul(self.inverse).round_().clamp_(-self.zero, LARGEST - self.zero)
        return _to_uint8(codes.add_(self.zero - 128)).bitwise_xor_(128)


class DynamicEncode(nn.Module):
    """Codes of each sample's own range, as `Int8Activation` has them: 0 … 127, or with a sign 128 more."""

    def __init__(self, dims: tuple[int, ...], signed: bool) -> None:
        super().__init__()
        self.dims, self.signed = dims, signed

    def forward(self, x: Tensor) -> Coded:
        peak = peak_over(self.dims, x) if self.signed else x.amax(self.dims, keepdim=True).clamp_(min=1e-5)
        codes = _to_uint8(x.mul(127 / peak).round_())
        return codes.bitwise_xor_(128) if self.signed else codes, peak / 127


def _to_uint8(codes: Tensor) -> Tensor:
    """Convert integers from -128 to 127 to bytes in two's complement."""
    return codes.to(torch.int8).view(torch.uint8)


class CodePool(nn.Module):
    """The largest code under each window: rounding keeps the order, so pooling may come after it."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.stride, self.padding = _pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding)
        self.round_up = pool.ceil_mode

    def forward(self, codes: Tensor) -> Tensor:
        (rows, below), (columns, beyond) = (self._outputs(codes.shape[2 + axis], axis) for axis in (0, 1))
        top, left = self.padding
        if any((top, left, below, beyond)):  # no code is below 0
            codes = functional.pad(codes, (left, beyond, top, below))
        down, right = self.stride
        tops = [codes[:, :, row : row + down * (rows - 1) + 1 : down] for row in range(self.size[0])]
        codes = reduce(torch.maximum, tops)
        lefts = [codes[..., column : column + right * (columns - 1) + 1 : right] for column in range(self.size[1])]
        return reduce(torch.maximum, lefts)

    def _outputs(self, size: int, axis: int) -> tuple[int, int]:
        """Return the number of windows, and the codes to add behind the last so that it is whole."""
        length, stride, before = self.size[axis], self.stride[axis], self.padding[axis]
        rest = size + 2 * before - length
        count = (rest + (stride - 1 if self.round_up else 0)) // stride + 1
        if (count - 1) * stride >= size + before:  # no window may begin beyond the image
            count -= 1
        return count, max(0, (count - 1) * stride + length - size - before)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
