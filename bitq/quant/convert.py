"""Turn a plain network into a quantized one, in place, keeping its initial weights."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from bitq.errors import UsageError
from bitq.models.layers import WeightLayer, matching_layers
from bitq.quant.base import Quantizer
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import Activation, QuantConv1d, QuantConv2d, QuantEmbedding, QuantLayer, QuantLinear
from bitq.quant.registry import check_settings, make_quantizer, method, reject_unused_settings

# A convolution has one activation scale per sample, a linear layer one per token.
IMAGE_DIMS, SEQUENCE_DIMS, TOKEN_DIMS = (1, 2, 3), (1, 2), (-1,)
QUANTIZED = {nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d, nn.Linear: QuantLinear, nn.Embedding: QuantEmbedding}


def convert(
    model: nn.Module,
    name: str,
    settings: Mapping[str, Any] | None = None,
    keep: Collection[str] = (),
    norm: bool = False,
    activation: Activation | None = None,
) -> nn.Module:
    """Quantize every convolution, linear layer and embedding of `model` but those named in `keep`.

    Settings below a glob, such as {"rho": 0.05, "fc*": {"rho": 0.1}}, are those of the layers that it matches.
    `activation` takes the place of the method's own treatment of a layer's input. `norm` puts a per-sample
    normalisation in front of all of them, kept or not, so that precision and normalisation are separate questions.
    """
    chosen, settings = method(name), settings or {}
    _refuse_idle_globs(model, settings)
    check_settings(name, {key: value for key, value in settings.items() if not isinstance(value, Mapping)})
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, WeightLayer)}
    of_layers = {path: settings_of(path, settings) for path in layers if path not in keep}
    reject_unused_settings(name, of_layers.values())
    for path, layer in layers.items():
        if path in of_layers and chosen.weight is not Fp32:
            quantizer = make_quantizer(name, layer.weight, of_layers[path])
            wrap(layer, quantizer, activation or chosen.activation, norm)
        elif norm:
            wrap(layer, Fp32(layer.weight), None, norm)
    if chosen.weight is not Fp32 and all(isinstance(one.quantizer, Fp32) for one in quantized_layers(model).values()):
        raise UsageError(
            f"method {name} was given, but keep leaves it no layer to quantize; keep fewer layers, or use method fp32."
        )
    return model


def settings_of(path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer's settings: those of all layers, then those below the globs that its name matches.

    >>> settings_of("fc2", {"rho": 0.05, "fc2": {"rho": 0.1}}), settings_of("fc1", {"rho": 0.05, "fc2": {"rho": 0.1}})
    ({'rho': 0.1}, {'rho': 0.05})
    """
    own = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    for pattern, more in settings.items():
        if isinstance(more, Mapping) and fnmatchcase(path, pattern):
            own |= more
    return own


def _refuse_idle_globs(model: nn.Module, settings: Mapping[str, Any]) -> None:
    matching_layers(model, [pattern for pattern, value in settings.items() if isinstance(value, Mapping)])


def wrap(layer: WeightLayer, quantizer: Quantizer, activation: Activation | None, norm: bool = False) -> None:
    """Make a plain layer a quantized one without copying its weight: the same object gets the subclass."""
    layer.weight.data.copy_(quantizer.latent(layer.weight.detach()))
    dims = _dims(layer)
    layer.__class__ = next(quantized for plain, quantized in QUANTIZED.items() if isinstance(layer, plain))
    layer.quantizer = quantizer
    has_activation = activation is not None and not isinstance(layer, nn.Embedding)  # tokens are no numbers
    layer.activation = activation(dims) if has_activation else None  # type: ignore
    layer.norm = norm  # type: ignore[assignment]


def _dims(layer: WeightLayer) -> tuple[int, ...]:
    if isinstance(layer, nn.Conv2d):
        return IMAGE_DIMS
    return SEQUENCE_DIMS if isinstance(layer, nn.Conv1d) else TOKEN_DIMS


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """List the wrapped layers by dotted name, in the model's order."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, QuantLayer)}
