"""A look at what ships: every method's file, written, read back and run."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from bitq import models
from bitq.data.loader import evaluation_batches
from bitq.data.store import open_set
from bitq.deploy.evaluate import inference, predict
from bitq.deploy.export import export, packed_layers
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.library.blueprint import check_of_grid
from bitq.measure.packed_file import data_for
from bitq.quant.convert import convert
from bitq.quant.registry import METHODS

MODEL, WIDTH = "resnet20", 8


def tour() -> list[dict[str, Any]]:
    """Pack an untrained network by every method; return its levels, its bytes and its class for random pixels."""
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return [_shown(method, image) for method in METHODS]


def _shown(method: str, image: torch.Tensor) -> dict[str, Any]:
    network = convert(models.build(MODEL, 10, WIDTH), method).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        written = export(network, {"model": MODEL, "classes": 10, "width": WIDTH, "method": method}, path)
        shipped, _ = load(path)
    with inference(shipped):
        says = int(shipped(image).argmax())
    levels = {layer.quantizer.levels for layer in packed_layers(shipped).values()}
    return {
        "method": method,
        "levels": ", ".join(map(str, sorted(levels))) or "float",  # type: ignore[type-var]
        "bytes": written.file_bytes,
        "says": says,
    }


def classify(path: Path, index: int, dataset: str | None = None, variant: str | None = None) -> dict[str, Any]:
    """Classify one test image by a packed file, of the data that it was trained on unless others are named."""
    check_of_grid(path)
    model, spec = load(path)
    found = data_for(path, spec, dataset, variant)
    images = open_set(found)
    if not 0 <= index < len(images.y_test):
        raise UsageError(f"--image {index} was given; allowed for {found.dataset}: 0 to {len(images.y_test) - 1}.")
    here = slice(index, index + 1)
    sentences = None if images.t_test is None else images.t_test[here]
    (batch,) = evaluation_batches(images.x_test[here], images.y_test[here], spec["normalisation"], 1, "cpu", sentences)
    logits, labels = predict(model, [batch])
    shares = logits.softmax(1)[0]
    says = int(shares.argmax())
    names = images.classes or [None] * len(shares)
    return {
        "image": index,
        "class": int(labels),
        "class_name": names[int(labels)],
        "says": says,
        "says_name": names[says],
        "percent": 100 * float(shares[says]),
    }
