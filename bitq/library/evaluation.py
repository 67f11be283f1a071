"""Measure a packed file on data of one's own."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.deploy.evaluate import Score
from bitq.deploy.evaluate import evaluate as evaluate_batches
from bitq.errors import DataError, UsageError
from bitq.library.loading import load
from bitq.machine import machine


def evaluate(
    path: str | os.PathLike[str],
    data: Iterable[tuple[Any, Tensor]],
    into: nn.Module | None = None,
    device: str = "cpu",
) -> Score:
    """Compute the top-1 accuracy of a packed file in fp32 on batches of (inputs, labels), as a DataLoader yields them.

    It is measured on the file as read back; `into` is the fresh network that `load` asks for.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> def fresh() -> nn.Module:
    ...     return nn.Sequential(nn.Linear(2, 2, bias=False))
    >>> net = fresh()
    >>> _ = net[0].weight.data.copy_(torch.eye(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(quantize(net, "twn"), f"{folder}/net.safetensors")
    ...     data = [(torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 1.0]]), torch.tensor([0, 1, 1]))]
    ...     evaluate(f"{folder}/net.safetensors", data, into=fresh())
    Score(correct=2, total=3, finite=True)
    """
    on = _device(device)
    score = evaluate_batches(load(path, into).to(on), _moved(data, on))
    if not score.finite:
        raise DataError(f"{path} answers with NaN or infinite logits, so it has no accuracy; train it again.")
    return score


def _device(name: str) -> torch.device:
    try:
        return machine(str(name)).device
    except UsageError as error:
        raise UsageError(str(error).replace("--device ", "device=")) from None


def _moved(data: Iterable[Any], device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
    empty = True
    for batch in data:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[1], Tensor):
            raise UsageError("data has to yield pairs of inputs and labels, both tensors, as a DataLoader does.")
        inputs, labels = batch
        empty = False
        moved = inputs.to(device) if isinstance(inputs, Tensor) else tuple(each.to(device) for each in inputs)
        yield moved, labels.to(device)
    if empty:
        raise UsageError("data yields no batch; give batches of inputs and labels, or a DataLoader.")
