"""Results that look like those of training and took microseconds: a run's files keep every promise, without torch."""

import random
from collections.abc import Iterable
from pathlib import Path

from bitq.io import sha256, write_atomic
from bitq.results.folder import MODEL, folder_of, publish, text
from bitq.results.predictions import PREDICTIONS, store_labels
from bitq.results.schema import Audit, Divergence, Env, History, LayerAudit, Packed, Results
from bitq.run import Run

IMAGES = 500
LAYERS = {"resnet18": 21, "resnet50": 54}
FLOATS = ("fp32", "fp16", "bf16", "ring_legacy")  # methods that ship no codes


def model_bytes(run: Run) -> bytes:
    """Stands for the packed file of a run."""
    return random.Random(run.hash).randbytes(1000)


def labels_of(run: Run) -> bytes:
    """Labels of the test images, one class after the other."""
    return bytes(index % run.data.classes for index in range(IMAGES))


def predictions_of(run: Run) -> bytes:
    """The first images classified correctly, all others as the class after that of their label."""
    correct, labels, classes = correct_of(run), labels_of(run), run.data.classes
    return labels[:correct] + bytes((label + 1) % classes for label in labels[correct:])


def correct_of(run: Run) -> int:
    """How many images are classified correctly."""
    return random.Random(run.hash).randrange(IMAGES)


def history_of(run: Run, epochs: int) -> History:
    """Random curves, all that the run's recipe calls for."""
    draw = random.Random(run.hash).random
    names = ["lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    names += ["hard_loss", "soft_loss"] if run.distillation else []
    names += ["validation_accuracy"] if run.recipe.validation else []
    names += ["zeros"] if layers_of(run) else []
    names += ["loss_scale", "skipped_share"] if run.precision == "fp16" else []
    names += ["teacher_loss"] if run.distillation and not run.distillation.teacher else []
    percent = {name: 100 if name.endswith("accuracy") else 1 for name in names}
    curves = {name: tuple(scale * draw() for _ in range(epochs)) for name, scale in percent.items()}
    return History.model_validate({"hard_loss": (), "soft_loss": ()} | curves)


def layers_of(run: Run) -> int:
    """How many layers ship as codes."""
    return 0 if run.method in FLOATS else LAYERS.get(run.model, 5)


def audit_of(run: Run) -> Audit:
    """Layers as ternary ones are; none for the float network."""
    draw = random.Random(run.hash).random
    names = [f"layer{index}" for index in range(layers_of(run))]
    layers = tuple(
        LayerAudit(
            name=name,
            levels=3,
            codes_used=3,
            values_per_scale=3,
            histogram=(1, 2, 3),
            signs=(-1, 0, 1),
            weights=576 + 16 * len(name),
            bits_per_weight=1.6,
            zeros=draw(),
        )
        for name in names
    )
    weights = sum(layer.weights for layer in layers)
    return Audit(
        layers=layers,
        packed_weights=weights,
        float_weights=0 if layers else 576,
        coverage=1.0 if layers else 0.0,
        bits_per_packed_weight=1.6 if layers else None,
        bits_per_parameter=2.5,
    )


def packed_of(run: Run) -> Packed:
    """A file of 1,000 bytes that gets a random share of the images right."""
    correct, content = correct_of(run), model_bytes(run)
    parts = {"codes": 700, "values_scales": 15, "residuals": 5, "float_parameters": 80, "buffers": 50, "header": 150}
    return Packed(
        accuracy=100 * correct / IMAGES,
        correct=correct,
        images=IMAGES,
        file_bytes=len(content),
        float_bytes=12_345,
        compression=12_345 / len(content),
        parts=parts,
        sha256=sha256(content),
        predictions_sha256=sha256(predictions_of(run)),
        labels_sha256=sha256(labels_of(run)),
        audit=audit_of(run),
    )


def results_of(run: Run, history: History, packed: Packed | None) -> Results:
    """The results that go with a history; without a packed file, the run diverged where the history ends."""
    curve = history.test_accuracy
    return Results(
        id=run.id,
        hash=run.hash,
        parents=run.parents,
        status="done" if packed else "diverged",
        diverged=None if packed else Divergence(epoch=len(curve), what="train_loss"),
        accuracy=packed.accuracy if packed else None,
        best_accuracy=max(curve, default=None),
        best_epoch=curve.index(max(curve)) if curve else None,
        packed=packed,
        weights_digest=sha256(run.hash) if packed else None,
        config_sha256=sha256(text(run)),
        history_sha256=sha256(text(history)),
    )


def env_of(run: Run) -> Env:
    """One kind of machine; the times differ."""
    return Env(
        wall_seconds=random.Random(run.hash).random(),
        peak_memory_bytes=random.Random(run.hash).randrange(2**30),
        images_per_second=1660.7,
        attempts=1,
        device="cpu",
        machine="x86_64 AVX512 no-amx",
        threads=1,
        mode="exact",
        versions={"python": "3.11.7", "torch": "2.15.0"},
        code_sha256=sha256("code"),
    )


def pretend(run: Run, root: Path, diverged_in: int | None = None) -> None:
    """Write the files of a run as if it had been trained."""
    history = history_of(run, run.recipe.epochs if diverged_in is None else diverged_in)
    packed = packed_of(run) if diverged_in is None else None
    folder = folder_of(run, root)
    if packed:
        write_atomic(folder / MODEL, model_bytes(run))
        write_atomic(folder / PREDICTIONS, predictions_of(run))
        store_labels(root, labels_of(run))
    publish(folder, run, results_of(run, history, packed), history, env_of(run))


def pretend_all(runs: Iterable[Run], root: Path) -> None:
    """Write all runs."""
    for run in runs:
        pretend(run, root)
