"""Export a trained network as the file that ships: codes for quantized weights, fp32 for everything else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.deploy import tensorfile
from bitq.deploy.blueprint import LayerRecord, blueprint
from bitq.deploy.pack import checked_packing, pack
from bitq.deploy.residual import RESIDUAL, is_valid, pack_residual
from bitq.errors import Bug
from bitq.quant.base import Codes
from bitq.quant.convert import quantized_layers
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import QuantLayer

# Batch normalisation's step counter, which evaluation does not use.
NOT_SHIPPED = "num_batches_tracked"


@dataclass(frozen=True)
class Exported:
    """The written file: its size, its digest, and its bytes by component."""

    file_bytes: int
    sha256: str
    parts: dict[str, int]


def export(model: nn.Module, spec: Mapping[str, Any], path: Path, packing: str | None = None) -> Exported:
    """Write `model` to `path`. `spec` says what rebuilds and evaluates it (see `blueprint.Spec`)."""
    tensors = shipped_tensors(model, packing)
    records = {name: _record(layer, packing) for name, layer in lowbit_layers(model).items()}
    meta = blueprint(dict(spec), records).model_dump(mode="json")
    digest = tensorfile.write(path, tensors, meta)
    size = path.stat().st_size
    return Exported(size, digest, _parts(model, tensors, size))


def shipped_tensors(model: nn.Module, packing: str | None = None) -> dict[str, Tensor]:
    """Collect the tensors that ship."""
    tensors = float_state(model)
    for name, layer in packed_layers(model).items():
        codes = checked_codes(name, layer)
        tensors[f"{name}.codes"] = pack(codes.index, len(codes.values), packing_of(layer, packing))
        tensors[f"{name}.values"], tensors[f"{name}.scale"] = codes.values, codes.scale
        if codes.residual:
            tensors |= {f"{name}.{part}": value for part, value in pack_residual(codes.residual).items()}
    return tensors


def packed_names(name: str, codes: Codes) -> list[str]:
    """List the tensors that ship in place of a layer's weight."""
    parts = ("codes", "values", "scale", *(RESIDUAL if codes.residual else ()))
    return [f"{name}.{part}" for part in parts]


def float_bytes(model: nn.Module, spec: Mapping[str, Any]) -> int:
    """Compute the size of the same network as an fp32 file, written by the same writer under the same name."""
    plain = blueprint({**spec, "method": "fp32", "settings": {}, "keep": [], "calibration": None}, {})
    state = _network_state(model).items()
    tensors = {name: _as_shipped(value.to("meta")) for name, value in state}
    return tensorfile.measure(tensors, plain.model_dump(mode="json"))


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of the network without those of its quantizers."""
    state = _network_state(model)
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name in state)


def lowbit_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Find the layers whose weights are quantized or cast."""
    return {name: layer for name, layer in quantized_layers(model).items() if not isinstance(layer.quantizer, Fp32)}


def packed_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Find the layers that ship as codes."""
    return {name: layer for name, layer in lowbit_layers(model).items() if layer.quantizer.levels is not None}


def float_state(model: nn.Module) -> dict[str, Tensor]:
    """Collect what ships beside the codes: all state but latent weights and parameters of their quantizers."""
    packed = packed_layers(model)
    latent = {f"{name}.weight" for name in packed}
    scalars = tuple(f"{name}.quantizer." for name in packed)
    state = _state(model).items()
    floats = {name: _as_shipped(value) for name, value in state if name not in latent and not name.startswith(scalars)}
    for name, layer in lowbit_layers(model).items():
        if name not in packed:
            floats[f"{name}.weight"] = layer.quantizer.shipped(floats[f"{name}.weight"])
    return floats


def _network_state(model: nn.Module) -> dict[str, Tensor]:
    """Collect the state of the network without its quantizers."""
    added = tuple(f"{name}.{part}." for name in quantized_layers(model) for part in ("quantizer", "activation"))
    return {name: value for name, value in _state(model).items() if not name.startswith(added)}


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.endswith(NOT_SHIPPED)}


def _as_shipped(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def packing_of(layer: QuantLayer, packing: str | None = None) -> str:
    """Choose the packing: the one given, else the one that the layer was read from, else the densest."""
    quantizer = layer.quantizer
    return checked_packing(quantizer.levels or 0, packing or getattr(quantizer, "packing", None))


def checked_codes(name: str, layer: QuantLayer) -> Codes:
    """Compute the codes of a layer, and check them against its declared levels and the allowed scales."""
    with torch.no_grad():
        codes = layer.quantizer.codes(layer.weight)
    weight, levels = layer.weight, layer.quantizer.levels
    if codes.index.shape != weight.shape or codes.index.dtype != torch.uint8:
        raise Bug(
            f"{name}: codes are {shape_and_type(codes.index)}, not uint8 of the weight's shape {tuple(weight.shape)}."
        )
    if codes.values.shape != (levels,) or codes.values.dtype != torch.float32:
        raise Bug(f"{name}: declares {levels} levels, but ships values {shape_and_type(codes.values)}.")
    if codes.scale.shape not in scale_shapes(weight.shape) or codes.scale.dtype != torch.float32:
        allowed = " or ".join(map(str, map(tuple, scale_shapes(weight.shape))))
        raise Bug(
            f"{name}: ships scales {shape_and_type(codes.scale)}; its {levels} levels allow {allowed} in float32."
        )
    if codes.residual and not is_valid(codes.residual, weight.numel()):
        raise Bug(
            f"{name}: ships a residual that is no ascending list of positions below {weight.numel()} "
            "with int8 or fp32 values."
        )
    return codes


def scale_shapes(weight: torch.Size) -> tuple[torch.Size, torch.Size]:
    """Return the shapes of a scale per tensor and per output channel; finer scales would be further levels."""
    return torch.Size(), torch.Size([weight[0]] + [1] * (len(weight) - 1))


def shape_and_type(tensor: Tensor) -> str:
    """Format shape and type for messages."""
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _record(layer: QuantLayer, packing: str | None) -> LayerRecord:
    residual = layer.quantizer.codes(layer.weight).residual if layer.quantizer.levels else None
    return LayerRecord(
        shape=tuple(layer.weight.shape),
        levels=layer.quantizer.levels,
        packing=packing_of(layer, packing) if layer.quantizer.levels else None,
        activation=activation_kind(layer),
        residual=len(residual.position) if residual else None,
    )


def activation_kind(layer: QuantLayer) -> str | None:
    """Return the class of the layer's activation quantizer, or None."""
    return type(layer.activation).__name__ if layer.activation is not None else None


def _parts(model: nn.Module, tensors: Mapping[str, Tensor], size: int) -> dict[str, int]:
    parameters = {name for name, _ in model.named_parameters()}
    packed = packed_layers(model)
    groups = {
        "codes": {f"{name}.codes" for name in packed},
        "values_scales": {f"{name}.{part}" for name in packed for part in ("values", "scale")},
        "residuals": {f"{name}.{part}" for name in packed for part in RESIDUAL}.intersection(tensors),
    }
    groups["float_parameters"] = {name for name in tensors if name in parameters}
    groups["buffers"] = set(tensors).difference(*groups.values())
    parts = {part: sum(tensors[name].nbytes for name in names) for part, names in groups.items()}
    return parts | {"header": size - sum(parts.values())}
