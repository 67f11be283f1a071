"""The optimizer: which parameters decay, and how its state survives a restart."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from bitq.errors import Bug
from bitq.quant.base import Quantizer
from bitq.quant.convert import quantized_layers
from bitq.run import Recipe

TEACHER = "teacher."  # the names of its parameters beside those of the student


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """Build fused SGD, Adam or AdamW.

    Weight decay reaches every parameter but those whose quantizer forbids it, and no teacher that learns beside its
    student.
    """
    exempt = undecayed(model)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in exempt], "weight_decay": recipe.weight_decay},
        {"params": [p for name, p in named if name in exempt], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    lr = lr_tensor(recipe.lr, named[0][1].device)
    if recipe.optimizer != "sgd":
        kind, on_gpu = AdamW if recipe.optimizer == "adamw" else Adam, lr.is_cuda
        adam = kind(groups, lr=lr, fused=True, capturable=on_gpu)
        adam._warned_capturable_if_run_uncaptured = True  # its first steps are not captured, and need not be
        return adam
    sgd = SGD(groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.nesterov and recipe.momentum > 0, fused=True)
    if recipe.momentum:
        # Left to itself, a fused first step that loss scaling skips leaves its buffers as unwritten memory.
        for _, p in named:
            sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return sgd


def undecayed(model: nn.Module) -> set[str]:
    """Name the parameters without weight decay.

    These are the scalars of quantizers, unless the original method decays them, latents that must not shrink, and all
    of a teacher trained in the same loop: that of the published ATQ has no decay.
    """
    owners = {name: module for name, module in model.named_modules() if isinstance(module, Quantizer)}
    scalars = {
        f"{owner}.{name}"
        for owner, module in owners.items()
        if not module.decay_scalars
        for name, _ in module.named_parameters()
    }
    latents = {f"{name}.weight" for name, layer in quantized_layers(model).items() if not layer.quantizer.decay_latent}
    teacher = {name for name, _ in model.named_parameters() if name.startswith(TEACHER)}
    return scalars | latents | teacher


def optimizer_state(optimizer: Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Return the optimizer's state by parameter name."""
    return {
        f"{names[p]}/{key}": value
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]) -> None:
    """Restore the state in the memory format of its parameter.

    A fused step over a state with other strides than its parameter is silently wrong, and load_state_dict keeps the
    strides of the file.
    """
    parameters = {name: p for p, name in names.items()}
    for full_name, value in saved.items():
        name, _, key = full_name.rpartition("/")
        p = parameters[name]
        # The fused kernels keep AdamW's step count, which has another shape, on the device of its parameter.
        own = torch.empty_like(p) if value.shape == p.shape else torch.empty_like(value, device=p.device)
        optimizer.state[p][key] = own.copy_(value)
    check_strides(optimizer)


def check_strides(optimizer: Optimizer) -> None:
    """Refuse a state that has other strides than its parameter."""
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == p.shape and _strides(value) != _strides(p):
                raise Bug(f"optimizer state {key!r} has strides {value.stride()}, its parameter {p.stride()}.")


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides that matter: those of dimensions longer than one."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def lr_tensor(lr: float, device: torch.device) -> Tensor:
    """Make the rate a tensor beside the parameters, so that it can change under a captured step.

    The fused kernels read fp32 on a GPU; on a CPU they take the number itself, in fp64.
    """
    return torch.tensor(lr, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set one learning rate for all groups."""
    for group in optimizer.param_groups:
        group["lr"].fill_(lr)
