"""Evaluate a network in fp32 without autocast, the only precision in which accuracies are reported."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.errors import UsageError

Batches = Iterable[tuple[Inputs, Tensor]]  # (images as the network takes them, labels), on the network's device


@dataclass(frozen=True)
class Score:
    """Images classified correctly, of how many; `finite` if no logit was NaN or infinite."""

    correct: int
    total: int
    finite: bool = True

    @property
    def percent(self) -> float:
        """Top-1 accuracy in percent."""
        return 100 * self.correct / self.total


def evaluate(model: nn.Module, batches: Batches) -> Score:
    """Compute top-1 accuracy over all batches."""
    return score_of(*predict(model, batches))


def score_of(logits: Tensor, labels: Tensor) -> Score:
    """Count the images whose largest logit is that of their label."""
    correct = int((logits.argmax(1) == labels).sum())
    return Score(correct, len(labels), bool(logits.isfinite().all()))


def predict(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Compute the logits of all images in order, and return them with the labels."""
    with inference(model), full_precision():
        pairs = [(model(images).float(), labels) for images, labels in batches]
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits), torch.cat(labels)


def one_byte_each(classes: Tensor) -> bytes:
    """Write predicted classes or labels as one byte an image.

    >>> one_byte_each(torch.tensor([7, 0, 255])).hex()
    '0700ff'
    """
    if len(classes) and classes.max() > 255:
        raise UsageError(
            f"class {int(classes.max())} was given, but predictions are stored in a byte; allowed: 0 to 255."
        )
    return classes.to(torch.uint8).cpu().numpy().tobytes()


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradients, and restore the mode of each module afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch off autocast and TF32, which cuDNN takes for fp32 convolutions unless told otherwise."""
    kernels = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kernel.fp32_precision for kernel in kernels]
    with ExitStack() as off:
        for device in ("cpu", "cuda"):
            off.enter_context(torch.autocast(device, enabled=False))
        try:
            for kernel in kernels:
                kernel.fp32_precision = "ieee"
            yield
        finally:
            for kernel, precision in zip(kernels, before, strict=True):
                kernel.fp32_precision = precision
