"""Write torch's functions into an ONNX graph."""

import math
from typing import Any

import torch
from torch import Tensor

from bitq.infer.products import adaptive_edges, pair
from bitq.interop.calls import EXAMPLES, Call, Reshapes, Value, cannot_say
from bitq.interop.onnx_graph import Graph
from bitq.interop.onnx_layers import layer_norm, write_layer


class OnnxWriter(Reshapes):
    """A method for each function, under its name and with its arguments; `form` is how weights are stored."""

    def __init__(self, graph: Graph, form: str) -> None:
        """Start from an empty graph."""
        self._graph, self._form = graph, form
        self._names: dict[str, str] = {}  # of values that lie under another name than their own

    def _done(self, call: Call, name: str) -> None:
        self._names[call.result.name] = name

    def _name(self, value: Any, like: Tensor | None = None) -> str:
        """Return the name of a value; numbers become constants of the type of `like`."""
        if isinstance(value, Value):
            return self._names.get(value.name, value.name)
        dtype = torch.float32 if like is None else like.dtype
        if isinstance(value, Tensor) and value.dim():
            return self._graph.tensor(f"t{len(self._graph.constants)}", value)
        return self._graph.small(value, dtype)

    def _simple(self, call: Call, operator: str, *inputs: Any, **settings: Any) -> None:
        like = next((each.example for each in inputs if isinstance(each, Value)), None)
        names = [self._name(each, like) for each in inputs]
        self._done(call, self._graph.node(operator, *names, **settings))

    # --- layers ---------------------------------------------------------------------------------------------------

    def layer(self, call: Call, input: Value) -> None:
        """Write a layer with weights."""
        assert call.layer is not None
        name = write_layer(self._graph, call.where, call.layer, self._name(input), input.shape, self._form)
        self._done(call, name)

    def batch_norm(self, call: Call, input: Value) -> None:
        """Normalise by the statistics of the training."""
        norm: Any = call.layer
        if norm.running_var is None:
            raise cannot_say(f"{call.where}, a normalisation by the statistics of the batch")
        ones, zeros = torch.ones_like(norm.running_mean), torch.zeros_like(norm.running_mean)
        parts = {
            "weight": ones if norm.weight is None else norm.weight,
            "bias": zeros if norm.bias is None else norm.bias,
            "mean": norm.running_mean,
            "var": norm.running_var,
        }
        names = [self._graph.tensor(f"{call.where}.{part}", value) for part, value in parts.items()]
        self._done(call, self._graph.node("BatchNormalization", self._name(input), *names, epsilon=norm.eps))

    def layer_norm(
        self, call: Call, input: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> None:
        """Normalise each sample over its last dimensions."""
        parts = {"weight": weight, "bias": bias}
        given = {part: value for part, value in parts.items() if value is not None}
        names = {part: self._graph.tensor(f"{call.where}.{part}", value) for part, value in given.items()}
        shape = tuple(normalized_shape)
        self._done(call, layer_norm(self._graph, self._name(input), shape, eps=eps, **names))

    # --- functions of one number ----------------------------------------------------------------------------------

    def relu(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write max(x, 0)."""
        self._simple(call, "Relu", input)

    def relu6(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write min(max(x, 0), 6)."""
        self._simple(call, "Clip", input, 0.0, 6.0)

    def sigmoid(self, call: Call, input: Value) -> None:
        """Write 1 / (1 + e^-x)."""
        self._simple(call, "Sigmoid", input)

    def tanh(self, call: Call, input: Value) -> None:
        """Write tanh x."""
        self._simple(call, "Tanh", input)

    def silu(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write x·sigmoid(x)."""
        x = self._name(input)
        self._done(call, self._graph.node("Mul", x, self._graph.node("Sigmoid", x)))

    def hardsigmoid(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write clamp(x/6 + 1/2, 0, 1)."""
        self._simple(call, "HardSigmoid", input, alpha=1 / 6, beta=0.5)

    def hardswish(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write x·hardsigmoid(x)."""
        self._simple(call, "HardSwish", input)

    def gelu(self, call: Call, input: Value, approximate: str = "none") -> None:
        """Write x·Φ(x), exactly; an operator of its own came with version 20."""
        if approximate != "none":
            raise cannot_say(f"gelu with approximate={approximate!r} ({call.where})")
        x, graph = self._name(input), self._graph
        erf = graph.node("Erf", graph.node("Mul", x, graph.small(math.sqrt(0.5))))
        half = graph.node("Mul", x, graph.small(0.5))
        self._done(call, graph.node("Mul", half, graph.node("Add", erf, graph.small(1.0))))

    def neg(self, call: Call, input: Value) -> None:
        """Write -x."""
        self._simple(call, "Neg", input)

    def zeros_like(self, call: Call, input: Value) -> None:
        """Write zeros."""
        self._simple(call, "Mul", input, 0)

    # --- functions of two -----------------------------------------------------------------------------------------

    def add(self, call: Call, input: Any, other: Any) -> None:
        """Write a sum."""
        self._simple(call, "Add", input, other)

    def sub(self, call: Call, input: Any, other: Any) -> None:
        """Write a difference."""
        self._simple(call, "Sub", input, other)

    def mul(self, call: Call, input: Any, other: Any) -> None:
        """Write a product."""
        self._simple(call, "Mul", input, other)

    def div(self, call: Call, input: Any, other: Any) -> None:
        """Write a quotient."""
        self._simple(call, "Div", input, other)

    def eq(self, call: Call, input: Value, other: Any) -> None:
        """Write a comparison."""
        self._simple(call, "Equal", input, other)

    def masked_fill(self, call: Call, input: Value, mask: Value, value: float) -> None:
        """Write a value where the mask is true."""
        number = self._name(value, input.example)
        self._done(call, self._graph.node("Where", self._name(mask), number, self._name(input)))

    # --- over dimensions ------------------------------------------------------------------------------------------

    def softmax(self, call: Call, input: Value, dim: int, _stacklevel: int = 3, dtype: None = None) -> None:
        """Write e^x over its sum."""
        self._simple(call, "Softmax", input, axis=dim)

    def sum(self, call: Call, input: Value, dim: Any, keepdim: bool = False) -> None:
        """Sum over dimensions."""
        axes = self._graph.integers(*([dim] if isinstance(dim, int) else dim))
        self._done(call, self._graph.node("ReduceSum", self._name(input), axes, keepdims=int(keepdim)))

    def mean(self, call: Call, input: Value, dim: Any, keepdim: bool = False) -> None:
        """Average over dimensions."""
        axes = self._graph.integers(*([dim] if isinstance(dim, int) else dim))
        self._done(call, self._graph.node("ReduceMean", self._name(input), axes, keepdims=int(keepdim)))

    def max_pool2d(
        self,
        call: Call,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        """Write the largest of each window."""
        if return_indices:
            raise cannot_say(f"the indices of max_pool2d ({call.where})")
        self._pool(call, "MaxPool", input, kernel_size, stride, padding, ceil_mode, dilations=list(pair(dilation)))

    def avg_pool2d(
        self,
        call: Call,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: None = None,
    ) -> None:
        """Write the mean of each window."""
        if divisor_override is not None:
            raise cannot_say(f"avg_pool2d with divisor_override={divisor_override} ({call.where})")
        self._pool(
            call,
            "AveragePool",
            input,
            kernel_size,
            stride,
            padding,
            ceil_mode,
            count_include_pad=int(count_include_pad),
        )

    def _pool(
        self,
        call: Call,
        operator: str,
        input: Value,
        kernel: Any,
        stride: Any,
        padding: Any,
        ceil: bool,
        **more: Any,
    ) -> None:
        steps, pads = pair(kernel if stride in (None, []) else stride), pair(padding)
        self._simple(
            call,
            operator,
            input,
            kernel_shape=list(pair(kernel)),
            strides=list(steps),
            pads=[*pads, *pads],
            ceil_mode=int(ceil),
            **more,
        )

    def adaptive_avg_pool2d(self, call: Call, input: Value, output_size: Any) -> None:
        """Average windows so that a given number of pixels is left: two products with constant matrices."""
        size = [each or old for each, old in zip(pair(output_size), input.shape[2:], strict=True)]
        if size == [1, 1]:
            self._simple(call, "GlobalAveragePool", input)
            return
        rows, columns = (averages(old, new) for old, new in zip(input.shape[2:], size, strict=True))
        wide = self._graph.node("MatMul", self._name(rows), self._name(input))
        self._done(call, self._graph.node("MatMul", wide, self._name(columns.t().contiguous())))

    # --- shapes ---------------------------------------------------------------------------------------------------

    def reshaped_to(self, call: Call, input: Value) -> None:
        """Write a Reshape, whose first dimension stays as long as the batch."""
        if call.result.shape[0] != EXAMPLES or input.shape[0] != EXAMPLES:
            raise cannot_say(f"{call.function} ({call.where}), which mixes the images of a batch")
        self._done(call, self._graph.reshape(self._name(input), 0, *call.result.shape[1:]))

    def permute(self, call: Call, input: Value, *dims: Any) -> None:
        """Reorder dimensions."""
        order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        self._simple(call, "Transpose", input, perm=[each % input.rank for each in order])

    def transpose(self, call: Call, input: Value, dim0: int, dim1: int) -> None:
        """Exchange two dimensions."""
        order = list(range(input.rank))
        order[dim0], order[dim1] = order[dim1], order[dim0]
        self._simple(call, "Transpose", input, perm=order)

    def cat(self, call: Call, tensors: Any, dim: int = 0) -> None:
        """Put tensors side by side."""
        self._simple(call, "Concat", *tensors, axis=dim)

    def pad(self, call: Call, input: Value, pad: Any, mode: str = "constant", value: float | None = None) -> None:
        """Put a constant around."""
        if mode != "constant":
            raise cannot_say(f"pad with mode={mode!r} ({call.where})")
        sides = [tuple(pad[at : at + 2]) for at in range(0, len(pad), 2)]
        sides = [(0, 0)] * (input.rank - len(sides)) + sides[::-1]
        pads = self._graph.integers(*(before for before, _ in sides), *(after for _, after in sides))
        number = self._name(value or 0, input.example)
        self._done(call, self._graph.node("Pad", self._name(input), pads, number))

    def getitem(self, call: Call, input: Value, index: Any) -> None:
        """Cut slices of step one, and add dimensions of length one."""
        spans, added = cuts(index, input.rank)
        if spans is None:
            raise cannot_say(f"the index {index} ({call.where})")
        graph, name = self._graph, self._name(input)
        for axis, (start, end) in spans.items():
            name = graph.node("Slice", name, graph.integers(start), graph.integers(end), graph.integers(axis))
        if added:
            name = graph.node("Unsqueeze", name, graph.integers(*added))
        self._done(call, name)


END = 2**31 - 1  # a slice that ends here reaches to the end


def cuts(index: Any, rank: int) -> tuple[dict[int, tuple[int, int]] | None, list[int]]:
    """Split an index into the (start, end) of its slices by dimension, and the dimensions it adds; or None.

    >>> cuts((slice(None), slice(None, -2)), 3), cuts((..., None), 2)
    (({1: (0, -2)}, []), ({}, [2]))
    """
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(each, (int, Tensor)) for each in items):
        return None, []
    given = sum(isinstance(each, slice) for each in items)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (rank - given)
    spans, added, axis = {}, [], 0
    for place, each in enumerate(items):
        if each is None:
            added.append(place)
            continue
        if each.step not in (None, 1):
            return None, []
        if (each.start, each.stop) != (None, None):
            spans[axis] = (each.start or 0, END if each.stop is None else each.stop)
        axis += 1
    return spans, added


def averages(size: int, parts: int) -> Tensor:
    """Build the matrix that averages `size` pixels down to `parts`.

    >>> averages(3, 2).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    matrix = torch.zeros(parts, size)
    for row, (start, end) in enumerate(adaptive_edges(size, parts)):
        matrix[row, start:end] = 1 / (end - start)
    return matrix
