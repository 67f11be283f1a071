"""Run a packed file fast on the CPU, in integers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bitq.errors import UsageError
from bitq.library.formats import check_example
from bitq.library.loading import load
from bitq.library.packing import SPEC

if TYPE_CHECKING:
    from bitq.infer.fast import Fast


def fast(path: str | os.PathLike[str], example: Tensor | None = None, *, into: nn.Module | None = None) -> "Fast":
    """Load a packed file as a network of integer kernels, each the fastest on this machine; for inference on the CPU.

    `example` is a batch of inputs of the size that is to be fast; any other size works too. A network of the grid knows
    its inputs, and is then made fast for one image. `into` is the fresh network that `load` asks for. `kernels` of what
    is returned names the kernel of each layer; "float" is one that is faster as it was.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> def fresh() -> nn.Module:
    ...     return nn.Sequential(nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 10))
    >>> net, x = quantize(fresh(), "bitnet").eval(), torch.randn(5, 8, 8, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(net, f"{folder}/net.safetensors")
    ...     quick = fast(f"{folder}/net.safetensors", x, into=fresh())
    >>> list(quick.kernels), torch.equal(quick(x).argmax(1), net(x).argmax(1))
    (['0', '3'], True)
    """
    from bitq.infer.fast import accelerated

    network = load(path, into)
    return accelerated(network, _inputs_of(Path(path), network) if example is None else check_example(example))


def _inputs_of(path: Path, network: nn.Module) -> Tensor:
    """Return an image of the size that a network of the grid takes."""
    spec = getattr(network, SPEC, None)
    if spec is None:
        raise UsageError(f"{path} does not say what it reads; give a batch of inputs: bitq.fast(path, x, into=model).")
    if spec["words"]:
        raise UsageError(
            f"{path} takes sentences beside images, but fast inference takes networks with images alone; run it as "
            "bitq.load returns it."
        )
    return torch.zeros(1, spec["channels"], spec["image_size"], spec["image_size"])
