"""Correct torch's convolution in two cases that its backend gets wrong (oneDNN under torch 2.15, x86)."""

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """A convolution that leaves out what it would multiply by padding alone, or pass over.

    Over an image of one pixel, a kernel is the one tap that meets it. All others have a gradient of zero, where the
    backend, in bf16 with stride 2, leaves whatever lay in memory: weights of 1e28 in places that no output depends on.

    A 1×1 kernel with a stride sees every second pixel only. Given all of them, the backend's gradient for the weight,
    in fp32, writes beyond its memory (seen with 64×64 pixels, channels last). Without a gradient nothing is changed,
    the last bit of the sums included.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.stride != (1, 1) and input.shape[2:] == (1, 1) and _keeps_the_size(self):
            return nn.functional.conv2d(input, _centre(self, weight), bias, groups=self.groups)
        learns = torch.is_grad_enabled() and weight.requires_grad
        if learns and self.stride != (1, 1) and self.kernel_size == (1, 1) and self.padding == (0, 0):
            rows, columns = self.stride
            return nn.functional.conv2d(input[:, :, ::rows, ::columns], weight, bias, groups=self.groups)
        y: Tensor = super()._conv_forward(input, weight, bias)
        return y


def _centre(layer: Conv2d, weight: Tensor) -> Tensor:
    row, column = (size // 2 for size in layer.kernel_size)
    return weight[:, :, row : row + 1, column : column + 1]


def gradients(
    layer: Conv2d, grad: Tensor, input: Tensor, weight: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of a convolution by its input and its weight, with the same two cases avoided."""
    if layer.stride != (1, 1) and input.shape[2:] == (1, 1) and _keeps_the_size(layer):
        to_input, to_tap = _gradients(grad, input, _centre(layer, weight), (1, 1), (0, 0), (1, 1), layer.groups, wanted)
        if to_tap is None:
            return to_input, None
        to_weight = torch.zeros_like(weight)
        _centre(layer, to_weight).copy_(to_tap)
        return to_input, to_weight
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation
    assert not isinstance(padding, str)
    if wanted[1] and layer.stride != (1, 1) and layer.kernel_size == (1, 1) and padding == (0, 0):
        seen = input[:, :, :: layer.stride[0], :: layer.stride[1]]
        to_input, _ = _gradients(grad, input, weight, stride, padding, dilation, layer.groups, (wanted[0], False))
        return to_input, _gradients(grad, seen, weight, (1, 1), padding, dilation, layer.groups, (False, True))[1]
    return _gradients(grad, input, weight, stride, padding, dilation, layer.groups, wanted)


def _gradients(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    to_input, to_weight, _ = torch.ops.aten.convolution_backward(
        grad, input, weight, None, stride, padding, dilation, False, (0, 0), groups, (*wanted, False)
    )
    return to_input, to_weight


def _keeps_the_size(layer: nn.Conv2d) -> bool:
    """Tell whether the kernel is centred on every pixel, the first one included."""
    centred = tuple(
        dilation * (size - 1) // 2 for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)
    )
    return layer.padding == centred and layer.padding_mode == "zeros" and all(size % 2 for size in layer.kernel_size)


def guard(model: nn.Module) -> nn.Module:
    """Replace the class of every convolution of a network, in place."""
    for layer in model.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = Conv2d
    return model
