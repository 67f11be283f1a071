"""Measure what each method's file costs to run here: latency, throughput, peak memory, bytes; all in one run.

The networks have their full width and random weights: none of the four depends on what was learned, only on levels,
activations and shapes. Each is measured in a process of its own, on one thread, in CPU time of the fastest pass.
Rows are written as they are measured, and those of the same machine and versions are not measured again.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq import models
from bitq.catalogue import published_width
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.infer.fast import accelerated
from bitq.infer.layers import has_integers
from bitq.interop.backends import without_quantizers
from bitq.io import read_json, write_json
from bitq.machine import fingerprint, machine, versions
from bitq.ptq.calibrate import calibrate
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS
from bitq.quant.static import activation_named
from bitq.run import Calibration
from bitq.train.memory import forget_peak, peak_memory

CPU = torch.device("cpu")
TREATMENT = ("model", "method", "activations")
NETWORKS = ("vgg11", "resnet18")
STATIC = ("bitnet", "int4", "int8")  # methods measured with static activations besides
CLASSES, PIXELS = 10, 32
SMALL, LARGE = 1, 32  # images of the pass whose latency counts, and of the one whose throughput does
PASSES = {SMALL: 25, LARGE: 5}


def efficiency(path: Path, networks: tuple[str, ...] = NETWORKS) -> None:
    """Measure every method in every network, one process after the other, and write `path` after each."""
    here: dict[str, Any] = {"machine": fingerprint(machine("cpu")), "versions": versions(), "threads": 1}
    rows = known(path, here)
    there = {tuple(row[key] for key in TREATMENT) for row in rows}
    for treatment in (each for name in networks for each in treatments(name)):
        if treatment not in there:
            rows.append(measured_apart(*treatment))
            write_json(path, here | {"rows": rows})


def known(path: Path, here: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the rows that were measured here with the same versions before."""
    record = read_json(path) if path.exists() else {}
    return record["rows"] if all(record.get(key) == value for key, value in here.items()) else []


def treatments(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield network, method and treatment of activations: each method's own, and static ones for some."""
    for method in METHODS:
        yield name, method, "none"
    for method in STATIC:
        yield name, method, "static"


def measured_apart(name: str, method: str, activations: str) -> dict[str, Any]:
    """Write one file and measure it in a fresh process, whose peak of memory is then its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        size = write(path, name, method, activations, published_width(name))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
            row = apart.submit(measured, path).result()
    return {"model": name, "method": method, "activations": activations, "file_bytes": size} | row


def write(path: Path, name: str, method: str, activations: str, width: int) -> int:
    """Write a packed file of random weights; return its bytes."""
    model = models.build(name, CLASSES, width).eval()
    convert(model, method, {}, activation=activation_named(activations))
    plan = Calibration(activations=activations) if activations == "static" else None  # type: ignore[arg-type]
    if plan:
        calibrate(model, plan, [torch.randn(8, 3, PIXELS, PIXELS)])
    spec = {"model": name, "classes": CLASSES, "width": width, "method": method}
    spec |= {"calibration": plan.model_dump(mode="json")} if plan else {}
    return export(model, spec, path).file_bytes


def measured(path: Path) -> dict[str, Any]:
    """Load a file, run it, and return the times, the peak of memory, and how it was run."""
    torch.set_num_threads(1)
    forget_peak(CPU)
    bare, start = peak_memory(CPU), time.process_time()
    network, engine = runnable(load(path)[0])
    begun = time.process_time() - start
    seconds = {batch: fastest_pass(network, batch) for batch in PASSES}
    return {
        "engine": engine,
        "load_seconds": begun,
        "latency_ms": 1000 * seconds[SMALL],
        "images_per_second": LARGE / seconds[LARGE],
        "peak_bytes": above(bare),
    }


def above(bare: int | None) -> int | None:
    """Return by how much the peak exceeds what the libraries took; None where the system does not tell."""
    peak = peak_memory(CPU)
    # The kernel counts pages in batches, so that of two equal peaks the second may be some pages lower.
    return None if bare is None or peak is None else max(peak - bare, 0)


def runnable(model: nn.Module) -> tuple[nn.Module, str]:
    """Prepare a network as it would be used: in integers, with its weights decoded once, or as it was loaded."""
    layers = quantized_layers(model).values()
    if any(map(has_integers, layers)):
        return accelerated(model, images(SMALL)), "fast"
    plain = all(layer.activation is None and not layer.norm for layer in layers)
    ready, engine = (without_quantizers(model), "decoded") if plain else (model, "as loaded")
    return ready.to(memory_format=torch.channels_last), engine


def fastest_pass(network: nn.Module, batch: int) -> float:
    """Return the CPU seconds of the fastest pass."""
    x, best = images(batch), float("inf")
    with torch.inference_mode():
        for _ in range(PASSES[batch]):
            start = time.process_time()
            network(x)
            best = min(best, time.process_time() - start)
    return best


def images(count: int) -> Tensor:
    """Make noise of the shape of CIFAR."""
    return torch.randn(count, 3, PIXELS, PIXELS).contiguous(memory_format=torch.channels_last)
