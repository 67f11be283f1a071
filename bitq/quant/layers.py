"""Where quantization happens: one convolution, one linear layer and one table of word vectors for all methods."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from bitq.models.convolution import Conv2d
from bitq.quant.base import Quantizer

Activation = Callable[[tuple[int, ...]], nn.Module]


class QuantConv2d(Conv2d):
    """A convolution whose weight passes through a quantizer, and whose input may pass through one too."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, x: Tensor) -> Tensor:
        return quantized_forward(self, x, self._convolve)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Dimensions of length one may have any stride (a 1×1 kernel is contiguous in two memory formats), and the
        # backend picks its algorithm by strides. They are made unique here, or a network and its file could differ.
        y: Tensor = self._conv_forward(x, weight.squeeze().view(weight.shape), bias)
        return y


class QuantLinear(nn.Linear):
    """A linear layer whose weight passes through a quantizer, and whose input may pass through one too."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, x: Tensor) -> Tensor:
        return quantized_forward(self, x, functional.linear)


class QuantEmbedding(nn.Embedding):
    """A table of word vectors that passes through a quantizer. Its input is tokens, so nothing happens to that."""

    quantizer: Quantizer
    activation: nn.Module | None
    norm: bool

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.quantizer(self.weight))


QuantLayer = QuantConv2d | QuantLinear | QuantEmbedding


def quantized_forward(layer: QuantConv2d | QuantLinear, x: Tensor, product: Callable[..., Tensor]) -> Tensor:
    """The arithmetic of every quantized layer; `product` is its convolution or matrix product.

    With quantized activations the product runs over codes and the scales follow, y = product(codes, grid)·step·scale,
    so that with integer grids the sums are exact in fp32 below 2²⁴ and an integer kernel can equal them.
    """
    x = layer.quantizer.transform_input(x)
    if layer.norm:
        x = functional.layer_norm(x, x.shape[1:])
    if layer.activation is None:
        return product(x, layer.quantizer(layer.weight), layer.bias)
    codes, step = layer.activation(x)
    grid, scale = layer.quantizer.factors(layer.weight)
    if layer.activation.bias_is_scaled:
        return _rescale(product(codes, grid, layer.bias), step * _per_output(layer, scale))
    y = _rescale(product(codes, grid, None), step * _per_output(layer, scale))
    return y if layer.bias is None else y + _per_output(layer, layer.bias).to(y.dtype)


def _rescale(y: Tensor, factor: Tensor) -> Tensor:
    # In y's own dtype: an fp32 factor would turn a bf16 network into an fp32 one from here on.
    return y * factor.to(y.dtype)


def _per_output(layer: QuantConv2d | QuantLinear, value: Tensor) -> Tensor:
    """A scalar or one value per output channel, shaped to multiply the layer's output."""
    return value.reshape(-1, 1, 1) if isinstance(layer, QuantConv2d) else value.reshape(-1)
