"""Capture a whole training step on a GPU: one launch instead of hundreds, the same arithmetic."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bitq.data.inputs import Inputs
from bitq.data.loader import Batch

HostState = tuple[Any, ...]
Step = Callable[[Batch], Tensor]  # updates the weights, returns the sums over the images of its batch
# Records the kernels of a call without running them; returns where its result will lie and what runs them.
Record = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]

# Steps of one host state before one is recorded: libraries choose kernels and make their workspaces in them.
EAGER_STEPS = 3


class Captured:
    """Run steps operation by operation until the host decides nothing new, then replay a recording of one.

    The recording reads and writes the same memory each time: batches are copied into it, weights, optimizer state,
    learning rate, loss scale and sums lie where they lay. What Python decided while it recorded is fixed: that is the
    host state, and with another one the recording is dropped. Batches of another size are never replayed.
    """

    def __init__(self, record: Record | None, batch: int) -> None:
        """`record` is None where nothing is captured; `batch` is the size of the batches that are."""
        self.record, self.batch = record, batch
        self.state: HostState | None = None
        self.steps = 0  # since it last changed
        self.recording: tuple[Batch, Tensor, Callable[[], None]] | None = None

    def __call__(self, step: Step, batch: Batch, state: HostState | None) -> Tensor:
        """Take the step."""
        if self.record is None or state is None or len(batch.y) != self.batch:
            self._admit(state)
            return step(batch)
        if state != self.state:
            self.state, self.steps, self.recording = state, 0, None
        self.steps += 1
        if self.steps <= EAGER_STEPS:
            return beside_the_default_stream(step, batch)
        if self.recording is None:
            inputs = own_memory(batch)
            self.recording = (inputs, *self.record(lambda: step(inputs)))
        inputs, sums, replay = self.recording
        fill(inputs, batch)
        replay()
        return sums

    def _admit(self, state: HostState | None) -> None:
        """Say once that no step will be replayed."""
        if self.record is not None and state is None:
            print("note: steps run operation by operation: a quantizer reads a value on the device.", file=sys.stderr)
            self.record = None


def record_on_cuda(call: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """Record into a CUDA graph. Dropout draws from the default generator, which the graph takes its seed from."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return result, graph.replay


def beside_the_default_stream(step: Step, batch: Batch) -> Tensor:
    """Take a step as it will be recorded: on a stream of its own, as no recording may touch the default one."""
    if not batch.y.is_cuda:
        return step(batch)
    stream, default = torch.cuda.Stream(batch.y.device), torch.cuda.current_stream(batch.y.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(default)
    with torch.cuda.stream(stream):
        sums = step(batch)
    default.wait_stream(stream)
    return sums


def own_memory(batch: Batch) -> Batch:
    """Copy a batch, each tensor with its strides."""
    x = batch.x.clone() if isinstance(batch.x, Tensor) else (batch.x[0].clone(), batch.x[1].clone())
    lam = None if batch.lam is None else batch.lam.clone()
    return replace(batch, x=x, y=batch.y.clone(), y_mix=batch.y_mix.clone(), lam=lam)


def fill(inputs: Batch, batch: Batch) -> None:
    """Put a batch where a recording reads it."""
    for place, value in zip(tensors_of(inputs), tensors_of(batch), strict=True):
        place.copy_(value)


def tensors_of(batch: Batch) -> list[Tensor]:
    """List the tensors of a batch."""
    return [*parts(batch.x), batch.y, batch.y_mix, *(() if batch.lam is None else (batch.lam,))]


def parts(x: Inputs) -> tuple[Tensor, ...]:
    """List the tensors of an input."""
    return (x,) if isinstance(x, Tensor) else x
