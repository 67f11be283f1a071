"""List the calls of which a network consists, for writers of other formats: traced once, under torch's own names."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.ops import StochasticDepth

from bitq.data.inputs import Inputs
from bitq.deploy.evaluate import full_precision, inference
from bitq.errors import UsageError
from bitq.infer.fuse import defaults_of
from bitq.infer.in_place import InPlaceTracer
from bitq.models.convolution import Conv2d
from bitq.models.layers import WeightLayer
from bitq.quant.layers import QuantEmbedding, QuantLayer

EXAMPLES = 2  # images that a network is traced with

Settings = Callable[[Any], tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Value:
    """A tensor between two calls: its name, and an example of it for EXAMPLES images."""

    name: str
    example: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the example."""
        return tuple(self.example.shape)

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return self.example.dim()


@dataclass(frozen=True)
class Call:
    """One call: a function of torch by name, or a layer with weights. Tensors among the arguments are constants."""

    function: str
    where: str  # dotted name of the module, or of the traced node
    result: Value
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    layer: nn.Module | None = None


@dataclass(frozen=True)
class Traced:
    """A network as inputs, calls in order, and one output."""

    inputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    output: Value


def same(name: str, *settings: str) -> Settings:
    """Describe a module as the function of that name with the module's own settings."""
    return lambda module: (name, {setting: getattr(module, setting) for setting in settings})


LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.Embedding, Conv2d, *QuantLayer.__args__)
AVERAGING = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
MODULES: dict[type, Settings] = {
    nn.ReLU: same("relu"),
    nn.ReLU6: same("relu6"),
    nn.SiLU: same("silu"),
    nn.GELU: same("gelu", "approximate"),
    nn.Sigmoid: same("sigmoid"),
    nn.Tanh: same("tanh"),
    nn.Hardswish: same("hardswish"),
    nn.Hardsigmoid: same("hardsigmoid"),
    nn.Softmax: same("softmax", "dim"),
    nn.MaxPool2d: same("max_pool2d", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    nn.AvgPool2d: same("avg_pool2d", *AVERAGING),
    nn.AdaptiveAvgPool2d: same("adaptive_avg_pool2d", "output_size"),
    nn.Flatten: same("flatten", "start_dim", "end_dim"),
    nn.LayerNorm: same("layer_norm", "normalized_shape", "weight", "bias", "eps"),
    nn.Identity: same("identity"),
    nn.Dropout: same("identity"),
    nn.Dropout2d: same("identity"),
    StochasticDepth: same("identity"),
}
# Functions that leave their first argument as it is in a trained network, and other names of the same function.
IDENTITIES = ("dropout", "stochastic_depth", "contiguous", "clone", "detach", "identity")
FROM_VALUES = ("item", "tolist", "equal", "allclose")  # numbers that are computed from tensors
ALIASES = {"iadd": "add", "isub": "sub", "imul": "mul", "truediv": "div", "itruediv": "div"}


class Tracer(InPlaceTracer):
    """A tracer that enters neither layers with weights nor what MODULES describes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether a module is one call."""
        return isinstance(m, WeightLayer) or type(m) in MODULES or super().is_leaf_module(m, module_qualified_name)


class _Examples(fx.Interpreter):
    """Keep the value of every node, and refuse one that is read again after it was changed in place."""

    def run_node(self, n: fx.Node) -> Any:
        for read in n.all_input_nodes:
            if not _alike(self.env[read], read.meta["example"]):
                raise UsageError(
                    f"{read.name} is read by {n.name} after it was changed in place, which this export cannot say; "
                    "leave inplace=True, +=, or the underscore of the function out there."
                )
        value = super().run_node(n)
        n.meta["example"] = value.clone() if isinstance(value, Tensor) else value
        return value


def _alike(value: Any, before: Any) -> bool:
    if not isinstance(value, Tensor):
        return True
    return bool(torch.allclose(value, before, rtol=0, atol=0, equal_nan=value.is_floating_point()))


def traced(model: nn.Module, example: Inputs) -> Traced:
    """Trace a network on an example of EXAMPLES images, or images with the tokens of their sentences.

    Further arguments of its forward keep their defaults.
    """
    defaults = defaults_of(model)
    try:
        module = fx.GraphModule(model, Tracer().trace(model, concrete_args=defaults or None))
    except Exception as error:  # torch.fx raises whatever the model's own code does with a proxy
        raise UsageError(
            f"{type(model).__name__} cannot be traced ({error}), so it cannot be written for other runtimes; "
            "take what depends on the values of tensors out of its forward."
        ) from error
    with inference(model), full_precision():
        _Examples(module).run(example, *defaults.values())
    return _Reader(model, module.graph).read()


class _Reader:
    """Turn the nodes of a traced graph into calls."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model, self.graph = model, graph
        self.values: dict[fx.Node, Any] = {}  # a Value, a tuple of Values, or a constant
        self.calls: list[Call] = []
        self.inputs: list[Value] = []

    def read(self) -> Traced:
        for node in self.graph.nodes:
            if node.op == "output":
                output = self._argument(node.args[0])
                if not isinstance(output, Value) or output.rank < 2:
                    found = f"shape {output.shape}" if isinstance(output, Value) else type(output).__name__
                    raise UsageError(
                        f"an output of {found} was found, but a row of logits for each input is expected; "
                        "return the logits alone."
                    )
                return Traced(tuple(self.inputs), tuple(self.calls), output)
            self.values[node] = self._value(node)
        raise AssertionError("every traced graph has an output")

    def _value(self, node: fx.Node) -> Any:
        example = node.meta["example"]
        if node.op == "placeholder":
            return self._input(example) if not self.inputs else example
        if node.op == "get_attr":
            return example.detach()
        if not isinstance(example, Tensor):
            return self._constant(node, example)
        args, kwargs = self._argument(node.args), self._argument(dict(node.kwargs))
        if _name_of(node) == "getitem" and isinstance(args[0], tuple):
            return args[0][args[1]]
        if node.op == "call_module":
            return self._module(node, args)
        return self._call(_name_of(node), node.name, node, args, kwargs)

    def _constant(self, node: fx.Node, example: Any) -> Any:
        """Return a shape or a number that does not depend on the values of tensors, or a part of several inputs."""
        name = _name_of(node)
        if name in FROM_VALUES or (isinstance(example, tuple | list) and any(isinstance(e, Tensor) for e in example)):
            raise cannot_say(f"{name} ({node.name}), which gives no single tensor")
        return example

    def _input(self, example: Any) -> Any:
        if isinstance(example, Tensor):
            self.inputs.append(Value("images", example))
            return self.inputs[-1]
        self.inputs += [Value(name, part) for name, part in zip(("images", "tokens"), example, strict=True)]
        return tuple(self.inputs)

    def _module(self, node: fx.Node, args: tuple[Any, ...]) -> Any:
        module = self.model.get_submodule(str(node.target))
        if type(module) in LAYERS or isinstance(module, QuantEmbedding):
            return self._call("layer", str(node.target), node, args, {}, module)
        if type(module) in NORMS:
            return self._call("batch_norm", str(node.target), node, args, {}, module)
        if type(module) not in MODULES:
            raise cannot_say(f"{type(module).__name__} ({node.target})")
        name, settings = MODULES[type(module)](module)
        return self._call(name, str(node.target), node, args, settings)

    def _call(
        self,
        name: str,
        where: str,
        node: fx.Node,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        layer: nn.Module | None = None,
    ) -> Any:
        if name in IDENTITIES:
            return args[0]
        result = Value(f"v{len(self.calls)}", node.meta["example"])
        self.calls.append(Call(name, where, result, args, kwargs, layer))
        return result

    def _argument(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self.values[node])


def _name_of(node: fx.Node) -> str:
    """Return a function's name without the underscores of methods in place."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return ALIASES.get(name.strip("_"), name.strip("_"))


def cannot_say(what: str) -> UsageError:
    """Build the error for an operation that a writer does not know."""
    return UsageError(
        f"this export has no form for {what}; it knows {', '.join(sorted(kind.__name__ for kind in MODULES))}, "
        "convolutions, linear layers and embeddings, so build the network from these, or add the operation to "
        "bitq/interop."
    )


def write_calls(traced: Traced, writer: object) -> None:
    """Give each call to the writer's method of its function's name; one that it lacks or that does not fit is refused.

    Methods take the call, then the function's arguments as torch names them.
    """
    for call in traced.calls:
        method = getattr(writer, call.function, None)
        if method is None or call.function.startswith("_"):
            raise cannot_say(f"{call.function} ({call.where})")
        try:
            inspect.signature(method).bind(call, *call.args, **call.kwargs)
        except TypeError as error:
            raise cannot_say(f"{call.function} ({call.where}) with these arguments: {error}") from error
        method(call, *call.args, **call.kwargs)


class Reshapes(ABC):
    """Functions of torch that give a tensor another shape and move nothing; a writer says how in `reshaped_to`."""

    @abstractmethod
    def reshaped_to(self, call: Call, input: Value) -> None:
        """Write the input in the shape of the call's result."""

    def flatten(self, call: Call, input: Value, start_dim: int = 0, end_dim: int = -1) -> None:
        """Join dimensions."""
        self.reshaped_to(call, input)

    def reshape(self, call: Call, input: Value, *shape: Any) -> None:
        """Give another shape."""
        self.reshaped_to(call, input)

    def view(self, call: Call, input: Value, *shape: Any) -> None:
        """Give another shape."""
        self.reshaped_to(call, input)

    def squeeze(self, call: Call, input: Value, *dim: int) -> None:
        """Leave out dimensions of length one."""
        self.reshaped_to(call, input)

    def unsqueeze(self, call: Call, input: Value, dim: int) -> None:
        """Add a dimension of length one."""
        self.reshaped_to(call, input)


def example_for(spec: Mapping[str, Any], count: int = EXAMPLES, seed: int = 0) -> Inputs:
    """Draw normal images, and tokens where the network reads sentences."""
    generator = torch.Generator().manual_seed(seed)
    size, words = spec["image_size"], spec.get("words", 0)
    images = torch.randn(count, spec["channels"], size, size, generator=generator)
    if not words:
        return images
    return images, torch.randint(0, spec["vocabulary"], (count, words), generator=generator)
