"""Verify that the file computes what the network in memory computes, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs, device_of
from bitq.deploy.audit import evaluation_weight
from bitq.deploy.evaluate import full_precision, inference
from bitq.deploy.export import float_state, packed_layers
from bitq.deploy.load import load
from bitq.errors import Bug
from bitq.precision import autocast
from bitq.run import Precision


def verify(model: nn.Module, path: Path, images: Inputs, precision: Precision = "fp32") -> nn.Module:
    """Read the file back and compare every weight, then the logits of `images` in fp32 and in the training precision.

    `images` lie on the model's device in the layout that it was trained in. Returns the network that was read, on that
    device and in that layout: what is measured from here on is the file.
    """
    stored: nn.Module = load(path)[0].to(device_of(images), memory_format=_layout(model))  # type: ignore[call-overload]
    _compare_weights(path, model, stored)
    in_fp32: Precision = "fp32"
    for each in dict.fromkeys((in_fp32, precision)):
        with inference(model), full_precision(), autocast(each, device_of(images)):
            if not torch.equal(model(images), stored(images)):
                layer = _first_difference(model, stored, images)
                raise Bug(f"{path}: the logits differ from those in memory in {each}, first after {layer}.")
    return stored


def _layout(model: nn.Module) -> torch.memory_format:
    kernels = [weight for weight in model.parameters() if weight.dim() == 4 and not weight.is_contiguous()]
    last = bool(kernels) and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    return torch.channels_last if last else torch.contiguous_format


def _compare_weights(path: Path, model: nn.Module, stored: nn.Module) -> None:
    in_memory, in_file = _weights(model), _weights(stored)
    # In the model's order: the first difference may be the cause of the others.
    order = [name for name in model.state_dict() if name in in_memory]
    for name in [*order, *(in_file.keys() - in_memory.keys())]:
        if name not in in_memory or name not in in_file or not torch.equal(in_memory[name], in_file[name]):
            raise Bug(f"{path}: {name} differs from the one in memory.")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Collect everything that ships, as evaluation uses it."""
    packed = {f"{name}.weight": evaluation_weight(layer) for name, layer in packed_layers(model).items()}
    return float_state(model) | packed


def _first_difference(model: nn.Module, stored: nn.Module, images: Inputs) -> str:
    """Find the first module whose output differs, which points to the cause."""
    with _recorded_outputs(model) as one, _recorded_outputs(stored) as other:
        model(images), stored(images)
    shared = [name for name in one if name in other]
    return next((name for name in shared if not torch.equal(one[name], other[name])), "the last layer")


@contextmanager
def _recorded_outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of all modules in the order in which they finish, inner ones first."""
    outputs: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs[names[module]] = output

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
