"""Rewrite a network for fast inference: integer layers take codes, and what follows them joins their kernels.

Normalisation, ReLU and the sum of a residual connection go into the layer before them. Where nothing but integer layers
of one static range comes next, be it behind poolings, the layer returns their codes.
"""

import inspect
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from bitq.errors import UsageError
from bitq.infer.encode import CodePool, DynamicEncode, StaticEncode
from bitq.infer.in_place import InPlaceTracer
from bitq.infer.kernels import MakeKernel
from bitq.infer.layers import DynamicProduct, FastLayer, Norm, affine_of, product_of, static_product
from bitq.models.layers import WeightLayer
from bitq.quant.activation import Int8Activation
from bitq.quant.static import StaticUint8

Code = tuple[float, int] | tuple[tuple[int, ...], bool]  # scale and zero, or dims and whether codes are signed
Makers = Mapping[str, MakeKernel]  # by layer
SUMS = (operator.add, operator.iadd, torch.add)
IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv, torch.relu_)
RELUS = (torch.relu, nn.functional.relu, torch.relu_)
FLATTENS = (torch.flatten,)
POOLS = (nn.functional.max_pool2d,)
POOLED = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")  # as the function has them
KEEP_SIGN = (nn.functional.avg_pool2d, nn.functional.adaptive_avg_pool2d)


@dataclass(frozen=True)
class Chain:
    """An integer layer and what joins it."""

    layer: fx.Node
    norm: Norm | None = None
    other: fx.Node | None = None
    relu: bool = False


def fused(model: nn.Module, makers: Makers, with_norms: Collection[str]) -> fx.GraphModule:
    """Rewrite the network so that the layers of `makers` run on their kernels, those of `with_norms` with a norm."""
    traced = fx.GraphModule(model, graph_of(model))
    return _Rewriting(traced, makers, with_norms).result()


class Tracer(InPlaceTracer):
    """A tracer that does not enter layers with weights."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, WeightLayer) or super().is_leaf_module(m, module_qualified_name)


def graph_of(model: nn.Module) -> fx.Graph:
    """Trace the network with its input alone, or say that it cannot be."""
    defaults = defaults_of(model)
    try:
        graph = Tracer().trace(model, concrete_args=defaults or None)
    except Exception as error:  # torch.fx raises whatever the model's own code does with a proxy
        raise UsageError(
            f"{type(model).__name__} cannot be traced, so nothing can be joined to its layers ({error}); "
            "run it as bitq.load returns it, or without --backend fast."
        ) from error
    _give_by_position(graph)
    return graph


def _give_by_position(graph: fx.Graph) -> None:
    """Turn the one input that a module is given by name into its first argument."""
    for node in graph.nodes:
        if node.op == "call_module" and not node.args and len(node.kwargs) == 1:
            node.args, node.kwargs = tuple(node.kwargs.values()), {}


def defaults_of(model: nn.Module) -> dict[str, Any]:
    """Return the defaults of what a forward takes beside its input."""
    _, *more = inspect.signature(model.forward).parameters.values()
    named = [each for each in more if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if missing := [each.name for each in named if each.default is each.empty]:
        raise UsageError(
            f"{type(model).__name__} takes {missing[0]} beside its input, but only networks of one input can be "
            "written or run in integers; give a module that wraps it, whose forward takes the input alone."
        )
    return {each.name: each.default for each in named}


def signed_inputs(model: nn.Module) -> set[str]:
    """Name the layers whose input may have negative numbers."""
    graph, modules = graph_of(model), dict(model.named_modules(remove_duplicate=False))
    layers = [node for node in graph.nodes if isinstance(_module(node, modules), WeightLayer)]
    return {str(node.target) for node in layers if not _reads_positive(node, modules)}


class _Rewriting:
    """The graph to write, and where it holds a value of the old one: as real numbers, as codes, or as both."""

    def __init__(self, traced: fx.GraphModule, makers: Makers, with_norms: Collection[str]) -> None:
        self.traced, self.makers, self.with_norms = traced, makers, with_norms
        self.modules = dict(traced.named_modules(remove_duplicate=False))
        self.chains: dict[fx.Node, Chain] = {}  # by tail
        self.layers: dict[fx.Node, Chain] = {}
        self.within: set[fx.Node] = set()  # nodes of chains but their tails
        self.tails: dict[fx.Node, fx.Node] = {}  # by where a chain is written
        for node in traced.graph.nodes:
            self._find_chain(node)
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.real: dict[fx.Node, fx.Node] = {}
        self.coded: dict[tuple[fx.Node, Code], fx.Node] = {}
        self.sources: dict[fx.Node, fx.Node] = {}  # the codes that a layer takes

    def result(self) -> fx.GraphModule:
        for node in self.traced.graph.nodes:
            if node in self.layers:
                # Where the layer stood: its input may change after it.
                self.sources[node] = self._codes(node.args[0], self._code_of(node))
            if node in self.tails:
                self._write_chain(self.tails[node], self.chains[self.tails[node]])
            elif node not in self.within and node not in self.chains and not self._write_codes(node):
                idle = _is_idle(self._module(node))
                self.real[node] = self.real[node.args[0]] if idle else self._copied(node)
                self._forget_codes(node)
        return fx.GraphModule(self.root, self.graph)

    # --- what joins a layer ---

    def _find_chain(self, node: fx.Node) -> None:
        if node.op != "call_module" or str(node.target) not in self.makers:
            return
        norm: Norm | None = None
        other: fx.Node | None = None
        relu, tail, place = False, node, None
        while len(tail.users) == 1 and not relu:
            after = next(iter(tail.users))
            module = self._module(after)
            if after in self.within or after in self.chains:  # the sum belongs to its other summand
                break
            if self._may_join(module, node) and norm is None and other is None:
                assert isinstance(module, Norm)
                norm = module
            elif other is None and (added := _added_to(tail, after)):
                other = added
                place = after  # where the chain is written: the other summand may change after the sum
            elif _is_relu(after, self.modules):
                relu = True
            elif not _is_idle(self._module(after)):
                break
            self.within.add(tail)
            tail = after
        self.tails[place or tail] = tail
        self.layers[node] = self.chains[tail] = Chain(node, norm, other, relu)

    def _may_join(self, module: nn.Module | None, layer: fx.Node) -> bool:
        """Tell whether a module normalises the channels of a layer by constants."""
        return isinstance(module, Norm) and module.running_var is not None and str(layer.target) in self.with_norms

    def _module(self, node: fx.Node) -> nn.Module | None:
        return _module(node, self.modules)

    # --- codes ---

    def _code_of(self, layer: fx.Node) -> Code:
        """Return the code in which a layer takes its input."""
        activation = self._layer(layer).activation
        if isinstance(activation, StaticUint8):
            return float(activation.scale), int(activation.zero)
        assert isinstance(activation, Int8Activation)
        return activation.dims, not _reads_positive(layer, self.modules)

    def _wanted(self, node: fx.Node) -> set[Code | None]:
        """Return the codes in which a value is wanted; None: as real numbers."""
        wanted: set[Code | None] = set()
        for user in node.users:
            chain_input = user.op == "call_module" and str(user.target) in self.makers
            if chain_input and isinstance(self._layer(user).activation, StaticUint8):
                wanted.add(self._code_of(user))
            elif self._commutes(user):
                wanted |= self._wanted(user)
            else:
                wanted.add(None)
        return wanted

    def _commutes(self, node: fx.Node) -> bool:
        """Tell whether rounding may come before a step as well as after it."""
        return bool(_max_pool(node, self.modules)) or _is_idle(self._module(node)) or _is_flatten(node, self.modules)

    def _layer(self, node: fx.Node) -> FastLayer:
        layer = self.modules[str(node.target)]
        assert isinstance(layer, FastLayer)
        return layer

    # --- the new graph ---

    def _write_chain(self, tail: fx.Node, chain: Chain) -> None:
        layer, code = self._layer(chain.layer), self._code_of(chain.layer)
        make = self.makers[str(chain.layer.target)]
        affine, product = affine_of(layer, chain.norm), product_of(layer, signed=bool(code[1]))
        source = self.sources[chain.layer]
        if isinstance(layer.activation, Int8Activation):
            module: nn.Module = DynamicProduct(make(product), product, affine, chain.relu)
            self.real[tail] = self._call(module, chain, source)
            return
        assert isinstance(layer.activation, StaticUint8)
        wanted = self._wanted(tail) if chain.other is None else {None}
        into = next(iter(wanted)) if len(wanted) == 1 else None
        scale_and_zero = into and (torch.tensor(into[0]), int(into[1]))
        module = static_product(make, product, affine, layer.activation.scale, chain.relu, scale_and_zero)
        found = self._call(module, chain, source)
        if into is None:
            self.real[tail] = found
        else:
            self.coded[tail, into] = found

    def _call(self, module: nn.Module, chain: Chain, source: fx.Node) -> fx.Node:
        others = () if chain.other is None else (self.real[chain.other],)
        return self._write(str(chain.layer.target).replace(".", "_"), module, (source, *others))

    def _codes(self, node: object, code: Code) -> fx.Node:
        assert isinstance(node, fx.Node)
        if (node, code) not in self.coded:
            encode: nn.Module
            if isinstance(code[0], tuple):
                encode = DynamicEncode(code[0], bool(code[1]))
            else:
                encode = StaticEncode(torch.tensor(code[0]), int(code[1]))
            self.coded[node, code] = self._write(f"encode_{node.name}", encode, (self.real[node],))
        return self.coded[node, code]

    def _forget_codes(self, node: fx.Node) -> None:
        """Let a value that a node changes in place be encoded anew when it is read again."""
        changed = next(iter(node.all_input_nodes), None)
        if changed is not None and _changes(node, changed, self.modules):
            value = self.real[changed]
            kept = [key for key in self.coded if self.real.get(key[0]) is not value]
            self.coded = {key: self.coded[key] for key in kept}

    def _write_codes(self, node: fx.Node) -> bool:
        """Repeat a step on codes where its input exists as codes alone."""
        source = node.args[0] if node.args else None
        if source in self.real or not self._commutes(node):
            return False
        for (at, code), codes in list(self.coded.items()):
            if at is source:
                self.coded[node, code] = self._on_codes(node, codes)
        return True

    def _on_codes(self, node: fx.Node, codes: fx.Node) -> fx.Node:
        if pool := _max_pool(node, self.modules):
            return self._write(f"pool_{node.name}", CodePool(pool), (codes,))
        return self._copied(node, lambda _: codes) if _is_flatten(node, self.modules) else codes

    def _copied(self, node: fx.Node, value: Callable[[fx.Node], fx.Node] | None = None) -> fx.Node:
        copy = self.graph.node_copy(node, value or self.real.__getitem__)
        if node.op == "call_module":
            copy.target = self._add(str(node.target).replace(".", "_"), self.modules[str(node.target)])
        elif node.op == "get_attr":
            copy.target = self._add_tensor(str(node.target))
        return copy

    def _write(self, name: str, module: nn.Module, arguments: tuple[fx.Node, ...]) -> fx.Node:
        return self.graph.call_module(self._add(name, module), arguments)

    def _add(self, name: str, module: nn.Module) -> str:
        while hasattr(self.root, name):
            name += "_"
        self.root.add_module(name, module)
        return name

    def _add_tensor(self, path: str) -> str:
        holder, _, leaf = path.rpartition(".")
        name = path.replace(".", "_")
        self.root.register_buffer(name, getattr(self.traced.get_submodule(holder), leaf), persistent=False)
        return name


Modules = Mapping[str, nn.Module]


def _module(node: fx.Node, modules: Modules) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _is_relu(node: fx.Node, modules: Modules) -> bool:
    return isinstance(_module(node, modules), nn.ReLU) or _calls(node, RELUS, ("relu", "relu_"))


def _calls(node: fx.Node, functions: Collection[object], methods: Collection[str] = ()) -> bool:
    """Tell whether a node calls one of these functions, or of these methods of a tensor."""
    names = {"call_function": functions, "call_method": methods}
    return node.target in names.get(node.op, ())


def _max_pool(node: fx.Node, modules: Modules) -> nn.MaxPool2d | None:
    """Return the pooling of a node whose windows have no gaps, be it a module or a function."""
    pool = _module(node, modules)
    if _calls(node, POOLS):
        pool = nn.MaxPool2d(**dict(zip(POOLED, node.args[1:], strict=False)), **node.kwargs)  # type: ignore[arg-type]
    fits = isinstance(pool, nn.MaxPool2d) and pool.dilation in (1, (1, 1), [1, 1]) and not pool.return_indices
    return pool if fits else None  # type: ignore[return-value]


def _is_idle(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Identity | nn.Dropout)


def _reads_positive(reader: fx.Node, modules: Modules) -> bool:
    """Tell whether what a node reads is known to have no negative numbers."""
    return _is_positive(reader.args[0], reader, modules)


def _is_positive(node: object, reader: fx.Node, modules: Modules) -> bool:
    """Tell whether a value is known to have no negative numbers when `reader` reads it."""
    if not isinstance(node, fx.Node):
        return False
    if any(user < reader and _changes(user, node, modules) and not _is_relu(user, modules) for user in node.users):
        return False
    module = _module(node, modules)
    if _is_relu(node, modules) or isinstance(module, nn.ReLU6 | nn.Sigmoid):
        return True
    keeps = isinstance(module, nn.MaxPool2d | nn.AdaptiveAvgPool2d | nn.AvgPool2d) or _is_idle(module)
    keeps = keeps or _calls(node, KEEP_SIGN) or bool(_max_pool(node, modules))
    return (keeps or _is_flatten(node, modules)) and _is_positive(node.args[0], reader, modules)


def _changes(node: fx.Node, value: object, modules: Modules) -> bool:
    """Tell whether a node changes a value in place."""
    module = _module(node, modules)
    if _is_idle(module) or not node.args or node.args[0] is not value:
        return False
    inplace = bool(node.kwargs.get("inplace")) or bool(getattr(module, "inplace", False))
    return inplace or _calls(node, IN_PLACE) or (node.op == "call_method" and str(node.target).endswith("_"))


def _added_to(node: fx.Node, after: fx.Node) -> fx.Node | None:
    """Return the other summand if `after` adds one to `node`."""
    if after.op != "call_function" or after.target not in SUMS or after.kwargs or len(after.args) != 2:
        return None
    if after.target is operator.iadd and after.args[0] is not node:
        return None  # whoever else reads the other summand, by whatever name, must see it changed
    others = [one for one in after.args if one is not node]
    return others[0] if len(others) == 1 and isinstance(others[0], fx.Node) else None


def _is_flatten(node: fx.Node, modules: Modules) -> bool:
    return isinstance(_module(node, modules), nn.Flatten) or _calls(node, FLATTENS, ("flatten",))
