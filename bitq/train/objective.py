"""The loss that a run minimises."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.run import Distillation, Recipe


@dataclass(frozen=True)
class Loss:
    """The loss of a batch and, for distilled runs, its parts."""

    total: Tensor
    hard: Tensor | None = None
    soft: Tensor | None = None
    teacher: Tensor | None = None  # of a teacher that learns in the same loop

    def plus(self, term: Tensor) -> "Loss":
        """Add a penalty."""
        return replace(self, total=self.total + term)

    def with_teacher(self, term: Tensor) -> "Loss":
        """Add the loss of the teacher, whose weights no other term reaches."""
        return replace(self, total=self.total + term, teacher=term)


def cross_entropy(logits: Tensor, y: Tensor, y_mix: Tensor, lam: Tensor | None, smoothing: float) -> Tensor:
    """Compute λ·CE(y) + (1-λ)·CE(y_mix), each with smoothed labels; CE(y) alone without mixup."""
    first = functional.cross_entropy(logits, y, label_smoothing=smoothing)
    if lam is None:
        return first
    # Both weights are rounded once, from λ in fp64.
    second = functional.cross_entropy(logits, y_mix, label_smoothing=smoothing)
    return lam.to(first.dtype) * first + (1 - lam).to(first.dtype) * second


def distillation_term(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute T²·KL(softmax(teacher/T) ‖ softmax(student/T)), mean over the batch.

    >>> import torch
    >>> distillation_term(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), 4.0).item()
    0.0
    """
    student, teacher = (functional.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def loss_of(hard: Tensor, logits: Tensor, teacher_logits: Tensor | None, kd: Distillation | None) -> Loss:
    """Combine the losses to (1-α)·hard + α·soft; without a teacher return the hard loss."""
    if kd is None or teacher_logits is None:
        return Loss(hard)
    soft = distillation_term(logits, teacher_logits.detach(), kd.temperature)
    return Loss((1 - kd.alpha) * hard + kd.alpha * soft, hard, soft)


def l1_at(recipe: Recipe, epoch: int) -> float:
    """Return the weight of Σ|w|, which grows over the first half of the training and then stays.

    >>> [l1_at(Recipe(epochs=8, l1=1.0), epoch) for epoch in (0, 2, 4, 7)]
    [0.0, 0.5, 1.0, 1.0]
    """
    return recipe.l1 * min(1.0, epoch / (0.5 * recipe.epochs))


def sum_of_sizes(model: nn.Module) -> Tensor:
    """Sum |w| over every parameter called weight, those of normalisations too, as the published ATQ does."""
    return torch.stack([p.abs().sum() for name, p in model.named_parameters() if name.endswith("weight")]).sum()
