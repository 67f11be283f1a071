"""Write a layer with weights as a struct of C: packed codes, levels, scales, geometry."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitq.deploy.audit import evaluation_weight
from bitq.deploy.export import packing_of
from bitq.deploy.pack import BITS, pack
from bitq.errors import UsageError
from bitq.infer.products import padding_of
from bitq.interop.c_arrays import array, braces, number
from bitq.quant.activation import Int8Activation
from bitq.quant.base import Codes, Quantizer
from bitq.quant.bitnet_legacy import NormScaledActivation
from bitq.quant.cast import Cast
from bitq.quant.layers import QuantLayer
from bitq.quant.static import StaticUint8

INPUTS = {Int8Activation: "INT8", StaticUint8: "UINT8", NormScaledActivation: "NORM_SCALED"}
INTEGERS = (Int8Activation, StaticUint8)


@dataclass(frozen=True)
class Geometry:
    """Where a layer's inputs and outputs lie; of a linear layer or an embedding only `rows`."""

    rows: int
    size: tuple[int, int] = (1, 1)
    size_out: tuple[int, int] = (1, 1)


def struct(symbol: str, name: str, layer: nn.Module, geometry: Geometry) -> str:
    """Write the arrays and the struct of one layer."""
    fields = {"name": json.dumps(name), **_shape(layer, geometry)}
    arrays = []
    for field, value in _weights(layer).items():
        if isinstance(value, Tensor):
            arrays.append(array(f"{symbol}_{field}", value))
            value = f"{symbol}_{field}"
        fields[field] = value
    fields |= _input(name, layer)
    listed = ",\n".join(f"    .{field} = {value}" for field, value in fields.items())
    return "".join(arrays) + f"static const struct layer {symbol} = {{\n{listed}}};\n\n"


def is_integer(layer: nn.Module) -> bool:
    """Say whether a layer sums products of integers."""
    if not isinstance(layer, QuantLayer) or not isinstance(layer.activation, INTEGERS):
        return False
    codes = _codes(layer)
    return codes is not None and codes.residual is None and _whole(codes)


def _codes(layer: nn.Module) -> Codes | None:
    if not isinstance(layer, QuantLayer) or layer.quantizer.levels is None:
        return None
    with torch.no_grad():
        return layer.quantizer.codes(layer.weight)


def _whole(codes: Codes) -> bool:
    values = codes.values
    return bool((values == values.round()).all()) and float(values.min()) >= -128 and float(values.max()) < 128


def _shape(layer: nn.Module, geometry: Geometry) -> dict[str, Any]:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    is_conv = isinstance(layer, nn.Conv1d | nn.Conv2d)
    groups: Any = layer.groups if is_conv else 1
    shape = {
        "is_linear": int(not is_conv),
        "rows": geometry.rows,
        "outputs": weight.shape[0],
        "inputs_each": weight.shape[1],
        "groups": groups,
    }
    if not is_conv:
        return shape | {"kernel": braces(1, 1)}
    before, _ = padding_of(layer)
    parts: dict[str, Any] = {"kernel": weight.shape[2:], "stride": layer.stride, "dilation": layer.dilation}
    images = {
        name: braces(*(_image(part, 1)))
        for name, part in parts.items()
    }  # fmt: skip
    images["before"] = braces(*_image(before, 0))
    return shape | images | {"size": braces(*geometry.size), "size_out": braces(*geometry.size_out)}


def _image(sizes: Any, missing: int) -> list[int]:
    """Make two numbers of those of a sequence, which is an image of height one."""
    return [missing] * (2 - len(sizes)) + list(sizes)


def _weights(layer: nn.Module) -> dict[str, Any]:
    bias = layer.bias if isinstance(getattr(layer, "bias", None), Tensor) else "NULL"
    codes = _codes(layer)
    if codes is None:
        return {"codes": "NULL", "values": _float_weight(layer), "scale": torch.ones(1), "scales": 1, "bias": bias}
    assert isinstance(layer, QuantLayer)
    packing = packing_of(layer)
    parts: dict[str, Any] = {
        "codes": pack(codes.index, len(codes.values), packing),
        "bits": BITS.get(packing, 0),
        "values": codes.values,
        "levels": len(codes.values),
        "whole": int(_whole(codes)),
        "scale": codes.scale,
        "scales": codes.scale.numel(),
        "bias": bias,
    }
    if codes.residual is not None:
        residual = codes.residual
        parts |= {
            "corrections": len(residual.position),
            "corrected": residual.position,
            "correction": (residual.value * residual.scale).float(),
        }
    return parts


def _float_weight(layer: nn.Module) -> Tensor:
    weight: Tensor = evaluation_weight(layer) if isinstance(layer, QuantLayer) else layer.weight  # type: ignore
    return weight.contiguous()


def _input(name: str, layer: nn.Module) -> dict[str, Any]:
    activation: Any = getattr(layer, "activation", None)
    if activation is None:
        return {"inputs": "AS_IT_IS"}
    if type(activation) not in INPUTS:
        raise UsageError(f"format c has no form for the {type(activation).__name__} of {name}; use format onnx.")
    fields = {"inputs": INPUTS[type(activation)]}
    if isinstance(activation, StaticUint8):
        fields |= {"step": number(float(activation.scale)), "zero": str(int(activation.zero))}
    return fields


def before_product(name: str, layer: nn.Module, count: int) -> Iterator[tuple[str, str]]:
    """Yield (function, arguments before the output) of what a layer does to its input before it is quantized."""
    if not isinstance(layer, QuantLayer):
        return
    quantizer = layer.quantizer
    if isinstance(quantizer, Cast):
        digits, lowest = (11, -24) if quantizer.dtype == torch.float16 else (8, -133)
        largest = number(torch.finfo(quantizer.dtype).max)
        yield f"round_to_format({count}, ", f", {digits}, {lowest}, {largest}, "
    elif type(quantizer).transform_input is not Quantizer.transform_input:
        raise UsageError(f"{name} transforms its input in a way that format c has no form for; load a packed file.")
    if layer.norm:
        yield f"layer_norm(1, {count}, ", ", NULL, NULL, 1e-5f, "
