"""Which modules can be quantized, which are left alone, and which have to be named by `keep`."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from bitq.errors import UsageError
from bitq.library.attention import can_be_separated
from bitq.models.convolution import Conv2d
from bitq.models.layers import WeightLayer, matching_layers
from bitq.quant.convert import QUANTIZED

# Modules of torch that hold vectors or tables beside their products and need no rule.
WITHOUT_PRODUCTS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
# How convolutions multiply, bitq's own included; linear layers and embeddings have no such method.
PRODUCTS = (nn.Conv1d._conv_forward, nn.Conv2d._conv_forward, Conv2d._conv_forward, None)
RULES = ", ".join(kind.__name__ for kind in QUANTIZED)


def is_kept(path: str, keep: Iterable[str]) -> bool:
    """Tell whether a name matches one of the globs or lies below a name that does.

    >>> is_kept("encoder.0.linear1", ["encoder.0"]), is_kept("encoder.10.linear1", ["encoder.1"])
    (True, False)
    """
    return any(fnmatchcase(path, glob) or fnmatchcase(path, f"{glob}.*") for glob in keep)


def reason_without_rule(module: nn.Module) -> str | None:
    """Say why the weights of a module cannot be quantized; None if they can be, or if there is nothing to quantize."""
    kind = type(module).__name__
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return f"{kind} has no weights before its first input; call the network once before it is quantized"
    if isinstance(module, nn.MultiheadAttention):
        return None if can_be_separated(module) else f"{kind} with a forward pass or keys of its own has no rule"
    if isinstance(module, WeightLayer):
        return _reason_of_layer(module)
    if isinstance(module, WITHOUT_PRODUCTS) or not type(module).__module__.startswith("torch.nn."):
        return None  # matrices of the user's own modules stay float, and coverage lists them
    if any(value.squeeze().dim() >= 2 for value in module.parameters(recurse=False)):
        return f"{kind} is a module type without a rule (those with one: {RULES})"
    return None


def _reason_of_layer(layer: WeightLayer) -> str | None:
    kind: Any = type(layer)
    base: Any = next(plain for plain in QUANTIZED if isinstance(layer, plain))
    if parametrize.is_parametrized(layer):
        return f"{kind.__name__} computes its weight from others; call torch's remove_parametrizations first"
    if "weight" not in layer._parameters:
        return f"{kind.__name__} computes its weight from others; make the weight a parameter first"
    if kind.forward is not base.forward or getattr(kind, "_conv_forward", None) not in PRODUCTS:
        return f"{kind.__name__} is a {base.__name__} with a forward pass of its own, for which there is no rule"
    if layer.weight.dtype != torch.float32:
        return f"the weight is {layer.weight.dtype}; quantize in float32, model.float(), and train under autocast"
    if isinstance(layer, nn.Embedding) and (layer.max_norm or layer.sparse or layer.scale_grad_by_freq):
        return "Embedding with max_norm, sparse or scale_grad_by_freq has no rule"
    return None


def check_rules(model: nn.Module, keep: Iterable[str]) -> None:
    """Refuse the first module that has weights but no rule, unless it is kept."""
    if isinstance(model, WeightLayer | nn.MultiheadAttention):
        raise UsageError(
            f"a single {type(model).__name__} was given; put it into a network: torch.nn.Sequential(layer)."
        )
    for path, module in model.named_modules():
        if not is_kept(path, keep) and (reason := reason_without_rule(module)):
            raise UsageError(f"{path}: {reason}; or leave it in full precision: keep=[{path!r}].")


def check_globs(model: nn.Module, keep: Iterable[str]) -> None:
    """Refuse a glob that matches no module."""
    paths = [path for path, _ in model.named_modules()]
    for glob in keep:
        if not any(is_kept(path, [glob]) for path in paths):
            matching_layers(model, [glob])  # refuses it, with names that are there
