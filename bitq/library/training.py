"""What a training loop of one's own has to tell a quantized network and its optimizer."""

from typing import Any

import torch
from torch import nn

from bitq.errors import UsageError
from bitq.quant.base import Quantizer, check_share
from bitq.quant.convert import quantized_layers
from bitq.quant.layers import QuantLayer
from bitq.train.optimizer import undecayed


def set_progress(model: nn.Module, done: float) -> None:
    """Tell the quantizers which share of the training is done, from 0 to 1; call it before each step.

    Methods with a schedule follow it: the share of zeros of `atq`, the steepness of `parq` and `irnet`, the width of
    `ring`. Without a call they train as at the end of the training. What a method projects after a step, such as the
    positions of `ring`, is projected here at the latest.

    >>> from bitq.library.quantize import quantize
    >>> net = quantize(nn.Sequential(nn.Linear(8, 8)), "atq", settings={"schedule": "linear", "sparsity": 0.5})
    >>> set_progress(net, 0.35)
    >>> round(net[0].quantizer.sparsity_now(), 3)   # half-way from 0.05 at the start to 0.5 at 70 %
    0.275
    """
    check_share("the progress of the training", done)
    layers = quantized_layers(model)
    if not layers:
        raise UsageError("this network has no quantized layer; call bitq.quantize(model, method) first.")
    for layer in layers.values():
        project(layer)
        layer.quantizer.progress = float(done)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group a network's trainable parameters for an optimizer, weight decay where the methods allow it.

    The scales and thresholds of quantizers do not decay, nor do latents that are no weights; all else does.

    >>> from bitq.library.quantize import quantize
    >>> groups = parameter_groups(quantize(nn.Sequential(nn.Linear(4, 2)), "lsq"), weight_decay=1e-4)
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]   # weight and bias; the step
    [(0.0001, 2), (0.0, 1)]
    >>> optimizer = torch.optim.SGD(groups, lr=0.1)
    """
    if weight_decay < 0:
        raise UsageError(f"weight_decay={weight_decay} was given; it must be 0 or more, such as 5e-4.")
    # Below another name, since the engine's names of a teacher's parameters begin with "teacher.".
    exempt = {name.removeprefix("model.") for name in undecayed(nn.ModuleDict({"model": model}))}
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for name, value in named if name not in exempt], "weight_decay": float(weight_decay)},
        {"params": [value for name, value in named if name in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def project(layer: QuantLayer) -> None:
    """Project a layer's latent onto its allowed range if a step has changed it, as the method wants it after each."""
    if not _projects(layer):
        return
    latent, last = layer.weight.detach(), layer.__dict__.get("last_latent")
    # By value: fused optimizers change a parameter without counting its version.
    if last is not None and last.device == latent.device and torch.equal(last, latent):
        return
    projected = latent.clone()
    layer.quantizer.project_(projected)
    if not torch.equal(projected, latent):  # what a tied layer projected already must not be written to again
        with torch.no_grad():
            layer.weight.copy_(projected)
    layer.__dict__["last_latent"] = projected


def project_before_each_call(model: nn.Module) -> None:
    """Have latents projected that changed since they last were, whatever loop changes them."""
    for layer in quantized_layers(model).values():
        if _projects(layer):
            layer.__dict__["last_latent"] = layer.weight.detach().clone()
            if _project_if_changed not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_project_if_changed)


def _projects(layer: QuantLayer) -> bool:
    own = type(layer.quantizer).project_ is not Quantizer.project_
    return own and bool(getattr(layer.quantizer, "boosted", True))  # atq projects only what it boosts


def _project_if_changed(layer: Any, _: tuple[Any, ...]) -> None:
    if not torch.compiler.is_compiling():
        project(layer)
