"""Write torch's functions as calls of the reference inference in C."""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from bitq.errors import UsageError
from bitq.infer.products import pair
from bitq.interop.c_arrays import array, braces, four, number
from bitq.interop.c_layers import Geometry, before_product, is_integer, struct
from bitq.interop.calls import EXAMPLES, Call, Reshapes, Value, cannot_say
from bitq.interop.onnx_calls import END, cuts


class CWriter(Reshapes):
    """A method for each function, under its name and with its arguments. One image at a time."""

    def __init__(self) -> None:
        """Start from an empty program."""
        self.arrays: list[str] = []
        self.buffers: dict[str, int] = {}  # numbers of each array between two calls
        self.statements: list[str] = []
        self.integer_layers: list[str] = []  # symbols
        self.layers = 0
        self._names: dict[str, str] = {}  # of values that lie in another's array

    # --- names and shapes -----------------------------------------------------------------------------------------

    def name_of(self, value: Any) -> str:
        """Return the array that holds a value; numbers and tensors become constants."""
        if isinstance(value, Value):
            return self._names.get(value.name, value.name)
        name = f"k{len(self.arrays)}"
        self.arrays.append(array(name, torch.as_tensor(value, dtype=torch.float32)))
        return name

    def _shape(self, value: Any) -> list[int]:
        """Return a value's shape for one image, in four dimensions."""
        if isinstance(value, Value):
            if value.rank > 4:
                raise cannot_say(f"tensors of {value.rank} dimensions in C")
            return four((1, *value.shape[1:]))
        return four(tuple(value.shape) if isinstance(value, Tensor) else ())

    def _result(self, call: Call) -> str:
        _check_batch(call)
        self.buffers[call.result.name] = prod(self._shape(call.result))
        return call.result.name

    def _say(self, function: str, *arguments: Any) -> None:
        self.statements.append(f"{function}({', '.join(map(str, arguments))});")

    def _alias(self, call: Call, input: Value) -> None:
        _check_batch(call)
        self._names[call.result.name] = self.name_of(input)

    def _ints(self, numbers: Any) -> str:
        return f"(const int[]){braces(*numbers)}"

    # --- layers ---------------------------------------------------------------------------------------------------

    def layer(self, call: Call, input: Value) -> None:
        """Write a layer with weights."""
        assert call.layer is not None
        symbol, self.layers = f"layer_{self.layers}", self.layers + 1
        self.arrays.append(struct(symbol, call.where, call.layer, _geometry(call, input)))
        if is_integer(call.layer):
            self.integer_layers.append(symbol)
        if isinstance(call.layer, nn.Embedding):
            self._say("embedding", f"&{symbol}", self.name_of(input), self._result(call))
            return
        x, count = self.name_of(input), prod(self._shape(input))
        for number_, (start, end) in enumerate(before_product(call.where, call.layer, count)):
            changed = f"{call.result.name}_in{number_}"
            self.buffers[changed] = count
            self.statements.append(f"{start}{x}{end}{changed});")
            x = changed
        self._say("layer", f"&{symbol}", x, self._result(call))

    def batch_norm(self, call: Call, input: Value) -> None:
        """Scale and shift each channel: α = γ/√(σ² + ε), β = b - μ·α, in fp32 as torch computes them."""
        norm: Any = call.layer
        if norm.running_var is None:
            raise cannot_say(f"{call.where}, a normalisation by the statistics of the batch")
        scale = (norm.running_var + norm.eps).sqrt().reciprocal() * (1 if norm.weight is None else norm.weight)
        shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
        channels, count = len(scale), prod(self._shape(input))
        parts = self.name_of(scale), self.name_of(shift)
        self._say("scale_and_shift", channels, count // channels, self.name_of(input), *parts, self._result(call))

    def layer_norm(
        self, call: Call, input: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> None:
        """Normalise each sample over its last dimensions."""
        size = prod(normalized_shape)
        parts = ["NULL" if each is None else self.name_of(each) for each in (weight, bias)]
        rows = prod(self._shape(input)) // size
        self._say("layer_norm", rows, size, self.name_of(input), *parts, number(eps), self._result(call))

    # --- functions of one number and of two -----------------------------------------------------------------------

    def _apply(self, call: Call, function: str, input: Value) -> None:
        self._say("apply", f"'{function}'", prod(self._shape(input)), self.name_of(input), self._result(call))

    def relu(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write max(x, 0)."""
        self._apply(call, "r", input)

    def relu6(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write min(max(x, 0), 6)."""
        self._apply(call, "6", input)

    def sigmoid(self, call: Call, input: Value) -> None:
        """Write 1 / (1 + e^-x)."""
        self._apply(call, "s", input)

    def tanh(self, call: Call, input: Value) -> None:
        """Write tanh x."""
        self._apply(call, "t", input)

    def silu(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write x·sigmoid(x)."""
        self._apply(call, "w", input)

    def hardsigmoid(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write clamp(x/6 + 1/2, 0, 1)."""
        self._apply(call, "h", input)

    def hardswish(self, call: Call, input: Value, inplace: bool = False) -> None:
        """Write x·hardsigmoid(x)."""
        self._apply(call, "i", input)

    def gelu(self, call: Call, input: Value, approximate: str = "none") -> None:
        """Write x·Φ(x)."""
        if approximate != "none":
            raise cannot_say(f"gelu with approximate={approximate!r} ({call.where})")
        self._apply(call, "g", input)

    def neg(self, call: Call, input: Value) -> None:
        """Write -x."""
        self._apply(call, "n", input)

    def zeros_like(self, call: Call, input: Value) -> None:
        """Leave an array as it starts: at zero."""
        self._result(call)

    def _binary(self, call: Call, function: str, a: Any, b: Any) -> None:
        operands = (part for each in (a, b) for part in (self.name_of(each), self._ints(self._shape(each))))
        result = self._result(call)
        self._say("binary", f"'{function}'", *operands, result, self._ints(self._shape(call.result)))

    def add(self, call: Call, input: Any, other: Any) -> None:
        """Write a sum."""
        self._binary(call, "+", input, other)

    def sub(self, call: Call, input: Any, other: Any) -> None:
        """Write a difference."""
        self._binary(call, "-", input, other)

    def mul(self, call: Call, input: Any, other: Any) -> None:
        """Write a product."""
        self._binary(call, "*", input, other)

    def div(self, call: Call, input: Any, other: Any) -> None:
        """Write a quotient."""
        self._binary(call, "/", input, other)

    def eq(self, call: Call, input: Value, other: Any) -> None:
        """Write a comparison."""
        self._binary(call, "=", input, other)

    def masked_fill(self, call: Call, input: Value, mask: Value, value: float) -> None:
        """Write a value where the mask is true."""
        parts = (part for each in (input, mask) for part in (self.name_of(each), self._ints(self._shape(each))))
        self._say("masked_fill", *parts, number(float(value)), self._result(call))

    # --- over dimensions ------------------------------------------------------------------------------------------

    def _along(self, call: Call, input: Value, *dims: int) -> tuple[int, int, int]:
        """Return the numbers of places before, in and after dimensions that lie side by side."""
        axes, shape = sorted(dim % input.rank for dim in dims), (1, *input.shape[1:])
        first, last = axes[0], axes[-1] + 1
        if first == 0:
            raise mixing(call)
        if axes != list(range(first, last)):
            raise cannot_say(f"{call.function} over dimensions that do not lie side by side ({call.where}) in C")
        return prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])

    def softmax(self, call: Call, input: Value, dim: int, _stacklevel: int = 3, dtype: None = None) -> None:
        """Write e^x over its sum."""
        self._say("softmax", *self._along(call, input, dim), self.name_of(input), self._result(call))

    def sum(self, call: Call, input: Value, dim: Any, keepdim: bool = False) -> None:
        """Sum over dimensions."""
        self._sum(call, input, dim, mean=False)

    def mean(self, call: Call, input: Value, dim: Any, keepdim: bool = False) -> None:
        """Average over dimensions."""
        self._sum(call, input, dim, mean=True)

    def _sum(self, call: Call, input: Value, dim: Any, mean: bool) -> None:
        outer, size, inner = self._along(call, input, *([dim] if isinstance(dim, int) else dim))
        divisor = number(float(size if mean else 1))
        self._say("sum", outer, size, inner, divisor, self.name_of(input), self._result(call))

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
        steps = pair(kernel_size if stride in (None, []) else stride)
        window = ", ".join(braces(*pair(each)) for each in (kernel_size, steps, padding, dilation))
        channels, size = self._image(call, input)
        place = f"&(const struct window){{{window}}}"
        sizes = self._ints(size), place, self._ints(call.result.shape[2:])
        self._say("max_pool", channels, *sizes, self.name_of(input), self._result(call))

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
        if ceil_mode or divisor_override is not None:
            raise cannot_say(f"avg_pool2d with ceil_mode or divisor_override ({call.where}) in C")
        steps = pair(kernel_size if stride in (None, []) else stride)
        window = ", ".join(braces(*pair(each)) for each in (kernel_size, steps, padding, 1))
        channels, size = self._image(call, input)
        place = f"&(const struct window){{{window}}}", int(count_include_pad)
        sizes = self._ints(size), *place, self._ints(call.result.shape[2:])
        self._say("avg_pool", channels, *sizes, self.name_of(input), self._result(call))

    def _image(self, call: Call, input: Value) -> tuple[int, tuple[int, ...]]:
        """Return channels and size of a batch of images."""
        if input.rank != 4:
            raise cannot_say(f"{call.function} ({call.where}) of {input.rank} dimensions in C")
        return input.shape[1], input.shape[2:]

    def adaptive_avg_pool2d(self, call: Call, input: Value, output_size: Any) -> None:
        """Average windows so that a given number of pixels is left."""
        channels, size = self._image(call, input)
        sizes = self._ints(size), self._ints(call.result.shape[2:])
        self._say("adaptive_pool", channels, *sizes, self.name_of(input), self._result(call))

    # --- shapes ---------------------------------------------------------------------------------------------------

    def reshaped_to(self, call: Call, input: Value) -> None:
        """Name the result as the input, since nothing moves."""
        self._alias(call, input)

    def permute(self, call: Call, input: Value, *dims: Any) -> None:
        """Reorder dimensions."""
        order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        missing = 4 - input.rank
        if order[0] % input.rank:
            raise mixing(call)
        places = [*range(missing), *(each % input.rank + missing for each in order)]
        self._say(
            "permute", self.name_of(input), self._ints(self._shape(input)), self._ints(places), self._result(call)
        )

    def cat(self, call: Call, tensors: Any, dim: int = 0) -> None:
        """Put tensors side by side."""
        axis, at = dim % call.result.rank + 4 - call.result.rank, 0
        for each in tensors:
            shape, to = self._shape(each), [0] * 4
            to[axis] = at
            self._copy(call, each, [0] * 4, shape, to)
            at += shape[axis]

    def pad(self, call: Call, input: Value, pad: Any, mode: str = "constant", value: float | None = None) -> None:
        """Put zeros around."""
        if mode != "constant" or value or min(pad) < 0:
            raise cannot_say(f"pad with mode={mode!r}, value={value} or less than nothing ({call.where}) in C")
        to = [0] * 4
        for place, before in enumerate(pad[::2]):
            to[3 - place] = before
        self._copy(call, input, [0] * 4, self._shape(input), to)

    def getitem(self, call: Call, input: Value, index: Any) -> None:
        """Cut slices of step one, and add dimensions of length one."""
        spans, _ = cuts(index, input.rank)
        if spans is None:
            raise cannot_say(f"the index {index} ({call.where})")
        if 0 in spans:
            raise mixing(call)
        if not spans:
            self._alias(call, input)
            return
        start, size = [0] * 4, self._shape(input)
        for axis, (first, last) in spans.items():
            place = axis + 4 - input.rank
            length = size[place]
            ends = [min(length, each if each >= 0 or each == END else each + length) for each in (first, last)]
            start[place], size[place] = ends[0], ends[1] - ends[0]
        self._copy(call, input, start, size, [0] * 4)

    def _copy(self, call: Call, input: Value, start: list[int], size: list[int], to: list[int]) -> None:
        source = self.name_of(input), self._ints(self._shape(input)), self._ints(start), self._ints(size)
        result = self._result(call), self._ints(self._sized(call, size)), self._ints(to)
        self._say("copy_box", *source, *result)

    def _sized(self, call: Call, size: list[int]) -> list[int]:
        """Return the result's shape; where an index adds dimensions it is that of the box."""
        return size if call.function == "getitem" else self._shape(call.result)


def _check_batch(call: Call) -> None:
    """Refuse what mixes the images of a batch, since the program sees one at a time."""
    if call.result.rank == 0 or call.result.shape[0] != EXAMPLES:
        raise mixing(call)


def mixing(call: Call) -> UsageError:
    """Build the error for a call that computes over the batch."""
    return cannot_say(f"{call.function} ({call.where}), which mixes the images of a batch,")


def _geometry(call: Call, input: Value) -> Geometry:
    if not isinstance(call.layer, nn.Conv1d | nn.Conv2d):
        features = 1 if isinstance(call.layer, nn.Embedding) else input.shape[-1]
        return Geometry(rows=prod(input.shape[1:]) // features)
    sizes = [four(each.shape[2:])[2:] for each in (input, call.result)]
    if input.rank not in (3, 4):
        raise UsageError(f"{call.where} takes {input.rank} dimensions; allowed in format c: images and sequences.")
    return Geometry(1, (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]))
