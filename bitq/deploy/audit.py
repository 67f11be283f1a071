"""Does a network hold what its name says? Levels counted on the decoded weights, bits on the stored bytes."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bitq.deploy import tensorfile
from bitq.deploy.evaluate import inference
from bitq.deploy.export import checked_codes, contents, packed_layers, packed_names, parameters
from bitq.deploy.load import load
from bitq.errors import Bug
from bitq.models.layers import weight_layers
from bitq.quant.base import Codes
from bitq.quant.layers import QuantLayer
from bitq.results.schema import Audit, LayerAudit


def audit(subject: nn.Module | Path, file_bytes: int | None = None) -> Audit:
    """Audit a model file, or a network whose file has `file_bytes`; without them, as many as its tensors would take."""
    if isinstance(subject, Path):
        return _audit(load(subject)[0], subject.stat().st_size)
    return _audit(subject, file_bytes or tensorfile.measure(contents(subject), {}))


def _audit(model: nn.Module, size: int) -> Audit:
    tensors = contents(model)
    layers = tuple(_layer(name, layer, tensors) for name, layer in packed_layers(model).items())
    weights = sum(model.get_parameter(f"{name}.weight").numel() for name in weight_layers(model))
    packed = sum(layer.weights for layer in layers)
    bits = sum(layer.bits_per_weight * layer.weights for layer in layers)
    return Audit(
        layers=layers,
        packed_weights=packed,
        float_weights=weights - packed,
        coverage=packed / weights,
        bits_per_packed_weight=bits / packed if packed else None,
        bits_per_parameter=8 * size / parameters(model),
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
        residual=len(codes.residual.position) if codes.residual else 0,
        weights=count,
        bits_per_weight=8 * stored / count,
        zeros=float((weight == 0).float().mean()),
    )


def without_residual(weight: Tensor, codes: Codes) -> Tensor:
    """Where a residual lies on top, the weight is what the codes alone say; everywhere else it is itself."""
    if codes.residual is None:
        return weight
    flat, dense = weight.flatten().clone(), codes.dense().flatten()
    flat[codes.residual.position] = dense[codes.residual.position]
    return flat.view(weight.shape)


def share_of_zeros(model: nn.Module) -> float:
    """Among the weights that ship as codes."""
    weights = [evaluation_weight(layer) for layer in packed_layers(model).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def evaluation_weight(layer: QuantLayer) -> Tensor:
    """ŵ as the layer's forward pass uses it in eval mode."""
    with inference(layer.quantizer):
        weight: Tensor = layer.quantizer(layer.weight)
    return weight


def most_values_under_a_scale(weight: Tensor, scale: Tensor) -> int:
    """Distinct values of the scale group that has most of them."""
    groups = weight.reshape(scale.numel(), -1).sort(dim=1).values
    return 1 + int((groups.diff(dim=1) != 0).sum(dim=1).max())
