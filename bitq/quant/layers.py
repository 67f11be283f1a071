"""Where quantization happens: convolutions, one linear layer and one table of word vectors for all methods."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from bitq.models.convolution import Conv2d, gradients
from bitq.quant.activation import Int8Activation
from bitq.quant.base import Quantizer
from bitq.quant.product import int8_product

Activation = Callable[[tuple[int, ...]], nn.Module]


class QuantConv2d(Conv2d):
    """A convolution whose weight passes through a quantizer, and whose input may pass through one too."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, x: Tensor) -> Tensor:
        return quantized_forward(self, x)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        # Dimensions of length one may have any stride (a 1×1 kernel is contiguous in two memory formats), and the
        # backend picks its algorithm by strides. They are made unique here, or a network and its file could differ.
        y: Tensor = self._conv_forward(x, weight.squeeze().view(weight.shape), bias)
        return y

    def gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        return gradients(self, grad, x, weight, wanted)

    def per_output(self, value: Tensor) -> Tensor:
        return value.reshape(-1, 1, 1)


class QuantConv1d(nn.Conv1d):
    """A convolution over sequences; its weight passes through a quantizer, and its input may pass through one too."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, x: Tensor) -> Tensor:
        return quantized_forward(self, x)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self._conv_forward(x, weight, bias)
        return y

    def per_output(self, value: Tensor) -> Tensor:
        return value.reshape(-1, 1)


class QuantLinear(nn.Linear):
    """A linear layer whose weight passes through a quantizer, and whose input may pass through one too."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, x: Tensor) -> Tensor:
        return quantized_forward(self, x)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight, bias)

    def gradients(
        self, grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        to_x = grad @ weight if wanted[0] else None
        return to_x, grad.flatten(0, -2).t() @ x.flatten(0, -2) if wanted[1] else None

    def per_output(self, value: Tensor) -> Tensor:
        return value.reshape(-1)


class QuantEmbedding(nn.Embedding):
    """A table of word vectors that passes through a quantizer. Its input is tokens, so nothing happens to that."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.quantizer(self.weight))


QuantLayer = QuantConv1d | QuantConv2d | QuantLinear | QuantEmbedding
QuantProduct = QuantConv1d | QuantConv2d | QuantLinear


def quantized_forward(layer: QuantProduct, x: Tensor) -> Tensor:
    """Apply a quantized layer.

    With quantized activations the product runs over codes and the scales follow: y = product(codes, levels)·step·scale.
    With integer weights the sums are then exact in fp32 below 2²⁴, and an integer kernel can equal them.
    """
    x = layer.quantizer.transform_input(x)
    if layer.norm:
        x = functional.layer_norm(x, x.shape[1:])
    if layer.activation is None:
        return layer.product(x, layer.quantizer(layer.weight), layer.bias)
    unscaled, scale = layer.quantizer.factors(layer.weight)
    if isinstance(layer.activation, Int8Activation) and not isinstance(layer, QuantConv1d) and _has_gradients(layer):
        return _biased(layer, int8_product(layer, layer.activation, x, unscaled, scale))
    codes, step = layer.activation(x)
    factor = step * layer.per_output(scale)
    if layer.activation.bias_is_scaled:
        return _rescale(layer.product(codes, unscaled, layer.bias), factor)
    return _biased(layer, _rescale(layer.product(codes, unscaled), factor))


def _has_gradients(layer: QuantConv2d | QuantLinear) -> bool:
    """Say whether the layer can differentiate its product by itself: not where it pads by other things than zeros."""
    return isinstance(layer, QuantLinear) or (layer.padding_mode == "zeros" and not isinstance(layer.padding, str))


def _rescale(y: Tensor, factor: Tensor) -> Tensor:
    # In y's own dtype: an fp32 factor would turn a bf16 network into an fp32 one from here on.
    return y * factor.to(y.dtype)


def _biased(layer: QuantProduct, y: Tensor) -> Tensor:
    return y if layer.bias is None else y + layer.per_output(layer.bias).to(y.dtype)
