"""Layers of fast inference: codes in; real numbers out, or codes of the layers that follow."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bitq.infer.encode import Coded
from bitq.infer.kernels import Kernel, MakeKernel
from bitq.infer.products import padding_of
from bitq.infer.reference import LARGEST, Epilogue, Product
from bitq.quant.activation import Int8Activation
from bitq.quant.layers import QuantConv2d, QuantLayer, QuantLinear
from bitq.quant.static import StaticUint8

FastLayer = QuantConv2d | QuantLinear
Norm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class Affine:
    """y = gain·x + shift for each output channel, in fp64 until a kernel takes it."""

    gain: Tensor
    shift: Tensor


def product_of(layer: FastLayer, signed: bool) -> Product:
    """Describe the integer product of a layer; `signed` says that its dynamic codes may be negative."""
    codes = layer.quantizer.codes(layer.weight)
    weight = codes.values[codes.index.int()].to(torch.int8)
    zero, highest = range_of(layer, signed)
    if isinstance(layer, QuantLinear):
        return Product(weight, zero, highest)
    geometry = (layer.stride, tuple(padding_of(layer)[0]), layer.dilation, layer.groups)
    return Product(weight, zero, highest, *geometry)  # type: ignore[arg-type]


def has_channels_second(layer: FastLayer, x: Tensor) -> bool:
    """Tell whether the layer's outputs for `x` lie in dimension 1, as normalisation takes them."""
    return x.dim() == (2 if isinstance(layer, QuantLinear) else 4)


def range_of(layer: FastLayer, signed: bool) -> tuple[int, int]:
    """Return the code that stands for zero, and the highest code."""
    if isinstance(layer.activation, StaticUint8):
        return int(layer.activation.zero), LARGEST
    return (128, LARGEST) if signed else (0, 127)


def affine_of(layer: FastLayer, norm: Norm | None) -> Affine:
    """Combine scales of weights, bias and normalisation: what turns sums times the input's step into the output."""
    scale = layer.quantizer.codes(layer.weight).scale.double().reshape(-1).expand(len(layer.weight))
    bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.double()
    if norm is None:
        return Affine(scale, bias)
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.double()
    beta = 0.0 if norm.bias is None else norm.bias.double()
    return Affine(scale * factor, (bias - norm.running_mean.double()) * factor + beta)


def has_integers(layer: QuantLayer) -> bool:
    """Return whether the layer multiplies 8-bit codes with integers of 8 bits and is of a kind that has a kernel."""
    if not isinstance(layer, FastLayer) or layer.norm or not isinstance(layer.activation, Int8Activation | StaticUint8):
        return False
    if isinstance(layer, QuantConv2d) and not _pads_evenly(layer):
        return False
    codes = layer.quantizer.codes(layer.weight)
    values = codes.values
    return codes.residual is None and bool(((values == values.round()) & (values >= -128) & (values <= 127)).all())


def _pads_evenly(layer: QuantConv2d) -> bool:
    """Return whether zeros are padded, as many after as before: padding="same" may need one more after."""
    if layer.padding_mode != "zeros":
        return False
    before, after = padding_of(layer)
    return before == after


class StaticProduct(nn.Module):
    """A product whose input has one range: all that follows the sums is one multiplier and one shift a channel."""

    def __init__(self, kernel: Kernel, epilogue: Epilogue) -> None:
        super().__init__()
        self.kernel, self.epilogue = kernel, epilogue
        self.without_relu = replace(epilogue, relu=False)

    def forward(self, codes: Tensor, other: Tensor | float | None = None) -> Tensor:
        if other is None:
            return self.kernel(codes, self.epilogue)
        y = _added(self.kernel(codes, self.without_relu), other)
        return y.relu_() if self.epilogue.relu else y


def _added(y: Tensor, other: Tensor | float) -> Tensor:
    """Add a tensor or a number to a fresh value, in place where the sum has its shape."""
    return y.add_(other) if isinstance(other, Tensor) and y.shape == other.shape else y + other


class DynamicProduct(nn.Module):
    """A product whose samples have a range each: one sample is scaled by the kernel, several in a pass of their own."""

    def __init__(self, kernel: Kernel, product: Product, affine: Affine, relu: bool) -> None:
        super().__init__()
        self.kernel, self.relu = kernel, relu
        self.gain, self.shift = affine.gain.float(), affine.shift.float()
        self.shape = (-1, 1, 1) if product.is_convolution else (-1,)
        correction = -product.zero * sums_of_weights(product).float()  # exact: these are whole numbers
        self.signed = bool(product.zero)
        self.raw = Epilogue(torch.ones_like(self.gain), correction if self.signed else None)

    def forward(self, coded: Coded, other: Tensor | float | None = None) -> Tensor:
        codes, step = coded
        if step.numel() == 1 and not self.signed:
            relu = self.relu and other is None
            y = self.kernel(codes, Epilogue(self.gain * step.view(1), self.shift, relu))
            if other is None:
                return y
        else:
            # In two operations: torch.addcmul rounds once or twice, by the memory format.
            y = self.kernel(codes, self.raw).mul_(step * self.gain.view(self.shape))
            y.add_(self.shift.view(self.shape))
        y = y if other is None else _added(y, other)
        return y.relu_() if self.relu else y


def static_product(
    make: MakeKernel, product: Product, affine: Affine, step: Tensor, relu: bool, into: tuple[Tensor, int] | None
) -> StaticProduct:
    """Make a layer of static codes; `into` is scale and zero point of the codes to return."""
    unit, zero = (step.new_ones(()), None) if into is None else into
    multiplier = affine.gain * step.double() / unit.double()
    shift = affine.shift / unit.double() - product.zero * sums_of_weights(product).double() * multiplier
    return StaticProduct(make(product), Epilogue(multiplier.float(), shift.float(), relu, zero))


def sums_of_weights(product: Product) -> Tensor:
    """Sum the weights of each output."""
    return product.weight.flatten(1).sum(1, dtype=torch.int32)
