"""From trained weights to a result: write the packed file, read it back, and measure that."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from bitq.deploy.audit import audit
from bitq.deploy.evaluate import Score, evaluate
from bitq.deploy.export import export, float_bytes
from bitq.deploy.verify import verify
from bitq.errors import Bug
from bitq.grid.run import Run
from bitq.io import sha256
from bitq.results.folder import MODEL, folder_of, publish, text
from bitq.results.schema import Env, History, Packed, Results
from bitq.train.device import code_sha256, fingerprint, versions
from bitq.train.loop import Training
from bitq.train.prepare import spec_of

TestSet = list[tuple[Tensor, Tensor]]


def finish(training: Training, test: TestSet, results: Path, seconds: float) -> Results:
    """Publish the run's four files and its model."""
    run, folder = training.run, folder_of(training.run, results)
    history = History.model_validate({name: training.curves.get(name, ()) for name in History.model_fields})
    packed, in_memory = (None, None) if training.diverged else ship(training, test, folder)
    outcome = results_of(training, history, packed, in_memory)
    publish(folder, run, outcome, history, env_of(training, seconds))
    return outcome


def ship(training: Training, test: TestSet, folder: Path) -> tuple[Packed, Score]:
    """Export, read back, hold against the model in memory bit for bit, and measure what was read."""
    path = folder / MODEL
    model = training.model.eval()
    exported = export(model, spec_of(training.run), path)
    shipped = verify(model, path, test[0][0], torch.bfloat16 if training.run.precision == "bf16" else None)
    from_file, in_memory = evaluate(shipped, test), evaluate(model, test)
    unpacked = float_bytes(model)
    packed = Packed(
        accuracy=from_file.percent,
        correct=from_file.correct,
        images=from_file.total,
        file_bytes=exported.file_bytes,
        float_bytes=unpacked,
        compression=unpacked / exported.file_bytes,
        parts=exported.parts,
        sha256=exported.sha256,
        audit=audit(shipped, exported.file_bytes),
    )
    return packed, in_memory


def results_of(training: Training, history: History, packed: Packed | None, in_memory: Score | None) -> Results:
    """The record of what this run must reproduce."""
    run, curve = training.run, history.test_accuracy
    if packed and in_memory and (packed.correct, packed.images) != (in_memory.correct, in_memory.total):
        raise Bug(
            f"{run.id}: the packed file gets {packed.correct} images right, the network in memory {in_memory.correct}."
        )
    return Results(
        id=run.id,
        hash=run.hash,
        parents=run.parents,
        status="done" if packed else "diverged",
        diverged=training.diverged,
        accuracy=in_memory.percent if in_memory else None,
        best_accuracy=max(curve) if curve else None,
        best_epoch=curve.index(max(curve)) if curve else None,
        collapsed=collapsed(packed, run) if packed and run.scale != "smoke" else None,
        packed=packed,
        weights_digest=weights_digest(training.model) if packed else None,
        config_sha256=sha256(text(run)),
        history_sha256=sha256(text(history)),
    )


def collapsed(packed: Packed, run: Run) -> bool:
    """Is the accuracy within three standard errors of chance?"""
    chance = 1 / run.data.classes
    error = math.sqrt(chance * (1 - chance) / packed.images)
    return packed.accuracy / 100 <= chance + 3 * error


def weights_digest(model: nn.Module) -> str:
    """One digest over all parameters and buffers by name, whatever their memory format."""
    parts = [
        f"{name}:{sha256(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())}"
        for name, value in sorted(model.state_dict().items())
    ]
    return sha256("\n".join(parts))


def env_of(training: Training, seconds: float) -> Env:
    """Where and how fast it ran."""
    machine, total = training.machine, training.seconds + seconds
    images = len(training.batches.y) * len(training.curves.get("lr", ()))
    return Env(
        wall_seconds=round(total, 3),
        images_per_second=round(images / total, 1) if images else None,
        attempts=training.attempts,
        device=str(machine.device),
        machine=fingerprint(machine),
        threads=machine.threads,
        mode=machine.mode,
        versions=versions(),
        code_sha256=code_sha256(),
    )
