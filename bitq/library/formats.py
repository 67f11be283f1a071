"""Write a packed file, of a network of one's own or of the grid, as ONNX or as C."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bitq.errors import UsageError
from bitq.library.loading import load

if TYPE_CHECKING:
    from bitq.interop.onnx_export import Comparison


def to_onnx(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    example: Tensor,
    *,
    into: nn.Module | None = None,
    opset: int = 25,
    weights: str = "narrow",
) -> "Comparison":
    """Write a packed file as an ONNX graph, and compare ONNX Runtime's logits with the network's on `example`.

    `example` is a batch of inputs such as those to come; `into` is the fresh network that `load` asks for. The graph's
    input is called `images`, its output `logits`. Nothing is written where a call computes something else, or the
    logits differ by more than rounding explains. `opset` and `weights` are those of `bitq export --format onnx`.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> def fresh() -> nn.Module:
    ...     return nn.Sequential(nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(quantize(fresh(), "twn"), f"{folder}/net.safetensors")
    ...     to_onnx(f"{folder}/net.safetensors", f"{folder}/net.onnx", torch.randn(5, 8), into=fresh()).same
    5
    """
    from bitq.interop.onnx_export import write_onnx

    traced_with = _two(example)
    return write_onnx(load(path, into), traced_with, example.cpu(), Path(target), opset, weights)


def to_c(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], example: Tensor, *, into: nn.Module | None = None
) -> dict[str, int]:
    """Write a packed file as C arrays with a reference inference, as `bitq export --format c` does; bytes by file.

    `example` is a batch of inputs such as those to come, which fixes their shape; `into` is the fresh network that
    `load` asks for.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(quantize(nn.Sequential(nn.Linear(8, 2)), "twn"), f"{folder}/net.safetensors")
    ...     list(to_c(f"{folder}/net.safetensors", folder, torch.randn(5, 8), into=nn.Sequential(nn.Linear(8, 2))))
    ['network.h', 'network.c', 'reference.h', 'reference.c', 'main.c']
    """
    from bitq.interop.c_export import write_c

    traced_with = _two(example)
    if not example.is_floating_point():
        raise UsageError(f"an example of {example.dtype} was given, but format c reads floats; use bitq.to_onnx.")
    return write_c(load(path, into), traced_with, Path(folder))


def _two(example: Tensor) -> Tensor:
    """Return the two inputs that a network is traced with."""
    check_example(example)
    return torch.cat([example, example])[:2].cpu()


def check_example(example: Tensor) -> Tensor:
    """Refuse what is no batch of inputs."""
    if not isinstance(example, Tensor) or example.dim() < 2 or not len(example):
        found = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise UsageError(f"the example is {found}; give a batch of inputs, such as torch.randn(16, 1, 28, 28).")
    return example
