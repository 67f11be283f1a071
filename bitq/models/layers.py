"""Find the layers that hold a network's weights by name."""

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from bitq.errors import UsageError

WeightLayer = nn.Conv1d | nn.Conv2d | nn.Linear | nn.Embedding


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    """List the convolutions, linear layers and embeddings by dotted name, in the model's order."""
    return {path: module for path, module in model.named_modules() if isinstance(module, WeightLayer)}


def matching_layers(model: nn.Module, patterns: Iterable[str]) -> dict[str, nn.Module]:
    """Find the layers with weights whose dotted name matches one of the globs or lies below such a name."""
    layers = weight_layers(model)
    found = {path for pattern in patterns for path in _matches(pattern, layers)}
    return {path: layer for path, layer in layers.items() if path in found}


def _matches(pattern: str, paths: Iterable[str]) -> list[str]:
    matches = [path for path in paths if fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")]
    if not matches:
        raise UsageError(f"no layer matches {pattern!r}; this model has {_examples(pattern, list(paths))}.")
    return matches


def _examples(pattern: str, paths: list[str], limit: int = 4) -> str:
    near = get_close_matches(pattern, paths, n=limit, cutoff=0.5)
    shown = list(dict.fromkeys([*near, paths[0], paths[len(paths) // 2], paths[-1]]))
    return f"for example {', '.join(shown)}" + (f" ({len(paths)} layers in all)" if len(paths) > len(shown) else "")
