"""The network of a run before its first step: equal initial weights for all arms of a seed, or those of a parent."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitq import models
from bitq.deploy.export import NOT_SHIPPED, packed_layers
from bitq.deploy.load import load
from bitq.errors import DataError, UsageError
from bitq.machine import Machine
from bitq.models.fold import fold
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.static import activation_named
from bitq.rng import derive
from bitq.run import Calibration, Run
from bitq.train.parents import check_same_quantization, check_start, check_teacher, parent_file
from bitq.train.validate import validate

NARROW = 8  # channels of the first stage: enough to build every network, at no cost
AS_TEACHER: dict[str, Any] = {"method": "fp32", "settings": {}, "keep": (), "start": None, "calibration": None}


def build_network(run: Run, machine: Machine, results: Path) -> nn.Module:
    """Build the network, give it its parent's weights if it has one, then quantize it."""
    check_stem(run)
    model = models.drawn(run.model, models.Geometry.of(run.data, run.width, run.stem), run.seed)
    start, spec = first_weights(run, results)
    method = spec.get("method")
    if method == "fp32":
        copy_state(model, start, run)
    quantize(model, run)
    validate(run, model)
    if method not in (None, "fp32"):
        check_same_quantization(run, spec, model, start)
        copy_state(model, start, run)  # latents and scalars of the very same method
        restore_latents(model, start)
    return model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def check_stem(run: Run) -> None:
    """Refuse a stem that the network does not have."""
    if run.stem != "cifar" and models.adapter(run.model).one_stem:
        raise UsageError(f"stem={run.stem} was given, but {run.model} has one stem; leave --stem out.")


def quantize(model: nn.Module, run: Run) -> None:
    """Fold and quantize a network in place, as the run describes it."""
    calibration = run.calibration or Calibration()
    if calibration.fold:
        fold(model)
    kept = models.matching_layers(model, models.keep_patterns(run.model, run.keep)) if run.keep else {}
    activation = activation_named(calibration.activations)
    convert(model, run.method, run.settings, kept, run.norm == "layer", activation)


def check_options(run: Run) -> None:
    """Reject a model, method, setting or recipe that cannot be built, without parents and in little memory."""
    narrow = {"width": min(run.width, NARROW), "start": None}
    build_network(run.model_copy(update=narrow), Machine(torch.device("cpu")), Path())


def build_teacher(run: Run, machine: Machine, results: Path) -> nn.Module | None:
    """Read the frozen teacher from its packed file, or build a fresh one, to be trained beside the student."""
    if run.distillation is None:
        return None
    parent = run.distillation.teacher
    if parent is None:
        own = {"seed": derive(run.seed, "teacher") % 2**31}  # its initial weights are not those of the student
        return build_network(run.model_copy(update=AS_TEACHER | own), machine, results)
    model, spec = load(parent_file(parent, run, results))
    check_teacher(run, parent, spec)
    model.requires_grad_(False).eval()
    return model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def first_weights(run: Run, results: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read the network that the run starts from and its spec; an empty one if its weights are drawn from the seed."""
    if run.start is None:
        return nn.Module(), {}
    start, spec = load(parent_file(run.start, run, results))
    check_start(run, run.start, spec)
    return start, spec


def copy_state(model: nn.Module, source: nn.Module, run: Run) -> None:
    """Give the network the weights and statistics of its start."""
    missing, unexpected = model.load_state_dict(source.state_dict(), strict=False)
    in_codes = tuple(f"{name}.quantizer." for name in packed_layers(source))
    known = [name for name in [*missing, *unexpected] if not name.startswith(in_codes)]
    odd = [name for name in known if not name.endswith(NOT_SHIPPED)]
    if odd:
        raise DataError(f"the start of {run.id} does not fit {run.model}: {odd[0]} is in only one of them.")


@torch.no_grad()
def restore_latents(model: nn.Module, source: nn.Module) -> None:
    """Recover trainable latents for the layers that the start shipped as codes."""
    own = quantized_layers(model)
    for name, layer in packed_layers(source).items():
        own[name].weight.copy_(own[name].quantizer.latent_from_codes(layer.quantizer.codes(layer.weight)))
