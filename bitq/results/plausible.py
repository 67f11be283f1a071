"""Find what cannot be true of a run although its files fit each other: curves, predictions and sizes that disagree."""

from collections.abc import Iterator
from pathlib import Path

from bitq.results.folder import MODEL, Finished
from bitq.results.predictions import PREDICTIONS, count_equal, outside
from bitq.results.schema import PARTS, History, Packed, Results
from bitq.run import Run


def implausible(run: Finished, labels: bytes | None) -> Iterator[str]:
    """Yield what cannot be true of a run although its files fit each other; without `labels`, they are not compared."""
    yield from _implausible_curves(run.config, run.results, run.history)
    if run.results.parents != run.config.parents:
        yield "results.json and config.json name different parents"
    if "torch" not in run.env.versions:
        yield "env.json does not say which torch it ran on"
    if run.results.packed:
        yield from _implausible_file(run.results.packed, run.folder / MODEL)
        if run.results.packed.accuracy != run.results.accuracy:
            yield "the packed file and the network in memory have different accuracies"
        yield from _implausible_predictions(run.results.packed, run.predictions or b"", run.config.data.classes, labels)
    for name in (MODEL, PREDICTIONS):
        if not run.results.packed and (run.folder / name).exists():
            yield f"{name} lies beside a run that diverged and ships nothing"


def _curves_of(run: Run, results: Results, history: History) -> set[str]:
    """Name the curves that such a run has."""
    curves = {"lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    if run.distillation:
        curves |= {"hard_loss", "soft_loss"} | (set() if run.distillation.teacher else {"teacher_loss"})
    if run.recipe.validation:
        curves.add("validation_accuracy")
    if run.precision == "fp16":
        curves |= {"loss_scale", "skipped_share"}
    # Whether a network ships codes is known from its file; of one that diverged it is not.
    ships_codes = bool(results.packed.audit.layers) if results.packed else bool(history.zeros)
    return curves | ({"zeros"} if ships_codes else set())


def _implausible_curves(run: Run, results: Results, history: History) -> Iterator[str]:
    epochs, wanted = len(history.test_accuracy), _curves_of(run, results, history)
    for name, curve in history:
        if len(curve) != (epochs if name in wanted else 0):
            yield f"the curve {name} has {len(curve)} epochs, not {epochs if name in wanted else 0}"
        if name.endswith("accuracy") and curve and not 0 <= min(curve) <= max(curve) <= 100:
            yield f"the curve {name} leaves 0 … 100 percent"
    if epochs > run.recipe.epochs:
        yield f"history has {epochs} epochs, the recipe {run.recipe.epochs}"
    best = max(history.test_accuracy, default=None)
    if (results.best_accuracy, results.best_epoch) != (best, history.test_accuracy.index(best) if epochs else None):
        yield "the best epoch is not where the history has its maximum"


def _implausible_predictions(packed: Packed, predictions: bytes, classes: int, labels: bytes | None) -> Iterator[str]:
    if len(predictions) != packed.images:
        yield f"{PREDICTIONS} holds {len(predictions)} predictions, but results.json counts {packed.images} images"
    elif beyond := outside(predictions, classes):
        yield f"{PREDICTIONS} names class {beyond[0]}, and the {classes} classes end at {classes - 1}"
    elif labels is not None and len(labels) != len(predictions):
        yield f"{PREDICTIONS} holds {len(predictions)} predictions for {len(labels)} labels"
    elif labels is not None and count_equal(predictions, labels) != packed.correct:
        right = count_equal(predictions, labels)
        yield f"{PREDICTIONS} gets {right} images right, but results.json counts {packed.correct} correct"


def _implausible_file(packed: Packed, model: Path) -> Iterator[str]:
    correct, images, size = packed.correct, packed.images, packed.file_bytes
    if not 0 <= correct <= images or packed.accuracy != 100 * correct / max(images, 1):
        yield f"accuracy {packed.accuracy} is not {correct} of {images} images"
    if packed.parts.keys() != set(PARTS) or sum(packed.parts.values()) != size:
        yield f"the parts of the file do not add up to its {size} bytes"
    if packed.compression != packed.float_bytes / max(size, 1):
        yield f"compression {packed.compression} is not {packed.float_bytes} over {size} bytes"
    if sum(layer.weights for layer in packed.audit.layers) != packed.audit.packed_weights:
        yield "the audited layers do not add up to the packed weights"
    if model.exists() and model.stat().st_size != size:
        yield f"{MODEL} does not have the {size} bytes that results.json says"
