"""The one training loop, for plain and distilled runs alike."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.data.loader import Batch, Batches
from bitq.errors import Preempted, UsageError
from bitq.grid.run import Run
from bitq.results.schema import Divergence
from bitq.rng import derive
from bitq.train import checkpoint
from bitq.train.checkpoint import Checkpoint
from bitq.train.device import Machine
from bitq.train.objective import Loss, cross_entropy, loss_of
from bitq.train.optimizer import build_optimizer, check_strides, optimizer_state, restore_optimizer, set_lr
from bitq.train.progress import Progress
from bitq.train.schedule import lr_at
from bitq.train.signals import StopRequest

Curves = dict[str, list[float]]
# Sums over the images of an epoch, on the device so that no step waits for it, in fp64 so that order does not matter.
LOSS, CORRECT, HARD, SOFT, IMAGES = range(5)


@dataclass
class Training:
    """A run in progress: everything that changes while it trains."""

    run: Run
    model: nn.Module
    batches: Batches
    machine: Machine
    folder: Path
    teacher: nn.Module | None = None
    epoch: int = 0
    step: int = 0
    attempts: int = 1
    seconds: float = 0.0  # of earlier attempts
    curves: Curves = field(default_factory=dict)
    diverged: Divergence | None = None

    def __post_init__(self) -> None:
        refuse_nonsense(self.run, self.model)
        self.optimizer = build_optimizer(self.model, self.run.recipe)
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        self.sums = torch.zeros(5, dtype=torch.float64, device=self.machine.device)

    @property
    def finished(self) -> bool:
        """Is there nothing left to train?"""
        return self.epoch >= self.run.recipe.epochs or self.diverged is not None

    def save(self, seconds: float = 0.0) -> None:
        """Write a checkpoint of this very instant."""
        model = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        optimizer = {f"optimizer/{k}": v for k, v in optimizer_state(self.optimizer, self.names).items()}
        meta = {
            "run": self.run.hash,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds + seconds,
            "curves": self.curves,
            "diverged": self.diverged.model_dump() if self.diverged else None,
        }
        checkpoint.save(self.folder, Checkpoint({**model, **optimizer, "sums": self.sums}, meta))

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        self.attempts = checkpoint.count_attempt(self.folder)
        saved = checkpoint.load(self.folder, self.run.hash)
        if saved is None:
            return
        self.model.load_state_dict(_below(saved.tensors, "model/"))
        restore_optimizer(self.optimizer, self.names, _below(saved.tensors, "optimizer/"))
        self.sums.copy_(saved.tensors["sums"])
        self.epoch, self.step = saved.meta["epoch"], saved.meta["step"]
        self.seconds = saved.meta["seconds"]
        self.curves = saved.meta["curves"]
        self.diverged = Divergence(**saved.meta["diverged"]) if saved.meta["diverged"] else None


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def refuse_nonsense(run: Run, model: nn.Module) -> None:
    """What no recipe can mean, before the first step."""
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if run.recipe.accumulate > 1 and batch_norm:
        raise UsageError(
            f"accumulate={run.recipe.accumulate} was given, but {run.model} normalises over the batch, so "
            "micro-batches would train another network; allowed: 1, or a model without that, such as convnext."
        )
    if run.recipe.batch == 1 and batch_norm:
        raise UsageError(f"batch=1 was given, but {run.model} normalises over the batch; give a batch of 2 or more.")


def train(training: Training, test: list[tuple[Tensor, Tensor]], stop: StopRequest, progress: Progress) -> None:
    """Train to the end, or until asked to stop (then the state is saved and Preempted raised)."""
    while not training.finished:
        train_epoch(training, stop, progress)
        close_epoch(training, test)
        if not training.diverged:
            progress.epoch(training.epoch - 1, training.curves["train_loss"][-1], training.curves["test_accuracy"][-1])
        training.save(progress.seconds)


def train_epoch(training: Training, stop: StopRequest, progress: Progress) -> None:
    """The rest of the current epoch."""
    model, steps = training.model.train(), training.batches.steps
    for batch in training.batches.epoch(training.epoch, start=training.step):
        set_lr(training.optimizer, lr_at(training.run.recipe, training.epoch, training.step, steps))
        # Dropout and stochastic depth draw from torch's generator: seeded here, they too repeat after a restart.
        torch.manual_seed(derive(training.run.seed, "noise", training.epoch, training.step))
        training.sums += train_step(training, model, batch)
        training.step += 1
        progress.step(training.epoch, training.step, len(batch.y))
        if stop:
            training.save(progress.seconds)
            raise Preempted(f"{training.run.id} was asked to stop and saved its state; start it again to go on.")


def train_step(training: Training, model: nn.Module, batch: Batch) -> Tensor:
    """One update of the weights; returns the sums over its images."""
    sums = torch.zeros_like(training.sums)
    for part in micro_batches(batch, training.run.recipe.batch // training.run.recipe.accumulate):
        loss, logits = forward(training, model, part)
        share = len(part.y) / len(batch.y)
        (loss.total if share == 1 else loss.total * share).backward()  # type: ignore[no-untyped-call]
        sums += _sums(loss, logits.detach(), part)
    if training.run.recipe.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), training.run.recipe.clip_norm)
    check_strides(training.optimizer) if training.step == 0 else None
    training.optimizer.step()
    training.optimizer.zero_grad()
    return sums


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in parts of at most `size` images whose gradients add up to its own."""
    if len(batch.y) <= size:
        yield batch
        return
    for start in range(0, len(batch.y), size):
        end = start + size
        yield Batch(batch.x[start:end], batch.y[start:end], batch.y_mix[start:end], batch.lam)


def forward(training: Training, model: nn.Module, batch: Batch) -> tuple[Loss, Tensor]:
    """Loss and logits of a batch, in the run's precision."""
    with autocast(training.run, training.machine):
        logits = model(batch.x).float()
        teacher_logits = _teach(training.teacher, batch.x)
    hard = cross_entropy(logits, batch.y, batch.y_mix, batch.lam, training.run.recipe.label_smoothing)
    return loss_of(hard, logits, teacher_logits, training.run.distillation), logits


@torch.no_grad()
def _teach(teacher: nn.Module | None, x: Tensor) -> Tensor | None:
    return None if teacher is None else teacher(x).float()


def autocast(run: Run, machine: Machine) -> torch.autocast:
    """bf16 where it is safe, for bf16 runs."""
    return torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=run.precision == "bf16")


def _sums(loss: Loss, logits: Tensor, batch: Batch) -> Tensor:
    dominant = batch.y if batch.lam >= 0.5 else batch.y_mix
    zero = loss.total.new_zeros(())
    parts = (loss.total, loss.hard if loss.hard is not None else zero, loss.soft if loss.soft is not None else zero)
    total, hard, soft = (part.detach().double() * len(batch.y) for part in parts)
    correct = (logits.argmax(1) == dominant).sum().double()
    return torch.stack([total, correct, hard, soft, torch.full_like(total, len(batch.y))])


def close_epoch(training: Training, test: list[tuple[Tensor, Tensor]]) -> None:
    """Turn the sums into a point of the curves, or find that the run has diverged."""
    sums = training.sums.tolist()
    point = {
        "lr": training.optimizer.param_groups[0]["lr"],
        "train_loss": sums[LOSS] / sums[IMAGES],
        "train_accuracy": 100 * sums[CORRECT] / sums[IMAGES],
    }
    if training.teacher is not None:
        point |= {"hard_loss": sums[HARD] / sums[IMAGES], "soft_loss": sums[SOFT] / sums[IMAGES]}
    with autocast(training.run, training.machine):
        point["test_loss"], point["test_accuracy"] = measure(training.model, test)
        if training.batches.held_out:
            point["validation_accuracy"] = measure(training.model, training.batches.held_out)[1]
    training.diverged = _divergence(training, point)
    if not training.diverged:
        for name, value in point.items():
            training.curves.setdefault(name, []).append(value)
    training.sums.zero_()
    training.epoch, training.step = training.epoch + 1, 0


def _divergence(training: Training, point: dict[str, float]) -> Divergence | None:
    bad = [name for name, value in point.items() if not math.isfinite(value)]
    bad += [name for name, value in training.model.named_parameters() if not value.isfinite().all()]
    return Divergence(epoch=training.epoch, what=bad[0]) if bad else None


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in percent, in eval mode."""
    model.eval()
    loss, correct, images = 0.0, 0, 0
    for x, y in batches:
        logits = model(x).float()
        loss += functional.cross_entropy(logits, y, reduction="sum").item()
        correct += int((logits.argmax(1) == y).sum())
        images += len(y)
    return loss / images, 100 * correct / images
