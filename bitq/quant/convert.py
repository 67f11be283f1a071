"""Turn a plain network into a quantized one, in place, keeping its initial weights."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from bitq.quant.base import Quantizer
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import Activation, QuantConv2d, QuantLayer, QuantLinear
from bitq.quant.registry import make_quantizer, method

MakeQuantizer = Callable[[Tensor], Quantizer]

# A convolution has one activation scale per sample, a linear layer one per token.
CONV_DIMS, LINEAR_DIMS = (1, 2, 3), (-1,)


def convert(
    model: nn.Module,
    name: str,
    settings: Mapping[str, Any] | None = None,
    keep: Collection[str] = (),
    norm: bool = False,
    activation: Activation | None = None,
) -> nn.Module:
    """Quantize every convolution and linear layer of `model` but those named in `keep`.

    `activation` takes the place of the method's own treatment of a layer's input. `norm` puts a per-sample
    normalisation in front of all of them, kept or not, so that precision and normalisation are separate questions.
    """
    chosen = method(name)
    for path, layer in list(model.named_modules()):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if path not in keep and chosen.weight is not Fp32:
            quantizer = make_quantizer(name, layer.weight, settings or {})
            wrap(layer, quantizer, activation or chosen.activation, norm)
        elif norm:
            wrap(layer, Fp32(layer.weight), None, norm)
    return model


def wrap(layer: nn.Conv2d | nn.Linear, quantizer: Quantizer, activation: Activation | None, norm: bool = False) -> None:
    """Make a plain layer a quantized one without copying its weight: the same object gets the subclass."""
    layer.weight.data.copy_(quantizer.latent(layer.weight.detach()))
    dims = CONV_DIMS if isinstance(layer, nn.Conv2d) else LINEAR_DIMS
    layer.__class__ = QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear
    layer.quantizer = quantizer
    layer.activation = activation(dims) if activation else None  # type: ignore[assignment]
    layer.norm = norm  # type: ignore[assignment]


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """The wrapped layers by dotted name, in the model's order."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, QuantConv2d | QuantLinear)}
