"""Collect the nodes and constants of an ONNX graph."""

from dataclasses import dataclass, field
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

TYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.bool: TensorProto.BOOL,
}

Infos = list[onnx.ValueInfoProto]


@dataclass
class Graph:
    """A graph under construction for one version of the operator set."""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    shared: dict[tuple[Any, ...], str] = field(default_factory=dict)  # small constants by content

    def node(self, operator: str, *inputs: str, result: str | None = None, **settings: Any) -> str:
        """Add a node with one output, and return the output's name."""
        result = result or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [result], **settings))
        return result

    def tensor(self, name: str, value: Tensor) -> str:
        """Add a constant under a name of its own."""
        value = value.detach().cpu().contiguous()
        data = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        return self.bytes(name, TYPES[value.dtype], tuple(value.shape), data)

    def bytes(self, name: str, kind: int, shape: tuple[int, ...], data: bytes) -> str:
        """Add a constant from its bytes, which hold 2- and 4-bit numbers from the low end on."""
        self.constants[name] = TensorProto(name=name, data_type=kind, dims=shape, raw_data=data)
        return name

    def small(self, value: Any, dtype: torch.dtype = torch.float32) -> str:
        """Add a number or a short list, once for all places that use it."""
        tensor = torch.as_tensor(value, dtype=dtype).cpu()
        key = (dtype, tuple(tensor.shape), tensor.numpy().tobytes())
        if key not in self.shared:
            self.shared[key] = self.tensor(f"c{len(self.shared)}", tensor)
        return self.shared[key]

    def integers(self, *value: int) -> str:
        """Add a list of int64, as shapes and axes are given."""
        return self.small(value, torch.int64)

    def cast(self, value: str, dtype: torch.dtype) -> str:
        """Convert to another type."""
        return self.node("Cast", value, to=TYPES[dtype])

    def reshape(self, value: str, *shape: int) -> str:
        """Give another shape; 0 keeps a dimension, -1 takes what is left."""
        return self.node("Reshape", value, self.integers(*shape))

    def model(self, inputs: Infos, outputs: Infos, about: str) -> onnx.ModelProto:
        """Build the model."""
        graph = helper.make_graph(self.nodes, "bitq", inputs, outputs, list(self.constants.values()))
        opset = helper.make_opsetid("", self.opset)
        version = helper.find_min_ir_version_for([opset])
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=version, producer_name="bitq", doc_string=about
        )
