"""Write the weights of a layer into an ONNX graph: codes in the narrowest type, and the nodes that decode them.

Three forms give the same floats, bit for bit:
- integers: levels that are whole numbers are stored as such in int2, int4 or int8, and a DequantizeLinear follows;
- table: any other levels are stored as indices in uint2, uint4 or uint8, looked up by Gather, multiplied by the scale;
- packed: the bytes of the packed file (five ternary codes a byte, or b bits each), taken apart by integer arithmetic
  that a runtime does once, when it loads the graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from bitq.deploy.audit import evaluation_weight
from bitq.deploy.export import packing_of
from bitq.deploy.pack import BITS, TRITS, pack
from bitq.deploy.residual import FAR, RESIDUAL, pack_residual
from bitq.interop.onnx_graph import Graph
from bitq.quant.base import Codes, Residual
from bitq.quant.cast import Cast
from bitq.quant.layers import QuantLayer

NO_SUBBYTE, NO_TWO_BITS = 21, 25  # versions of the operator set below which there is no 4-bit, no 2-bit type

FINE, MIDDLE = 128, 128  # levels; the zero point of unsigned weights

SIGNED = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}
UNSIGNED = {2: TensorProto.UINT2, 4: TensorProto.UINT4, 8: TensorProto.UINT8}


@dataclass(frozen=True)
class Written:
    """A weight in the graph: the name of its floats, and how it is stored."""

    name: str
    form: str
    bits: float


def bits_for(levels: int, opset: int) -> int:
    """Return the bits of the narrowest integer type of an operator set that holds so many levels.

    >>> [bits_for(3, opset) for opset in (25, 24, 20)], bits_for(17, 25)
    ([2, 4, 8], 8)
    """
    widths = (2, 4, 8) if opset >= NO_TWO_BITS else (4, 8) if opset >= NO_SUBBYTE else (8,)
    return next(bits for bits in widths if 2**bits >= levels)


def write_weight(graph: Graph, name: str, layer: QuantLayer, form: str, scaled: bool) -> Written:
    """Write a layer's weight as its product takes it: ŵ, or its levels where the scale follows the product."""
    if layer.quantizer.levels is None:
        return write_float(graph, name, layer)
    with torch.no_grad():
        codes = layer.quantizer.codes(layer.weight)
    scaled = scaled or codes.residual is not None  # as in Stored: the residual lies on top of scaled weights
    if form == "packed":
        written = _packed(graph, name, codes, packing_of(layer), scaled)
    elif is_whole(codes.values, bits_for(len(codes.values), graph.opset)):
        written = _integers(graph, name, codes, scaled)
    else:
        written = _table(graph, name, codes, scaled)
    if codes.residual is None:
        return written
    return Written(_with_residual(graph, name, codes.residual, written.name), written.form, written.bits)


def write_for_integer_kernel(graph: Graph, name: str, layer: QuantLayer) -> str:
    """Write whole numbers of 7 or 8 bits for an integer product with a quantized input; their zero point is MIDDLE.

    They are unsigned: ONNX Runtime's kernels for processors without VNNI add products of uint8 and int8 in pairs of 16
    bits, which 255 and 127 overflow.
    """
    codes = layer.quantizer.codes(layer.weight)
    numbers = codes.values[codes.index.int()].to(torch.int16) + MIDDLE
    return narrow(graph, f"{name}.codes", numbers, 8, UNSIGNED)


def suits_integer_kernel(layer: QuantLayer) -> bool:
    """Say whether levels are whole numbers of 7 or 8 bits; fewer have a narrower type than integer products take."""
    if (layer.quantizer.levels or 0) < FINE:
        return False
    codes = layer.quantizer.codes(layer.weight)
    return codes.residual is None and is_whole(codes.values, 8)


def write_float(graph: Graph, name: str, layer: QuantLayer) -> Written:
    """Write the weight of a float method, in 16 bits where it ships in these."""
    if isinstance(layer.quantizer, Cast):
        stored = graph.tensor(f"{name}.weight", layer.quantizer.shipped(layer.weight))
        return Written(graph.cast(stored, torch.float32), "float", 16)
    return Written(graph.tensor(f"{name}.weight", evaluation_weight(layer)), "float", 32)


def is_whole(values: Tensor, bits: int) -> bool:
    """Say whether all levels are whole numbers that a signed type of so many bits holds.

    >>> is_whole(torch.tensor([-1.0, 0.0, 1.0]), 2), is_whole(torch.tensor([-1.0, 2.0]), 2)
    (True, False)
    """
    half = 2 ** (bits - 1)
    return bool((values == values.round()).all()) and -half <= float(values.min()) and float(values.max()) < half


def _integers(graph: Graph, name: str, codes: Codes, scaled: bool) -> Written:
    bits = bits_for(len(codes.values), graph.opset)
    numbers = codes.values[codes.index.int()].to(torch.int8)
    stored = narrow(graph, f"{name}.codes", numbers, bits, SIGNED)
    per_channel = scaled and codes.scale.numel() > 1
    if not scaled:
        return Written(graph.node("DequantizeLinear", stored, graph.small(1.0)), "integers", bits)
    scale = graph.tensor(f"{name}.scale", codes.scale.reshape(-1) if per_channel else codes.scale.reshape(()))
    axis: dict[str, Any] = {"axis": 0} if per_channel else {}
    return Written(graph.node("DequantizeLinear", stored, scale, **axis), "integers", bits)


def _table(graph: Graph, name: str, codes: Codes, scaled: bool) -> Written:
    bits = bits_for(len(codes.values), graph.opset)
    stored = narrow(graph, f"{name}.codes", codes.index, bits, UNSIGNED)
    return Written(_looked_up(graph, name, codes, graph.cast(stored, torch.int32), scaled), "table", bits)


def _packed(graph: Graph, name: str, codes: Codes, packing: str, scaled: bool) -> Written:
    data = pack(codes.index, len(codes.values), packing)
    index = unpacked(graph, f"{name}.codes", data, codes.index, packing)
    return Written(_looked_up(graph, name, codes, index, scaled), "packed", 8 * len(data) / codes.index.numel())


def _looked_up(graph: Graph, name: str, codes: Codes, index: str, scaled: bool) -> str:
    weight = graph.node("Gather", graph.tensor(f"{name}.values", codes.values), index)
    if not scaled or bool((codes.scale == 1).all()):
        return weight
    return graph.node("Mul", weight, graph.tensor(f"{name}.scale", codes.scale))


def narrow(graph: Graph, name: str, numbers: Tensor, bits: int, types: Mapping[int, int]) -> str:
    """Store whole numbers in 2, 4 or 8 bits, in two's complement where the type is signed."""
    unsigned = numbers.to(torch.int16).bitwise_and(2**bits - 1).to(torch.uint8)
    data = pack(unsigned, 2**bits, f"b{bits}").numpy().tobytes()
    return graph.bytes(name, types[bits], tuple(numbers.shape), data)


def unpacked(graph: Graph, name: str, data: Tensor, index: Tensor, packing: str) -> str:
    """Take packed bytes apart: digit k of a byte is byte / base^k mod base.

    A digit is a code where bytes hold whole codes, and else one of the bits of which codes are put together.
    """
    bits = BITS.get(packing, 0)
    whole = bits == 0 or 8 % bits == 0
    base, digits = (3, TRITS) if bits == 0 else (2**bits, 8 // bits) if whole else (2, 8)
    stored = graph.cast(graph.tensor(name, data.reshape(-1, 1)), torch.int32)
    shifted = graph.node("Div", stored, graph.small([base**place for place in range(digits)], torch.int32))
    flat = graph.reshape(graph.node("Mod", shifted, graph.small(base, torch.int32)), -1)
    needed = index.numel() * (1 if whole else bits)
    if needed < len(data) * digits:
        flat = graph.node("Slice", flat, graph.integers(0), graph.integers(needed))
    if not whole:
        worth = graph.small([2**place for place in range(bits)], torch.int32)
        numbers = graph.node("Mul", graph.reshape(flat, -1, bits), worth)
        flat = graph.node("ReduceSum", numbers, graph.integers(1), keepdims=0)
    return graph.reshape(flat, *index.shape)


def _with_residual(graph: Graph, name: str, residual: Residual, weight: str) -> str:
    """Add value·scale at the positions, which are stored as the gaps of the packed file."""
    parts = {part: graph.tensor(f"{name}.{part}", value) for part, value in pack_residual(residual).items()}
    gaps, values, scale = (parts[part] for part in RESIDUAL)
    wide = graph.cast(gaps, torch.int64)
    lands = graph.node("Less", wide, graph.small(FAR, torch.int64))
    steps = graph.node("Add", wide, graph.cast(lands, torch.int64))
    ends = graph.node("Sub", graph.node("CumSum", steps, graph.small(0, torch.int64)), graph.small(1, torch.int64))
    positions = graph.node("Compress", ends, lands)
    if residual.value.dtype == torch.int8:
        values = graph.cast(values, torch.float32)
    added = graph.node("Mul", values, scale)
    flat = graph.node("ScatterElements", graph.reshape(weight, -1), positions, added, reduction="add")
    return graph.node("Reshape", flat, graph.node("Shape", weight))
