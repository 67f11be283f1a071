"""Measure how much of a network is quantized: its weights, and the multiplications that one image costs."""

from collections.abc import Callable

from torch import Tensor, nn

from bitq.data.inputs import Inputs, cut
from bitq.deploy.evaluate import full_precision, inference
from bitq.deploy.export import lowbit_layers, packed_layers
from bitq.models.layers import weight_layers
from bitq.quant.activation import Int8Activation
from bitq.quant.cast import Cast
from bitq.quant.convert import quantized_layers
from bitq.quant.layers import QuantLayer
from bitq.quant.static import StaticUint8
from bitq.results.schema import CastLayer, Coverage, FloatWeights

PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
INTEGERS = (Int8Activation, StaticUint8)  # activation quantizers that make a layer's input integer


def coverage(model: nn.Module, example: Inputs) -> Coverage:
    """Count what ships as codes and what as floats, by name, with the multiplications of one image of `example`."""
    counts = multiplications(model, example)
    packed = packed_layers(model)
    total = sum(counts.values())
    return Coverage(
        multiplications=total,
        packed_multiplications=sum(counts.get(name, 0) for name in packed),
        integer_multiplications=sum(counts.get(name, 0) for name, layer in packed.items() if is_integer(layer)),
        left_float=tuple(
            FloatWeights(name=name, weights=weight.numel(), multiplications=counts.get(name, 0))
            for name, weight in float_weights(model).items()
        ),
    )


def cast_layers(model: nn.Module) -> tuple[CastLayer, ...]:
    """List the layers in 16-bit floats, with the counts of their inputs (see `bitq.quant.cast.counting`)."""
    return tuple(_cast_layer(name, layer) for name, layer in lowbit_layers(model).items() if is_cast(layer))


def _cast_layer(name: str, layer: QuantLayer) -> CastLayer:
    assert isinstance(layer.quantizer, Cast)
    weights, inputs = layer.quantizer.rounding(layer.weight), layer.quantizer.inputs
    return CastLayer(
        name=name,
        format=layer.quantizer.format,  # type: ignore[arg-type]
        weights=weights.numbers,
        weights_overflowed=weights.overflowed,
        weights_underflowed=weights.underflowed,
        inputs=inputs.numbers,
        inputs_overflowed=inputs.overflowed,
        inputs_underflowed=inputs.underflowed,
        inputs_subnormal=inputs.subnormal,
    )


def is_cast(layer: QuantLayer) -> bool:
    """Return whether the layer computes in 16-bit floats."""
    return isinstance(layer.quantizer, Cast)


def is_integer(layer: QuantLayer) -> bool:
    """Return whether the layer multiplies integers with integers."""
    if not isinstance(layer.activation, INTEGERS):
        return False
    codes = layer.quantizer.codes(layer.weight)
    return codes.residual is None and bool((codes.values == codes.values.round()).all())


def float_weights(model: nn.Module) -> dict[str, Tensor]:
    """Collect every matrix that does not ship as codes, whatever kind of layer it belongs to.

    Vectors, such as (C, 1, 1) of a scale for each channel, are no matrices.
    """
    packed, layers = packed_layers(model), weight_layers(model)
    added = tuple(f"{name}.{part}." for name in quantized_layers(model) for part in ("quantizer", "activation"))
    matrices = {
        name.removesuffix(".weight"): value
        for name, value in model.named_parameters()
        if not name.startswith(added) and (name.removesuffix(".weight") in layers or value.squeeze().dim() >= 2)
    }
    return {name: value for name, value in matrices.items() if name not in packed}


def multiplications(model: nn.Module, example: Inputs) -> dict[str, int]:
    """Count the multiplications of one image by layer: each weight of a product as often as it is used."""
    counts: dict[str, int] = {}
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, PRODUCTS):
            handles.append(layer.register_forward_hook(_counter(counts, name)))
    try:
        with inference(model), full_precision():
            model(cut(example, 0, 1))
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _counter(counts: dict[str, int], name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def note(layer: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        counts[name] = counts.get(name, 0) + y.numel() // len(weight) * weight.numel()

    return note
