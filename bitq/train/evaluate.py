"""Measure a packed file on its own."""

from pathlib import Path
from typing import Any

import torch

from bitq.data.loader import evaluation_batches
from bitq.data.registry import variant as find_variant
from bitq.data.store import open_set
from bitq.deploy.audit import audit
from bitq.deploy.evaluate import evaluate
from bitq.deploy.export import float_bytes
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.train.device import machine
from bitq.train.prepare import EVALUATION_BATCH


def evaluate_file(path: Path, dataset: str | None, variant: str | None, device: str) -> dict[str, Any]:
    """Accuracy in fp32, bytes and level audit of a packed file."""
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
    batches = evaluation_batches(
        images.x_test, images.y_test, spec["normalisation"], EVALUATION_BATCH, on.device, images.t_test
    )
    model = model.to(on.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    score = evaluate(model, batches)
    size, unpacked = path.stat().st_size, float_bytes(model)
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
    }
