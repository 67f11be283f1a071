"""Audit a network against its declaration: levels counted on the decoded weights, bits on the stored bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.deploy.coverage import float_weights
from bitq.deploy.evaluate import inference
from bitq.deploy.export import (
    checked_codes,
    count_parameters,
    lowbit_layers,
    packed_layers,
    packed_names,
    shipped_tensors,
)
from bitq.deploy.load import load
from bitq.errors import Bug, DataError
from bitq.models import keep_patterns
from bitq.models.layers import matching_layers, weight_layers
from bitq.quant.base import Codes
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import QuantLayer
from bitq.quant.registry import METHODS
from bitq.results.schema import Audit, LayerAudit


def audit_file(path: Path) -> Audit:
    """Audit what a model file holds; one that quantizes less than it says is refused."""
    model, spec = load(path)
    reject_undeclared_float_layers(path, model, spec)
    return audit(model, path.stat().st_size)


def reject_undeclared_float_layers(path: Path, model: nn.Module, spec: Mapping[str, Any]) -> None:
    """Reject a file of a low-bit method with float layers that it does not declare as kept."""
    if METHODS[spec["method"]].weight is Fp32:
        return
    kept = matching_layers(model, keep_patterns(spec["model"], tuple(spec.get("keep", ()))))
    undeclared = weight_layers(model).keys() - lowbit_layers(model).keys() - kept.keys()
    if undeclared:
        named = min(undeclared) + (f" and {len(undeclared) - 1} more layers" if len(undeclared) > 1 else "")
        raise DataError(
            f"{path} is sold as {spec['method']}, but {named} ship in full precision and are not among the layers that "
            "it says it keeps; name them with --keep."
        )


def audit(model: nn.Module, file_bytes: int) -> Audit:
    """Audit a network whose file has `file_bytes` bytes."""
    tensors = shipped_tensors(model)
    layers = tuple(_layer(name, layer, tensors) for name, layer in packed_layers(model).items())
    packed = sum(layer.weights for layer in layers)
    in_float = sum(weight.numel() for weight in float_weights(model).values())
    bits = sum(layer.bits_per_weight * layer.weights for layer in layers)
    return Audit(
        layers=layers,
        packed_weights=packed,
        float_weights=in_float,
        coverage=packed / (packed + in_float),
        bits_per_packed_weight=bits / packed if packed else None,
        bits_per_parameter=8 * file_bytes / count_parameters(model),
    )


def _layer(name: str, layer: QuantLayer, tensors: dict[str, Tensor]) -> LayerAudit:
    codes = checked_codes(name, layer)
    weight = evaluation_weight(layer)
    levels, count = len(codes.values), weight.numel()
    histogram = tuple(codes.index.flatten().int().bincount(minlength=levels).tolist())
    most = most_values_under_a_scale(without_residual(weight, codes), codes.scale)
    if most > levels:
        raise Bug(f"{name}: {most} distinct weights under one scale, more than the {levels} levels it declares.")
    if not torch.equal(weight, codes.decode()):
        raise Bug(f"{name}: the weight used in evaluation is not the one that ships.")
    stored = sum(tensors[tensor].nbytes for tensor in packed_names(name, codes))
    return LayerAudit(
        name=name,
        levels=levels,
        codes_used=sum(count > 0 for count in histogram),
        values_per_scale=most,
        histogram=histogram,
        signs=tuple(codes.values.sign().int().tolist()),
        residual=len(codes.residual.position) if codes.residual else 0,
        weights=count,
        bits_per_weight=8 * stored / count,
        zeros=float((weight == 0).float().mean()),
    )


def without_residual(weight: Tensor, codes: Codes) -> Tensor:
    """Return the weight with the values of its codes alone where a residual is added."""
    if codes.residual is None:
        return weight
    flat, dense = weight.flatten().clone(), codes.dense().flatten()
    flat[codes.residual.position] = dense[codes.residual.position]
    return flat.view(weight.shape)


def share_of_zeros(model: nn.Module) -> float:
    """Compute the share of zeros among the weights that ship as codes."""
    weights = [evaluation_weight(layer) for layer in packed_layers(model).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def evaluation_weight(layer: QuantLayer) -> Tensor:
    """Compute ŵ as the layer's forward pass uses it in eval mode."""
    with inference(layer.quantizer):
        weight: Tensor = layer.quantizer(layer.weight)
    return weight


def most_values_under_a_scale(weight: Tensor, scale: Tensor) -> int:
    """Count the distinct values of the scale group that has most of them."""
    groups = weight.reshape(scale.numel(), -1).sort(dim=1).values
    return 1 + int((groups.diff(dim=1) != 0).sum(dim=1).max())
