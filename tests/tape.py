"""What a CUDA graph does, on a CPU: the operations of a call are recorded and run again over the same memory.

Whatever Python decided while recording is fixed in it, so a step that would be wrong when replayed on a GPU is wrong
here too. Also the list of operations that make a GPU and its host wait for each other.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bitq.train.capture import Record
from bitq.train.loop import Training

# Reading a value, finding how many there are, a tensor made of Python numbers: each waits for the device, or is no
# kernel that could be captured.
WAITING = {
    "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select",
    "aten::_unique2", "aten::unique_dim", "aten::bincount", "aten::lift_fresh", "aten::repeat_interleave",
}  # fmt: skip


class Tape(TorchDispatchMode):
    """Records every operation on tensors below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @property
    def waiting(self) -> list[str]:
        """The operations that make host and device wait, in order."""
        return [name for func, args, _, _ in self.calls if (name := name_of(func)) in WAITING or by_mask(func, args)]

    def replay(self) -> None:
        """Run everything again and put each result where it lay."""
        with torch.no_grad():
            for func, args, kwargs, recorded in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(recorded), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def name_of(func: Any) -> str:
    return str(func._schema.name)


def by_mask(func: Any, args: tuple[Any, ...]) -> bool:
    """Indexing by a mask looks up how many places it holds, unless one number is put into all of them."""
    if name_of(func) not in ("aten::index", "aten::index_put", "aten::index_put_"):
        return False
    masks = any(isinstance(one, Tensor) and one.dtype == torch.bool for one in tree_leaves(args[1]))
    return masks and (name_of(func) == "aten::index" or args[2].numel() > 1)


def recorder(training: Training) -> Record:
    """Stand in for `record_on_cuda`: a graph does not run what it records, so what the step changed is put back."""

    def record(call: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        before = [(tensor, tensor.detach().clone()) for tensor in state_of(training)]
        noise = torch.get_rng_state()
        with Tape() as tape:
            result = call()
        torch.set_rng_state(noise)
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        return result, tape.replay

    return record


def state_of(training: Training) -> list[Tensor]:
    """Everything that a step changes."""
    trained = list(training.trained.state_dict(keep_vars=True).values())
    moments = [value for state in training.optimizer.state.values() for value in state.values()]
    scaler = [training.scaler._scale, training.scaler._growth_tracker] if training.scaler.is_enabled() else []
    return [value for value in (*trained, *moments, training.skipped, *scaler) if isinstance(value, Tensor)]
