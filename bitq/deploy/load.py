"""Load a network from its packed file alone."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.deploy import tensorfile
from bitq.deploy.blueprint import Blueprint, LayerRecord, parse
from bitq.deploy.export import (
    NOT_SHIPPED,
    activation_kind,
    float_state,
    lowbit_layers,
    packed_layers,
    scale_shapes,
    shape_and_type,
)
from bitq.deploy.pack import packed_bytes, unpack
from bitq.deploy.residual import RESIDUAL, unpack_residual
from bitq.deploy.stored import Stored
from bitq.errors import DataError, UsageError
from bitq.models.adapter import Geometry
from bitq.models.fold import fold
from bitq.models.layers import weight_layers
from bitq.models.registry import network
from bitq.quant.base import Codes
from bitq.quant.convert import convert
from bitq.quant.layers import QuantLayer
from bitq.quant.static import activation_named
from bitq.run import Calibration

Tensors = dict[str, Tensor]
Records = dict[str, LayerRecord]


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load the network in eval mode on the CPU, codes in place of latent weights, and the spec of its export."""
    tensors, meta = tensorfile.read(path)
    plan = parse(path, meta)
    # Built on the meta device, so that nothing is allocated that the file does not fill.
    model = _skeleton(path, plan)
    _compare_layers(path, model, plan.layers)
    _compare_tensors(path, model, plan.layers, tensors)
    _fill(path, model, plan.layers, tensors)
    return model.eval(), plan.spec.model_dump(mode="json")


def _skeleton(path: Path, plan: Blueprint) -> nn.Module:
    """Build the converted network on the meta device, in full precision wherever the file lists no layer."""
    spec = plan.spec
    try:
        geometry = Geometry.of(spec, spec.width, spec.stem)
        with torch.device("meta"):
            model = network(spec.model, geometry)
            calibration = spec.calibration or Calibration()
            if calibration.fold:
                fold(model)
            keep = weight_layers(model).keys() - plan.layers.keys()
            activation = activation_named(calibration.activations)
            return convert(model, spec.method, spec.settings, keep, spec.norm == "layer", activation)
    except (UsageError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} describes a network that cannot be built: {error}") from error


def _compare_layers(path: Path, model: nn.Module, records: Records) -> None:
    """Check that the quantized layers of the network are those that the file describes."""
    built = lowbit_layers(model)
    for name in sorted(built.keys() | records.keys()):
        layer, record = built.get(name), records.get(name)
        _check_equal(
            path, name, record and (record.shape, record.levels, record.activation), layer and _described(layer)
        )


def _described(layer: QuantLayer) -> tuple[tuple[int, ...], int | None, str | None]:
    return tuple(layer.weight.shape), layer.quantizer.levels, activation_kind(layer)


def _compare_tensors(path: Path, model: nn.Module, records: Records, tensors: Tensors) -> None:
    """Check that the file holds every tensor of the model in its shape and type, and no other."""
    expected = {name: shape_and_type(value) for name, value in float_state(model).items()}
    for name, layer in packed_layers(model).items():
        expected |= _packed_kinds(name, layer.weight.shape, records[name], tensors)
    for name in sorted(expected.keys() | tensors.keys()):
        _check_equal(path, name, shape_and_type(tensors[name]) if name in tensors else None, expected.get(name))


def _packed_kinds(name: str, shape: torch.Size, record: LayerRecord, tensors: Tensors) -> dict[str, str]:
    levels = record.levels or 0
    per_tensor, per_channel = scale_shapes(shape)
    is_per_tensor = f"{name}.scale" in tensors and tensors[f"{name}.scale"].shape == per_tensor
    length = packed_bytes(shape.numel(), levels, record.packing)
    return {
        f"{name}.codes": f"{(length,)} {torch.uint8}",
        f"{name}.values": f"{(levels,)} {torch.float32}",
        f"{name}.scale": f"{tuple(per_tensor if is_per_tensor else per_channel)} {torch.float32}",
    } | _residual_kinds(name, record, tensors)


def _residual_kinds(name: str, record: LayerRecord, tensors: Tensors) -> dict[str, str]:
    if record.residual is None:
        return {}
    gaps = tensors.get(f"{name}.residual_gaps", torch.empty(0))
    is_float = f"{name}.residual_values" in tensors and tensors[f"{name}.residual_values"].dtype == torch.float32
    return {
        f"{name}.residual_gaps": f"{(gaps.numel(),)} {torch.uint8}",  # their length is known only when decoded
        f"{name}.residual_values": f"{(record.residual,)} {torch.float32 if is_float else torch.int8}",
        f"{name}.residual_scale": f"() {torch.float32}",
    }


def _check_equal(path: Path, leaf: str, in_file: object, in_model: object) -> None:
    if in_file != in_model:
        found, wanted = (value or "nothing" for value in (in_file, in_model))
        raise DataError(f"{path}: {leaf}: file {found}, model {wanted}; export the model again.")


def _fill(path: Path, model: nn.Module, records: Records, tensors: Tensors) -> None:
    """Replace the tensors on the meta device by those of the file."""
    state = {name: torch.tensor(0) for name in model.state_dict() if name.endswith(NOT_SHIPPED)}
    state |= {name: tensors[name] for name in float_state(model)}
    for name in lowbit_layers(model):
        if f"{name}.weight" in state:  # of a float method, which may ship it in 16 bits
            state[f"{name}.weight"] = state[f"{name}.weight"].float()
    for name, layer in packed_layers(model).items():
        stored = _stored(path, name, layer.weight.shape, records[name], tensors)
        layer.quantizer = stored
        state[f"{name}.weight"] = stored(layer.weight)
    model.load_state_dict(state, assign=True)


def _stored(path: Path, name: str, shape: torch.Size, record: LayerRecord, tensors: Tensors) -> Stored:
    values, scale = tensors[f"{name}.values"], tensors[f"{name}.scale"]
    try:
        index = unpack(tensors[f"{name}.codes"], shape, len(values), record.packing)
        residual = None
        if record.residual:
            residual = unpack_residual({part: tensors[f"{name}.{part}"] for part in RESIDUAL}, shape.numel())
    except DataError as error:
        raise DataError(f"{path}: {name}.codes: {error}") from error
    return Stored(Codes(index, values, scale, residual), record.packing or "")
