"""Write a quantized network of one's own to a packed file."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.deploy import tensorfile
from bitq.deploy.export import Exported, activation_kind, lowbit_layers, packed_layers, packing_of, shipped_tensors
from bitq.deploy.export import export as export_of_grid
from bitq.deploy.residual import RESIDUAL
from bitq.errors import UsageError
from bitq.library.attention import SeparateAttention
from bitq.library.blueprint import OwnLayer, OwnNetwork
from bitq.library.quantize import FoldedNorm
from bitq.library.training import project
from bitq.quant.layers import QuantLayer
from bitq.quant.registry import METHODS
from bitq.quant.static import StaticUint8

PARTS = ("codes", "values", "scale", *RESIDUAL)
SPEC = "bitq_spec"  # attribute of a network of the grid: what its file says of it


def export(model: nn.Module, path: str | os.PathLike[str], *, packing: str | None = None) -> Exported:
    """Write a quantized network to a packed file: codes for quantized weights, floats for everything else.

    Returns the size of the file, its digest, and its bytes by component. `packing` is "base3" or "b1" to "b8", bits per
    code; left out, it is the densest. The file holds tensors and their description, no code: `load` needs the class.

    >>> import tempfile
    >>> from bitq.library.quantize import quantize
    >>> net = quantize(nn.Sequential(nn.Linear(1000, 10, bias=False)), "bitnet")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(net, f"{folder}/net.safetensors").parts["codes"]   # five ternary weights a byte
    2000
    """
    path = Path(path)
    if spec := getattr(model, SPEC, None):
        return export_of_grid(model, spec, path, packing)
    layers = lowbit_layers(model)
    if not layers:
        raise UsageError("this network has no quantized layer; call bitq.quantize(model, method) first.")
    for name, layer in layers.items():
        _check_calibrated(name, layer)
        project(layer)
    tied, aliases = _tied(model), _aliases(model)
    _check_state(model)
    tensors = shipped_tensors(model, packing)
    skipped = {f"{name}.{part}" for name in tied for part in PARTS} | aliases.keys()
    tensors = {name: value for name, value in tensors.items() if name not in skipped}
    described = OwnNetwork(
        network=f"{type(model).__module__}.{type(model).__qualname__}",
        layers={name: _record(layer, packing, tied.get(name)) for name, layer in layers.items()},
        separated=tuple(_paths(model, SeparateAttention)),
        folded=tuple(_paths(model, FoldedNorm)),
        aliases={name: first for name, first in aliases.items() if first in tensors},
    )
    digest = tensorfile.write(path, tensors, described.model_dump(mode="json"))
    return Exported(path.stat().st_size, digest, _parts(model, tensors, path.stat().st_size))


def method_of(layer: QuantLayer) -> str:
    """Name the method that quantizes a layer, as `quantize` takes it.

    >>> from bitq.library.quantize import quantize
    >>> method_of(quantize(nn.Sequential(nn.Linear(4, 4)), "int4")[0])
    'int4'
    """
    quantizer: Any = layer.quantizer
    for name, method in METHODS.items():
        fixed = all(getattr(quantizer, key, None) == value for key, value in method.fixed.items())
        if type(quantizer) is method.weight and fixed:
            return name
    return str(getattr(quantizer, "method", "unknown"))  # of a layer that was read from a file


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Map the name of each tensor of the state to the first name of the same tensor."""
    first: dict[int, str] = {}
    found = {}
    for source in (model.named_parameters, model.named_buffers):
        for name, value in source(remove_duplicate=False):
            found[name] = first.setdefault(id(value), name)
    return found


def _aliases(model: nn.Module) -> dict[str, str]:
    return {name: first for name, first in canonical_names(model).items() if name != first}


def _tied(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    layers = packed_layers(model).items()
    owners = {name: first.setdefault(id(layer.weight), name) for name, layer in layers}
    return {name: owner for name, owner in owners.items() if name != owner}


def _record(layer: QuantLayer, packing: str | None, tied_to: str | None) -> OwnLayer:
    levels = layer.quantizer.levels
    residual = layer.quantizer.codes(layer.weight).residual if levels else None
    return OwnLayer(
        shape=tuple(layer.weight.shape),
        levels=levels,
        packing=packing_of(layer, packing) if levels else None,
        activation=activation_kind(layer),
        residual=len(residual.position) if residual else None,
        method=method_of(layer),
        tied_to=tied_to,
    )


def _paths(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [path for path, module in model.named_modules(remove_duplicate=False) if isinstance(module, kind)]


def _parts(model: nn.Module, tensors: dict[str, Tensor], size: int) -> dict[str, int]:
    parameters = {name for name, _ in model.named_parameters()}
    groups = {"codes": 0, "values_scales": 0, "residuals": 0, "float_parameters": 0, "buffers": 0}
    packed = packed_layers(model)
    for name, value in tensors.items():
        owner, _, part = name.rpartition(".")
        if owner in packed and part in PARTS:
            group = "codes" if part == "codes" else "residuals" if part in RESIDUAL else "values_scales"
        else:
            group = "float_parameters" if name in parameters else "buffers"
        groups[group] += value.nbytes
    return groups | {"header": size - sum(groups.values())}


def _check_calibrated(name: str, layer: QuantLayer) -> None:
    activation = layer.activation
    if isinstance(activation, StaticUint8) and float(activation.scale) == 1 and int(activation.zero) == 0:
        raise UsageError(f"the static activations of {name} have no range yet; call bitq.calibrate(model, data) first.")


def _check_state(model: nn.Module) -> None:
    """Refuse state that the file format cannot hold."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise UsageError(f"{name} is {type(value).__name__}; allowed in a packed file: tensors.")
        if value.dtype == torch.float64:
            raise UsageError(f"{name} is torch.float64, but floats ship in 32 bits; make it float32 first.")
        if value.dtype not in tensorfile.DTYPES:
            allowed = ", ".join(map(str, tensorfile.DTYPES))
            raise UsageError(f"{name} is {value.dtype}; allowed in a packed file: {allowed}.")
