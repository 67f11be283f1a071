"""Describe a packed file as a model card, from the file and the records of its run beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from bitq.catalogue import ABOUT_METHODS, ABOUT_MODELS
from bitq.data.registry import PROCEDURAL, Variant
from bitq.data.registry import variant as find_variant
from bitq.deploy import tensorfile
from bitq.deploy.blueprint import parse
from bitq.errors import BitqError
from bitq.grid.commands import train_command
from bitq.io import sha256_file
from bitq.library.blueprint import check_of_grid
from bitq.results.folder import Finished, read

TEMPLATE = Path(__file__).with_name("card.md.j2")


def write_card(path: Path) -> str:
    """Write the card as Markdown whose head hubs of models read."""
    from jinja2 import Environment, StrictUndefined

    card = describe(path)
    page = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    text = page.from_string(TEMPLATE.read_text("utf-8")).render(card)
    return f"---\n{yaml.safe_dump(head(card), sort_keys=False, allow_unicode=True)}---\n\n{text.strip()}\n"


def describe(path: Path) -> dict[str, Any]:
    """Collect what a card says."""
    check_of_grid(path)
    tensors, meta = tensorfile.read(path)
    spec = parse(path, meta).spec.model_dump(mode="json")
    digest = sha256_file(path)
    run = run_beside(path, digest)
    # A record of a network in full precision has no coverage.
    measured = {"coverage": None} | (run.results.model_dump(mode="json")["packed"] if run else measure(path))
    data = data_of(spec)
    kept = (measured["coverage"] or {}).get("left_float", [])
    return {
        "file": path.name,
        "sha256": digest,
        "spec": spec,
        "title": title_of(spec, data),
        "network": ABOUT_MODELS.get(spec["model"], ""),
        "method": ABOUT_METHODS.get(spec["method"], ""),
        "measured": measured,
        "layers": layers_of(measured["audit"], kept, tensors),
        "data": data,
        "run": run,
        "command": train_command(run.config) if run else None,
        "limits": limits(run, data, kept),
    }


def run_beside(path: Path, digest: str) -> Finished | None:
    """Read the records in the file's folder, if they are of this very file."""
    try:
        run = read(path.parent)
    except BitqError:
        return None
    return run if run.results.packed and run.results.packed.sha256 == digest else None


def measure(path: Path) -> dict[str, Any]:
    """Evaluate a file without records, in the words of the records."""
    from bitq.measure.packed_file import evaluate_file

    found = evaluate_file(path, None, None, "cpu")
    return found | {"file_bytes": found["bytes"]}


def data_of(spec: dict[str, Any]) -> Variant | None:
    """Find the images that it was trained on; none if only another machine knows them."""
    dataset, variant = spec.get("dataset"), spec.get("variant", "official")
    try:
        return find_variant(dataset, variant) if dataset else None
    except BitqError:
        return None


def is_drawn(data: Variant | None) -> bool:
    """Tell procedural images, which no hub may list under the set whose name they bear."""
    return data is not None and data.base == PROCEDURAL


def title_of(spec: dict[str, Any], data: Variant | None) -> str:
    """Name the network, its quantizer and its data."""
    images = "procedural images" if is_drawn(data) else spec.get("dataset", "images")
    return f"{spec['model']} with {spec['method']} weights for {images}"


def layers_of(audit: dict[str, Any], kept: list[dict[str, Any]], tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """List every layer with its levels and bits; what is no code has the bits of its floats in the file."""
    packed = [
        {"name": one["name"], "weights": one["weights"], "levels": one["levels"], "bits": one["bits_per_weight"]}
        | {"zeros": 100 * one["zeros"]}
        for one in audit["layers"]
    ]
    for one in kept:
        stored = tensors.get(f"{one['name']}.weight", tensors.get(one["name"]))
        bits = 8 * stored.element_size() if stored is not None else 32
        packed.append({"name": one["name"], "weights": one["weights"], "levels": None, "bits": bits})
    return packed


def head(card: dict[str, Any]) -> dict[str, Any]:
    """Write what hubs of models index."""
    spec, measured = card["spec"], card["measured"]
    drawn = is_drawn(card["data"])
    name = None if drawn else spec.get("dataset")
    kind = name or (PROCEDURAL if drawn else "unknown")
    data = {"name": kind, "type": kind, "split": "test"}
    score = {"type": "accuracy", "name": "top-1, percent", "value": round(measured["accuracy"], 2)}
    task = "other" if spec.get("words") else "image-classification"  # a sentence beside each image
    result = {"task": {"type": task}, "dataset": data | {"config": spec.get("variant", "official")}}
    return {
        "library_name": "bitq",
        "pipeline_tag": task,
        "tags": ["quantization", spec["method"], spec["model"]],
        "datasets": [name] if name else [],
        "metrics": ["accuracy"],
        "model-index": [{"name": card["title"], "results": [result | {"metrics": [score]}]}],
    }


def limits(run: Finished | None, data: Variant | None, kept: list[dict[str, Any]]) -> list[str]:
    """Say what the numbers of the card do not show."""
    found = []
    if data and is_drawn(data):
        found.append(
            f"The images are {data.source}: the accuracy shows that training works, not how good the method is."
        )
    elif data and data.base != "official":
        found.append(f"The images are not the official ones: {data.source}.")
    if run:
        recipe = run.config.recipe
        found.append(f"One run with one seed, {run.config.seed}; other seeds give other accuracies.")
        if not recipe.validation and recipe.epochs:
            found.append("No training images were held out, so the settings must not be chosen by this accuracy.")
        if run.results.collapsed:
            found.append("The accuracy is within three standard errors of chance.")
        found.append(f"Equal bits are promised on the kind of machine that trained it only: {run.env.machine}.")
    if kept:
        found.append(f"Not quantized: {', '.join(one['name'] for one in kept)}.")
    found.append("`bitq.load` decodes the weights to 32-bit floats: the file is small, the network in memory is not.")
    return found
