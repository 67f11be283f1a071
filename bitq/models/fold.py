"""Fold batch normalisation into the convolution or linear layer before it: what inference computes anyway."""

from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from bitq.errors import UsageError

Foldable = nn.Conv2d | nn.Linear


def fold(model: nn.Module) -> list[str]:
    """Fold, in place, every normalisation that is fed by one layer alone; returns the names of those layers.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    >>> fold(net), type(net[1]).__name__
    (['0'], 'Identity')
    """
    pairs = list(foldable(model))
    for layer, norm in pairs:
        _fold(model.get_submodule(layer), model.get_submodule(norm))
        model.set_submodule(norm, nn.Identity())
    return [layer for layer, _ in pairs]


def foldable(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Find, by tracing, each layer and the normalisation that takes its output and nothing else."""
    if not any(_is_norm(module) for module in model.modules()):
        return
    modules = dict(model.named_modules(remove_duplicate=False))
    nodes = [node for node in _traced(model).nodes if node.op == "call_module"]
    calls = [node.target for node in nodes]
    for node in nodes:
        before = node.args[0] if node.args else None
        if not _is_norm(modules[str(node.target)]) or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        is_alone = len(before.users) == 1 and calls.count(before.target) == 1 and calls.count(node.target) == 1
        if is_alone and isinstance(modules[str(before.target)], Foldable):
            yield str(before.target), str(node.target)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None


class _Tracer(fx.Tracer):
    """A tracer that does not enter convolutions, torch's or ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Foldable) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(model)
    except Exception as error:  # torch.fx raises whatever the model's own code does with a proxy
        raise UsageError(
            f"{type(model).__name__} cannot be traced, so its normalisation cannot be folded ({error}); "
            "give fold=false."
        ) from error


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Fold one pair: w' = w·γ/√(σ² + ε), b' = (b - μ)·γ/√(σ² + ε) + β, computed in fp64 and rounded once."""
    mean, var, gamma, beta = (_double(norm, name) for name in ("running_mean", "running_var", "weight", "bias"))
    factor = gamma / (var + norm.eps).sqrt()  # type: ignore[operator]
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias = layer.bias.double() if isinstance(layer.bias, Tensor) else torch.zeros_like(mean)
    folded = weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))
    weight.copy_(folded)
    layer.bias = nn.Parameter(((bias - mean) * factor + beta).to(weight.dtype))


def _double(norm: nn.Module, name: str) -> Tensor:
    value = getattr(norm, name)
    if value is None:  # a normalisation without its own scale and shift
        value = torch.full_like(norm.running_mean, 1.0 if name == "weight" else 0.0)  # type: ignore[arg-type]
    doubled: Tensor = value.double()
    return doubled
