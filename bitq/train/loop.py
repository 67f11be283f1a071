"""The one training loop, for plain and distilled runs alike."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.data.inputs import Inputs, cut
from bitq.data.loader import Batch, Batches
from bitq.deploy.audit import share_of_zeros
from bitq.deploy.export import packed_layers
from bitq.engine import code_sha256
from bitq.io import write_atomic
from bitq.machine import Machine, fingerprint
from bitq.precision import autocast
from bitq.quant.convert import quantized_layers
from bitq.results.folder import text
from bitq.results.schema import Divergence, History
from bitq.rng import derive
from bitq.run import Run
from bitq.train import checkpoint
from bitq.train.capture import Captured, HostState, record_on_cuda
from bitq.train.checkpoint import Checkpoint
from bitq.train.objective import Loss, cross_entropy, l1_at, loss_of, sum_of_sizes
from bitq.train.optimizer import build_optimizer, optimizer_state, restore_optimizer, set_lr
from bitq.train.progress import Progress
from bitq.train.schedule import lr_at
from bitq.train.signals import StopRequest

Curves = dict[str, list[float]]
HISTORY = "history.json"  # of an unfinished run, in the folder of its state
# Sums over the images of an epoch, on the device so that no step waits for it, in fp64 so that order does not matter.
SUMS = LOSS, CORRECT, HARD, SOFT, TEACHER, IMAGES = range(6)


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
    seconds: float = 0.0  # of earlier attempts, whatever they did
    training_seconds: float = 0.0  # of all attempts, evaluation and packing excluded
    curves: Curves = field(default_factory=dict)
    diverged: Divergence | None = None

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.trained = nn.ModuleDict({"model": self.model})
        if self.teacher is not None and self.online:
            self.trained["teacher"] = self.teacher
        self.optimizer = build_optimizer(self.trained, self.run.recipe)
        self.scaler = torch.amp.GradScaler(self.machine.device.type, enabled=self.run.precision == "fp16")
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in self.trained.named_parameters()}
        self.layers = quantized_layers(self.model)
        device = self.machine.device
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps of this epoch without finite gradients
        self.one = torch.ones((), device=device)
        self.captured = Captured(record_on_cuda if self.machine.captures else None, self.run.recipe.batch)

    @property
    def online(self) -> bool:
        """Return whether the teacher learns too, in the same loop."""
        return self.run.distillation is not None and self.run.distillation.teacher is None

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to train."""
        return self.epoch >= self.run.recipe.epochs or self.diverged is not None

    @property
    def wall_seconds(self) -> float:
        """Return the seconds of all attempts together."""
        return self.seconds + time.monotonic() - self.started

    @property
    def history(self) -> History:
        """Return the curves up to the last finished epoch."""
        return History.model_validate({name: self.curves.get(name, ()) for name in History.model_fields})

    def save(self) -> None:
        """Write a checkpoint of this very instant."""
        trained = {f"trained/{name}": value for name, value in self.trained.state_dict().items()}
        optimizer = {f"optimizer/{k}": v for k, v in optimizer_state(self.optimizer, self.names).items()}
        meta = {
            "run": self.run.hash,
            "made_by": self.made_by,
            "epoch": self.epoch,
            "step": self.step,
            "skipped": int(self.skipped),
            "scaler": self.scaler.state_dict(),
            "seconds": self.wall_seconds,
            "training_seconds": self.training_seconds,
            "curves": self.curves,
            "diverged": self.diverged.model_dump() if self.diverged else None,
        }
        checkpoint.save(self.folder, Checkpoint({**trained, **optimizer, "sums": self.sums}, meta))

    @property
    def made_by(self) -> list[str]:
        """Engine and kind of machine: bits of two of them do not belong in one result."""
        return [code_sha256(), fingerprint(self.machine)]

    def resume(self) -> bool:
        """Go back to the last checkpoint; return false if there is none, or none of this engine and kind of machine."""
        self.attempts = checkpoint.count_attempt(self.folder)
        saved = checkpoint.load(self.folder, self.run.hash)
        if saved is None:
            return False
        if saved.meta.get("made_by") != self.made_by:
            print(
                f"warning: {self.run.id} was begun by another engine or kind of machine; it starts over.",
                file=sys.stderr,
            )
            return False
        self.trained.load_state_dict(_below(saved.tensors, "trained/"))
        restore_optimizer(self.optimizer, self.names, _below(saved.tensors, "optimizer/"))
        self.sums.copy_(saved.tensors["sums"])
        self.scaler.load_state_dict(saved.meta["scaler"])
        self.epoch, self.step = saved.meta["epoch"], saved.meta["step"]
        self.skipped.fill_(saved.meta["skipped"])
        self.seconds = saved.meta["seconds"]
        self.training_seconds = saved.meta["training_seconds"]
        self.curves = saved.meta["curves"]
        self.diverged = Divergence(**saved.meta["diverged"]) if saved.meta["diverged"] else None
        return True

    def progress_to(self, epoch: float) -> None:
        """Tell the quantizers how much of the training is done."""
        for layer in self.layers.values():
            layer.quantizer.progress = epoch / self.run.recipe.epochs if self.run.recipe.epochs else 1.0

    def update(self, batch: Batch) -> Tensor:
        """Take a step, replayed where that can be; the sums over its images, which the next step may overwrite."""
        return self.captured(partial(train_step, self), batch, self.host_state)

    @property
    def host_state(self) -> HostState | None:
        """What the host decides of a step: a captured one holds while it stays equal. None: it asks the device."""
        states = [layer.quantizer.host_state for layer in self.layers.values()]
        if None in states:
            return None
        return (*states, l1_at(self.run.recipe, self.epoch) if self.run.recipe.l1 else 0.0)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def train(training: Training, test: Sequence[tuple[Inputs, Tensor]], stop: StopRequest, progress: Progress) -> None:
    """Train to the end, or until asked to stop: then raise Preempted, the state saved as of the last step.

    The state is saved between the training and the evaluation of an epoch: whatever ends the evaluation, it is done
    again from there.
    """
    while not training.finished:
        with stop.deferred():
            train_epoch(training, stop, progress)
            training.save()
        close_epoch(training, progress.watch("evaluating", test))
        if not training.diverged:
            write_atomic(training.folder / HISTORY, text(training.history))
            progress.epoch(training.epoch - 1, training.curves["train_loss"][-1], training.curves["test_accuracy"][-1])


def train_epoch(training: Training, stop: StopRequest, progress: Progress) -> None:
    """Train the rest of the current epoch, or until asked to stop."""
    steps, start = training.batches.steps, time.monotonic()
    training.model.train()
    progress.begin("training")
    for batch in training.batches.epoch(training.epoch, start=training.step):
        set_lr(training.optimizer, lr_at(training.run.recipe, training.epoch, training.step, steps))
        training.progress_to(training.epoch + training.step / steps)
        # Dropout and stochastic depth draw from torch's generator: seeded here, they too repeat after a restart.
        torch.manual_seed(derive(training.run.seed, "noise", training.epoch, training.step))
        training.sums += training.update(batch)
        training.step += 1
        progress.step(training.epoch, training.step, len(batch.y))
        if stop:
            break
    training.machine.synchronize()
    training.training_seconds += time.monotonic() - start


def train_step(training: Training, batch: Batch) -> Tensor:
    """Update the weights once; return the sums over the batch's images."""
    sums = torch.zeros_like(training.sums)
    for part in micro_batches(batch, training.run.recipe.batch // training.run.recipe.accumulate):
        loss, logits = forward(training, part)
        share = len(part.y) / len(batch.y)
        training.scaler.scale(loss.total if share == 1 else loss.total * share).backward()  # type: ignore[no-untyped-call]
        sums += _sums(loss, logits.detach(), part)
    if training.run.recipe.clip_norm:
        training.scaler.unscale_(training.optimizer)
        nn.utils.clip_grad_norm_(training.model.parameters(), training.run.recipe.clip_norm)
    _update(training)
    return sums


def _update(training: Training) -> None:
    scaled = training.scaler.scale(training.one) if training.scaler.is_enabled() else None
    training.scaler.step(training.optimizer)
    training.scaler.update()
    if scaled is not None:  # the scale shrinks when, and only when, a step is skipped
        training.skipped += training.scaler.scale(training.one) < scaled
    with torch.no_grad():
        for layer in training.layers.values():
            layer.quantizer.project_(layer.weight)
    training.optimizer.zero_grad()


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut the batch into parts of at most `size` images whose gradients add up to its own."""
    if len(batch.y) <= size:
        yield batch
        return
    for start in range(0, len(batch.y), size):
        end = start + size
        yield Batch(cut(batch.x, start, end), batch.y[start:end], batch.y_mix[start:end], batch.lam)


def forward(training: Training, batch: Batch) -> tuple[Loss, Tensor]:
    """Compute loss and logits of a batch in the run's precision."""
    with autocast(training.run.precision, training.machine.device):
        logits = training.model(batch.x).float()
        teacher_logits = _teach(training, batch.x)
    loss = loss_of(hard_loss(training.run, logits, batch), logits, teacher_logits, training.run.distillation)
    if training.run.recipe.l1:
        loss = loss.plus(l1_at(training.run.recipe, training.epoch) * sum_of_sizes(training.model))
    if training.online and teacher_logits is not None:
        loss = loss.with_teacher(hard_loss(training.run, teacher_logits, batch))
    return loss, logits


def hard_loss(run: Run, logits: Tensor, batch: Batch) -> Tensor:
    """Compute the cross-entropy with the labels."""
    return cross_entropy(logits, batch.y, batch.y_mix, batch.lam, run.recipe.label_smoothing)


def _teach(training: Training, x: Inputs) -> Tensor | None:
    with torch.set_grad_enabled(training.online):
        return None if training.teacher is None else training.teacher(x).float()


def _sums(loss: Loss, logits: Tensor, batch: Batch) -> Tensor:
    dominant = batch.y if batch.lam is None else torch.where(batch.lam >= 0.5, batch.y, batch.y_mix)
    zero = loss.total.new_zeros(())
    parts = (zero if part is None else part for part in (loss.total, loss.hard, loss.soft, loss.teacher))
    total, hard, soft, teacher = (part.detach().double() * len(batch.y) for part in parts)
    correct = (logits.argmax(1) == dominant).sum().double()
    return torch.stack([total, correct, hard, soft, teacher, torch.full_like(total, len(batch.y))])


def close_epoch(training: Training, test: Iterable[tuple[Inputs, Tensor]]) -> None:
    """Turn the epoch's sums into a point of the curves, or find that the run has diverged."""
    sums, steps = training.sums.tolist(), training.batches.steps
    point = {
        "lr": lr_at(training.run.recipe, training.epoch, steps - 1, steps),
        "train_loss": sums[LOSS] / sums[IMAGES],
        "train_accuracy": 100 * sums[CORRECT] / sums[IMAGES],
    }
    if training.teacher is not None:
        point |= {"hard_loss": sums[HARD] / sums[IMAGES], "soft_loss": sums[SOFT] / sums[IMAGES]}
    if training.online:
        point["teacher_loss"] = sums[TEACHER] / sums[IMAGES]
    if training.run.precision == "fp16":
        point |= {"loss_scale": training.scaler.get_scale(), "skipped_share": int(training.skipped) / steps}
    training.progress_to(training.epoch + 1)
    with autocast(training.run.precision, training.machine.device):
        point["test_loss"], point["test_accuracy"] = measure(training.model, test)
        if training.batches.held_out:
            point["validation_accuracy"] = measure(training.model, training.batches.held_out)[1]
    if packed_layers(training.model):
        point["zeros"] = share_of_zeros(training.model)
    training.diverged = _divergence(training, point)
    if not training.diverged:
        for name, value in point.items():
            training.curves.setdefault(name, []).append(value)
    training.sums.zero_()
    training.skipped.zero_()
    training.epoch, training.step = training.epoch + 1, 0


def _divergence(training: Training, point: dict[str, float]) -> Divergence | None:
    bad = [name for name, value in point.items() if not math.isfinite(value)]
    bad += [name for name, value in training.model.named_parameters() if not value.isfinite().all()]
    return Divergence(epoch=training.epoch, what=bad[0]) if bad else None


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[tuple[Inputs, Tensor]]) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy in percent, in eval mode."""
    model.eval()
    losses, right, images = [], [], 0
    for x, y in batches:
        logits = model(x).float()
        losses.append(functional.cross_entropy(logits, y, reduction="sum"))
        right.append((logits.argmax(1) == y).sum())
        images += len(y)
    # One batch after the other in fp64, all read at once.
    return sum(torch.stack(losses).tolist()) / images, 100 * sum(torch.stack(right).tolist()) / images
