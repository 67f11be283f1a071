"""Measure a packed file on its own."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitq.data.loader import EVALUATION_BATCH, evaluation_batches
from bitq.data.registry import Variant
from bitq.data.registry import variant as find_variant
from bitq.data.store import open_set
from bitq.deploy.audit import audit_file
from bitq.deploy.blueprint import geometry_of, must_fit
from bitq.deploy.coverage import coverage
from bitq.deploy.evaluate import Batches, full_precision, one_byte_each, predict, score_of
from bitq.deploy.export import float_bytes
from bitq.deploy.load import load
from bitq.errors import DataError, UsageError
from bitq.interop.backends import ported
from bitq.io import write_atomic
from bitq.library.blueprint import check_of_grid
from bitq.machine import machine


def data_for(path: Path, spec: dict[str, Any], dataset: str | None, variant: str | None) -> Variant:
    """Find the images to show to a packed network: those it was trained on, or others of its shape and classes."""
    own, own_variant = spec.get("dataset"), spec.get("variant", "official")
    dataset = dataset or own
    if dataset is None or "normalisation" not in spec:
        raise UsageError(f"{path} does not say what images it was trained on; export it with those in its spec.")
    variant = variant or (own_variant if dataset == own else "official")
    found = find_variant(dataset, variant)
    remedy = f"evaluate it on {own}: --dataset {own} --variant {own_variant}"
    must_fit(f"{dataset}/{variant} does not suit {path}, which", spec, geometry_of(found), remedy)
    return found


def evaluate_file(
    path: Path,
    dataset: str | None,
    variant: str | None,
    device: str,
    backend: str | None = None,
    batch_size: int | None = None,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Measure a packed file's accuracy in fp32, bytes, levels and coverage, and what another engine makes of it.

    `predictions` is a file to write: the class that it gives each test image, as a run stores it.
    """
    check_of_grid(path)
    model, spec = load(path)
    found = data_for(path, spec, dataset, variant)
    on = machine(device)
    on.prepare()
    images = open_set(found)
    batches = list(
        evaluation_batches(
            images.x_test,
            images.y_test,
            spec["normalisation"],
            batch_size or EVALUATION_BATCH,
            on.device,
            images.t_test,
        )
    )
    model = model.to(on.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits, labels = predict(model, batches)
    score = score_of(logits, labels)
    if not score.finite:
        raise DataError(f"{path} answers with NaN or infinite logits, so it has no accuracy; train or import it again.")
    if predictions:
        write_atomic(predictions, one_byte_each(logits.argmax(1)))
    size, unpacked = path.stat().st_size, float_bytes(model, spec)
    return {
        "file": str(path),
        "run": spec.get("run"),
        "method": spec["method"],
        "dataset": found.dataset,
        "variant": found.name,
        "accuracy": score.percent,
        "correct": score.correct,
        "images": score.total,
        "bytes": size,
        "float_bytes": unpacked,
        "compression": unpacked / size,
        "audit": audit_file(path).model_dump(mode="json"),
        "coverage": coverage(model, batches[0][0]).model_dump(mode="json"),
        "backend": compare(model, backend, batches) if backend else None,
    }


def compare(model: nn.Module, backend: str, batches: Batches) -> dict[str, Any]:
    """Run the same images by another engine; return what it computes from integers and where its answers differ."""
    batches = list(batches)
    other = ported(model, backend, batches[0][0])
    ours, labels = predict(model, batches)
    with torch.no_grad(), full_precision():
        theirs = torch.cat([other.model(x).float() for x, _ in batches])
    return {
        "name": backend,
        "layers": list(other.layers),
        "weights": other.weights,
        "multiplications": other.multiplications,
        "accuracy": 100 * float((theirs.argmax(1) == labels).float().mean()),
        "same_predictions": float((theirs.argmax(1) == ours.argmax(1)).float().mean()),
        "largest_difference": float((theirs - ours).abs().max()),
    }
