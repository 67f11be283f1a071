"""Measure a packed file on its own."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitq.data.loader import evaluation_batches
from bitq.data.registry import variant as find_variant
from bitq.data.store import open_set
from bitq.deploy.audit import audit
from bitq.deploy.backends import ported
from bitq.deploy.coverage import coverage
from bitq.deploy.evaluate import Batches, evaluate, full_precision, predict
from bitq.deploy.export import float_bytes
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.train.device import machine
from bitq.train.prepare import EVALUATION_BATCH


def evaluate_file(
    path: Path, dataset: str | None, variant: str | None, device: str, backend: str | None = None
) -> dict[str, Any]:
    """Accuracy in fp32, bytes, level audit and coverage of a packed file; and what another engine makes of it."""
    model, spec = load(path)
    dataset = dataset or spec["dataset"]
    variant = variant or (spec["variant"] if dataset == spec["dataset"] else "official")
    found = find_variant(dataset, variant)
    if (found.classes, found.channels) != (spec["classes"], spec["channels"]):
        raise UsageError(
            f"{path} tells {spec['classes']} classes of {spec['channels']}-channel images apart, {dataset}/{variant} "
            f"has {found.classes} of {found.channels}; evaluate it on {spec['dataset']}."
        )
    if (found.words, found.vocabulary) != (spec["words"], spec["vocabulary"]):
        raise UsageError(
            f"{path} reads {spec['words']} words of {spec['vocabulary']} beside an image, {dataset}/{variant} has "
            f"{found.words} of {found.vocabulary}; evaluate it on {spec['dataset']}."
        )
    on = machine(device)
    on.prepare()
    images = open_set(found)
    batches = list(
        evaluation_batches(
            images.x_test, images.y_test, spec["normalisation"], EVALUATION_BATCH, on.device, images.t_test
        )
    )
    model = model.to(on.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    score = evaluate(model, batches)
    size, unpacked = path.stat().st_size, float_bytes(model, spec)
    return {
        "file": str(path),
        "run": spec.get("run"),
        "method": spec["method"],
        "dataset": dataset,
        "variant": variant,
        "accuracy": score.percent,
        "correct": score.correct,
        "images": score.total,
        "bytes": size,
        "float_bytes": unpacked,
        "compression": unpacked / size,
        "audit": audit(path).model_dump(mode="json"),
        "coverage": coverage(model, batches[0][0]).model_dump(mode="json"),
        "backend": compare(model, backend, batches) if backend else None,
    }


def compare(model: nn.Module, backend: str, batches: Batches) -> dict[str, Any]:
    """The same images under another engine: what it quantizes, and where it comes to another answer."""
    batches = list(batches)
    other = ported(model, backend, batches[0][0])
    ours, labels = predict(model, batches)
    with torch.no_grad(), full_precision():
        theirs = torch.cat([other.model(x).float() for x, _ in batches])  # type: ignore[arg-type]
    return {
        "name": backend,
        "layers": list(other.layers),
        "weights": other.weights,
        "multiplications": other.multiplications,
        "accuracy": 100 * float((theirs.argmax(1) == labels).float().mean()),
        "same_predictions": float((theirs.argmax(1) == ours.argmax(1)).float().mean()),
        "largest_difference": float((theirs - ours).abs().max()),
    }
