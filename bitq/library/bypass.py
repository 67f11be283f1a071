"""Find quantized layers whose float weight is read by somebody else: what is computed with it is not quantized."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bitq.errors import UsageError
from bitq.quant.convert import quantized_layers

READS_GRADIENT = Tensor.__dict__.get("grad", torch._C.TensorBase.__dict__["grad"]).__get__


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradients, leave torch's generators as they were, and restore every module's mode."""
    training = [module for module in model.modules() if module.training]
    devices = {value.device for value in model.parameters() if value.is_cuda}
    model.eval()
    try:
        with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class _Reads(TorchFunctionMode):
    """Record which quantized weights are read while their own layer is not running."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers = quantized_layers(model)
        self.owners: dict[int, set[str]] = {}  # of each weight, by its id: several where it is tied
        for path, layer in self.layers.items():
            self.owners.setdefault(id(layer.weight), set()).add(path)
        self.running: list[str] = []
        self.found: dict[str, None] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func != READS_GRADIENT and _has_tensors(result):
            for value in _tensors([*args, *(kwargs or {}).values()]):
                owners = self.owners.get(id(value), set())
                if owners and not owners.intersection(self.running):
                    self.found |= dict.fromkeys(sorted(owners))
        return result

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note which layer runs."""
        handles = []
        for path, layer in self.layers.items():
            begin = partial(_note, self.running, path)  # before the hooks that project the latent
            handles.append(layer.register_forward_pre_hook(begin, prepend=True))
            handles.append(layer.register_forward_hook(lambda *_: self.running.pop() and None))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


def _note(running: list[str], path: str, *_: Any) -> None:
    running.append(path)


def _tensors(values: list[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(list(value))


def _has_tensors(value: Any) -> bool:
    return next(_tensors([value]), None) is not None


def bypassed(model: nn.Module, *inputs: Any, **options: Any) -> list[str]:
    """Run the network once and list the quantized layers whose weight is read without calling them.

    >>> from bitq.quant.convert import convert
    >>> class Careless(nn.Module):
    ...     def __init__(self) -> None:
    ...         super().__init__()
    ...         self.called, self.read = nn.Linear(4, 4), nn.Linear(4, 4)
    ...     def forward(self, x: Tensor) -> Tensor:
    ...         return self.called(x) @ self.read.weight.T
    >>> bypassed(convert(Careless(), "twn"), torch.ones(1, 4))
    ['read']
    """
    reads = _Reads(model)
    with evaluating(model), reads.watching():
        model.forward(*inputs, **options)
    return list(reads.found)


def check_every_layer_is_called(model: nn.Module, *inputs: Any, **options: Any) -> None:
    """Refuse a network that reads the weight of a quantized layer instead of calling the layer."""
    if names := bypassed(model, *inputs, **options):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UsageError(
            f"the weight of {names[0]}{more} is read by the network without a call of that layer, so that it would "
            f"not be quantized there; call the layer, or keep it when you quantize: keep={names!r}."
        )


def check_at_first_call(model: nn.Module) -> None:
    """Have the network checked when it is first called, by one more pass in eval mode."""
    if _check_once not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_check_once, with_kwargs=True)


def _check_once(model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
    # A function of the module, not a closure over one: a deep copy of the network checks itself.
    if torch.compiler.is_compiling():
        return
    check_every_layer_is_called(model, *inputs, **options)
    for key in [key for key, hook in model._forward_pre_hooks.items() if hook is _check_once]:
        del model._forward_pre_hooks[key]
        model._forward_pre_hooks_with_kwargs.pop(key, None)
