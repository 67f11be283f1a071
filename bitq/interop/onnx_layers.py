"""Write layers with weights into an ONNX graph, the arithmetic of their quantized inputs included."""

from typing import Any

import torch
from torch import nn

from bitq.errors import UsageError
from bitq.infer.products import padding_of
from bitq.interop.onnx_graph import Graph
from bitq.interop.onnx_weights import MIDDLE, suits_integer_kernel, write_for_integer_kernel, write_weight
from bitq.quant.activation import Int8Activation
from bitq.quant.base import Quantizer
from bitq.quant.bitnet_legacy import EPS, NormScaledActivation
from bitq.quant.cast import Cast
from bitq.quant.layers import QuantEmbedding, QuantLayer, QuantProduct
from bitq.quant.static import CODES, StaticUint8


def write_layer(graph: Graph, name: str, layer: nn.Module, x: str, shape: tuple[int, ...], form: str) -> str:
    """Write any layer with weights, quantized or not."""
    if not isinstance(layer, QuantLayer):
        return _plain(graph, name, layer, x, len(shape))
    if isinstance(layer, QuantEmbedding):
        return graph.node("Gather", write_weight(graph, name, layer, form, scaled=True).name, x)
    x = _transformed(graph, name, layer.quantizer, x)
    if layer.norm:
        x = layer_norm(graph, x, shape[1:])
    if layer.activation is None:
        weight = write_weight(graph, name, layer, form, scaled=True).name
        return product(graph, layer, x, weight, _bias(graph, name, layer), len(shape))
    if isinstance(layer.activation, StaticUint8) and form != "packed" and suits_integer_kernel(layer):
        write = _joined if form == "qdq" else _quantized
        return write(graph, name, layer, layer.activation, x, shape)
    return _rescaled(graph, name, layer, x, shape, form)


def _plain(graph: Graph, name: str, layer: nn.Module, x: str, rank: int) -> str:
    weight = graph.tensor(f"{name}.weight", layer.weight)  # type: ignore[arg-type]
    if isinstance(layer, nn.Embedding):
        return graph.node("Gather", weight, x)
    return product(graph, layer, x, weight, _bias(graph, name, layer), rank)


def _bias(graph: Graph, name: str, layer: nn.Module) -> str:
    """Add the bias; "" where there is none."""
    return "" if layer.bias is None else graph.tensor(f"{name}.bias", layer.bias)  # type: ignore[arg-type]


def _transformed(graph: Graph, name: str, quantizer: Quantizer, x: str) -> str:
    """Round the input to 16 bits where the method does."""
    if isinstance(quantizer, Cast):
        return graph.cast(graph.cast(x, quantizer.dtype), torch.float32)
    if type(quantizer).transform_input is not Quantizer.transform_input:
        raise UsageError(f"{name} transforms its input in a way that this export has no form for; load a packed file.")
    return x


def _rescaled(graph: Graph, name: str, layer: QuantProduct, x: str, shape: tuple[int, ...], form: str) -> str:
    """Multiply codes of the input by unscaled levels, then by both scales, in the order of `quantized_forward`."""
    assert layer.activation is not None
    codes, step = _codes(graph, name, layer.activation, x, shape)
    weight = write_weight(graph, name, layer, form, scaled=False)
    if layer.activation.bias_is_scaled:
        sums = product(graph, layer, codes, weight.name, _bias(graph, name, layer), len(shape))
        return graph.node("Mul", sums, _factor(graph, name, layer, step))
    return _scaled(graph, name, layer, product(graph, layer, codes, weight.name, "", len(shape)), step)


def _scaled(graph: Graph, name: str, layer: QuantProduct, sums: str, step: str) -> str:
    """Multiply sums of codes by both scales, and add the bias."""
    y = graph.node("Mul", sums, _factor(graph, name, layer, step))
    if layer.bias is None:
        return y
    return graph.node("Add", y, graph.reshape(_bias(graph, name, layer), *layer.per_output(layer.bias).shape))


def _factor(graph: Graph, name: str, layer: QuantProduct, step: str) -> str:
    with torch.no_grad():
        codes = layer.quantizer.codes(layer.weight)
        _, scale = layer.quantizer.factors(layer.weight)
    if codes.residual is not None or bool((scale == 1).all()):
        return step
    return graph.node("Mul", step, graph.tensor(f"{name}.scale", layer.per_output(scale)))


def _codes(graph: Graph, name: str, activation: nn.Module, x: str, shape: tuple[int, ...]) -> tuple[str, str]:
    """Write (codes, step) of one scale a sample, a token, or a layer."""
    if isinstance(activation, StaticUint8):
        zero = int(activation.zero)
        rounded = graph.node("Round", graph.node("Mul", x, graph.small(1 / activation.scale)))
        codes = graph.node("Clip", rounded, graph.small(float(-zero)), graph.small(float(CODES - zero)))
        return codes, graph.small(activation.scale)
    if isinstance(activation, Int8Activation):
        axes = graph.integers(*activation.dims)
        below = graph.node("Neg", graph.node("ReduceMin", x, axes))
        peak = graph.node("Max", graph.node("Max", graph.node("ReduceMax", x, axes), below), graph.small(1e-5))
        codes = graph.node("Round", graph.node("Mul", x, graph.node("Div", graph.small(127.0), peak)))
        return codes, graph.node("Div", peak, graph.small(127.0))
    if isinstance(activation, NormScaledActivation):
        x = layer_norm(graph, x, shape[1:])
        axes = graph.integers(*range(1, len(shape)))
        peak = graph.node("Max", graph.node("ReduceMax", graph.node("Abs", x), axes), graph.small(EPS))
        spread = graph.node("Mul", x, graph.node("Div", graph.small(128.0), peak))
        codes = graph.node("Clip", spread, graph.small(-128 + EPS), graph.small(128 - EPS))
        return codes, graph.node("Div", peak, graph.small(128.0))
    kind = type(activation).__name__
    raise UsageError(f"this export has no form for the {kind} of {name}; give another --calibration activations.")


def _quantized(
    graph: Graph, name: str, layer: QuantProduct, activation: StaticUint8, x: str, shape: tuple[int, ...]
) -> str:
    """Multiply integers by integers, exactly, then by both scales, in the order of `quantized_forward`."""
    zero = graph.small(int(activation.zero), torch.uint8)
    codes = graph.node("QuantizeLinear", x, graph.small(float(activation.scale)), zero)
    weight, middle = write_for_integer_kernel(graph, name, layer), graph.small(MIDDLE, torch.uint8)
    if isinstance(layer, nn.Linear):
        sums = graph.node("MatMulInteger", codes, graph.node("Transpose", weight, perm=[1, 0]), zero, middle)
    else:
        sums = graph.node("ConvInteger", codes, weight, zero, middle, **_geometry(layer))
    return _scaled(graph, name, layer, graph.cast(sums, torch.float32), graph.small(activation.scale))


def _joined(
    graph: Graph, name: str, layer: QuantProduct, activation: StaticUint8, x: str, shape: tuple[int, ...]
) -> str:
    """Quantize and dequantize both factors, which runtimes join to a fast integer product.

    They round the bias to a multiple of the product of both scales: enough to alter two of a hundred answers of a
    VGG-11.
    """
    range_ = graph.small(float(activation.scale)), graph.small(int(activation.zero), torch.uint8)
    x = graph.node("DequantizeLinear", graph.node("QuantizeLinear", x, *range_), *range_)
    scale = layer.quantizer.codes(layer.weight).scale.reshape(-1).expand(len(layer.weight))
    of = graph.tensor(f"{name}.scale", scale), graph.tensor(f"{name}.zeros", torch.full_like(scale, MIDDLE).byte())
    weight = graph.node("DequantizeLinear", write_for_integer_kernel(graph, name, layer), *of, axis=0)
    return product(graph, layer, x, weight, _bias(graph, name, layer), len(shape))


def layer_norm(
    graph: Graph, x: str, shape: tuple[int, ...], weight: str = "", bias: str = "", eps: float = 1e-5
) -> str:
    """Normalise over the last dimensions; without a weight that of ones is not stored but spread when loaded."""
    weight = weight or graph.node("Expand", graph.small(1.0), graph.integers(*shape))
    inputs = (x, weight, bias) if bias else (x, weight)
    return graph.node("LayerNormalization", *inputs, axis=-len(shape), epsilon=eps)


def product(graph: Graph, layer: nn.Module, x: str, weight: str, bias: str, rank: int) -> str:
    """Write the convolution or the matrix product of a layer."""
    more = (bias,) if bias else ()
    if not isinstance(layer, nn.Linear):
        return graph.node("Conv", x, weight, *more, **_geometry(layer))
    if rank == 2:
        return graph.node("Gemm", x, weight, *more, transB=1)
    y = graph.node("MatMul", x, graph.node("Transpose", weight, perm=[1, 0]))
    return graph.node("Add", y, bias) if bias else y


def _geometry(layer: nn.Module) -> dict[str, Any]:
    before, after = padding_of(layer)
    return {
        "strides": list(layer.stride),  # type: ignore[arg-type]
        "dilations": list(layer.dilation),  # type: ignore[arg-type]
        "group": layer.groups,
        "pads": [*before, *after],
    }
