"""From trained weights to a result: write the packed file, read it back, and measure that."""

import math
from pathlib import Path

import torch
from torch import nn

from bitq.deploy.audit import audit
from bitq.deploy.blueprint import spec_of
from bitq.deploy.coverage import cast_layers, coverage
from bitq.deploy.evaluate import Score, evaluate, one_byte_each, predict, score_of
from bitq.deploy.export import export, float_bytes, lowbit_layers
from bitq.deploy.verify import verify
from bitq.engine import code_sha256
from bitq.errors import Bug, DataError
from bitq.io import read_bytes, sha256, write_atomic
from bitq.machine import fingerprint, versions
from bitq.quant.cast import counting
from bitq.results.folder import MODEL, folder_of, publish, read, text
from bitq.results.predictions import PREDICTIONS, store_labels
from bitq.results.schema import Divergence, Env, History, Packed, Results
from bitq.run import Run
from bitq.train.images import TestSet
from bitq.train.loop import Training
from bitq.train.memory import peak_memory


def finish(training: Training, test: TestSet, results: Path) -> Results:
    """Measure the trained network and publish the run's records, its predictions and its model."""
    run, folder = training.run, folder_of(training.run, results)
    training.progress_to(run.recipe.epochs)
    in_memory = None if training.diverged else evaluate(training.model.eval(), test)
    if in_memory and not in_memory.finite:
        training.diverged, in_memory = Divergence(epoch=run.recipe.epochs - 1, what="logits in fp32"), None
    packed = ship(training, test, training.folder, in_memory) if in_memory else None
    outcome = results_of(training, training.history, packed)
    check_repeats(folder, outcome)
    if packed:
        store_labels(results, labels_of(test))
        for name in (MODEL, PREDICTIONS):
            write_atomic(folder / name, read_bytes(training.folder / name))
    publish(folder, run, outcome, training.history, env_of(training))
    return outcome


def check_repeats(folder: Path, outcome: Results) -> None:
    """Refuse to replace a result by another one of the same run: its children learned from the first."""
    if not (folder / "results.json").exists():
        return
    there = read(folder).results
    if (there.packed and there.packed.sha256) != (outcome.packed and outcome.packed.sha256):
        raise DataError(
            f"{folder} holds the result of this run, whose packed file is absent, and the run came out different here; "
            "copy the file from where it was trained, or delete the folder to train the run and its children again."
        )


def ship(training: Training, test: TestSet, folder: Path, in_memory: Score) -> Packed:
    """Export, read back, compare with the network in memory bit for bit, measure what was read, store predictions."""
    path, model = folder / MODEL, training.model
    spec = spec_of(training.run)
    exported = export(model, spec, path)
    shipped = verify(model, path, test[0][0], training.run.precision)
    with counting(shipped):
        logits, labels = predict(shipped, test)
    score, predictions = score_of(logits, labels), one_byte_each(logits.argmax(1))
    if score != in_memory:
        raise Bug(f"{path} gets {score.correct} images right, the network in memory {in_memory.correct}.")
    write_atomic(folder / PREDICTIONS, predictions)
    unpacked = float_bytes(model, spec)
    return Packed(
        accuracy=score.percent,
        correct=score.correct,
        images=score.total,
        file_bytes=exported.file_bytes,
        float_bytes=unpacked,
        compression=unpacked / exported.file_bytes,
        parts=exported.parts,
        sha256=exported.sha256,
        predictions_sha256=sha256(predictions),
        labels_sha256=sha256(labels_of(test)),
        audit=audit(shipped, exported.file_bytes),
        coverage=coverage(shipped, test[0][0]) if lowbit_layers(shipped) else None,
        casts=cast_layers(shipped),
    )


def labels_of(test: TestSet) -> bytes:
    """Return the labels of the test images in stored order, one byte each."""
    return one_byte_each(torch.cat([labels for _, labels in test]))


def results_of(training: Training, history: History, packed: Packed | None) -> Results:
    """Record what this run must reproduce."""
    run, curve = training.run, history.test_accuracy
    return Results(
        id=run.id,
        hash=run.hash,
        parents=run.parents,
        status="done" if packed else "diverged",
        diverged=training.diverged,
        accuracy=packed.accuracy if packed else None,
        best_accuracy=max(curve) if curve else None,
        best_epoch=curve.index(max(curve)) if curve else None,
        collapsed=collapsed(packed, run) if packed and run.scale != "smoke" else None,
        packed=packed,
        weights_digest=weights_digest(training.model) if packed else None,
        config_sha256=sha256(text(run)),
        history_sha256=sha256(text(history)),
    )


def collapsed(packed: Packed, run: Run) -> bool:
    """Return whether the accuracy is within three standard errors of chance."""
    chance = 1 / run.data.classes
    error = math.sqrt(chance * (1 - chance) / packed.images)
    return packed.accuracy / 100 <= chance + 3 * error


def weights_digest(model: nn.Module) -> str:
    """Digest all parameters and buffers by name, whatever their memory format."""
    parts = [
        f"{name}:{sha256(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())}"
        for name, value in sorted(model.state_dict().items())
    ]
    return sha256("\n".join(parts))


def env_of(training: Training) -> Env:
    """Record where and how fast the run was trained."""
    machine, images = training.machine, len(training.batches.y) * training.epoch
    return Env(
        wall_seconds=round(training.wall_seconds, 3),
        images_per_second=round(images / training.training_seconds, 1) if images else None,
        peak_memory_bytes=peak_memory(machine.device),
        attempts=training.attempts,
        device=str(machine.device),
        machine=fingerprint(machine),
        threads=machine.threads,
        mode=machine.mode,
        versions=versions(),
        code_sha256=code_sha256(),
    )
