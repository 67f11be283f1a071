"""Compare an ONNX graph with its network call by call: each is given the network's own values, so nothing can grow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from onnx import helper
from torch import Tensor

from bitq.interop.calls import Call, Traced, Value, write_calls
from bitq.interop.nearness import share
from bitq.interop.onnx_calls import OnnxWriter
from bitq.interop.onnx_graph import TYPES, Graph
from bitq.quant.layers import QuantLayer
from bitq.quant.static import StaticUint8

LAST_BITS = 1e-4  # some thousand times 2⁻²⁴: normalisation subtracts means that are larger than what is left
CODE = 1 / 127  # the step of codes next to the largest of them

Run = Callable[[list[str], Mapping[str, Any]], list[Any]]


@dataclass(frozen=True)
class Deviation:
    """How far the results of one call lie apart, as a share of the largest number, and how far they may."""

    where: str
    share: float
    limit: float


def deviations(network: Traced, graph: Graph, form: str, load: Callable[[bytes], Run]) -> list[Deviation]:
    """Run every call alone under a runtime, on the values that the network was traced with."""
    writer = _Apart(graph, form)
    write_calls(network, writer)
    run = load(writer.content())
    given = {name: value.example.contiguous().numpy() for name, value in writer.read.items()}
    found = zip(writer.results.values(), run(list(writer.results), given), strict=True)
    return [deviation(call, torch.from_numpy(y)) for call, y in found]


def deviation(call: Call, found: Tensor) -> Deviation:
    """Compare one result.

    A function of huge numbers may come out tiny, as silu of negative ones does: it is judged by the larger of both.
    """
    result = call.result.example
    numbers = [result] if call.layer else [result, *(each.example for each in call.args if isinstance(each, Value))]
    largest = max(float(each.double().abs().max()) for each in numbers)
    return Deviation(call.where, share(result, found, largest), limit(call))


class _Apart(OnnxWriter):
    """A writer whose calls read inputs of the graph, and not each other's results."""

    def __init__(self, graph: Graph, form: str) -> None:
        super().__init__(graph, form)
        self.read: dict[str, Value] = {}
        self.results: dict[str, Call] = {}  # by the name of the value that the call's nodes end in

    def _name(self, value: Any, like: Tensor | None = None) -> str:
        if isinstance(value, Value):
            self.read[value.name] = value
        return super()._name(value, like)

    def _done(self, call: Call, name: str) -> None:
        if name not in self.read:  # an index may cut nothing off
            self.results[name] = call

    def content(self) -> bytes:
        inputs = [_info(name, value) for name, value in self.read.items()]
        outputs = [_info(name, call.result) for name, call in self.results.items()]
        built: bytes = self._graph.model(inputs, outputs, "The calls of a network, one by one.").SerializeToString()
        return built


def _info(name: str, value: Value) -> Any:
    return helper.make_tensor_value_info(name, TYPES[value.example.dtype], None)


def limit(call: Call) -> float:
    """Return how far the results of one call may lie apart.

    Equal inputs get equal codes, unless they are normalised before, or divided by a static step: a number next to the
    middle of two codes may then get the other.
    """
    layer = call.layer
    is_apart = isinstance(layer, QuantLayer) and (layer.norm or isinstance(layer.activation, StaticUint8))
    return LAST_BITS + (CODE if is_apart else 0.0)
