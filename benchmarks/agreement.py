"""Print how often other engines answer as the packed files of trained networks do, and how large their ONNX files are.

    python benchmarks/agreement.py RESULTS                 the packed files of seed 42, the first 2000 test images
    python benchmarks/agreement.py RESULTS --images 10000  all images
    python benchmarks/agreement.py RESULTS --rounded       networks in fp32, rounded to int8 and int4 first

One line a file, written as soon as it is measured: equal top-1 under ONNX Runtime; bytes of the ONNX file over those of
the packed one, with the narrowest type and with packed weights; equal top-1 and share of the multiplications under
torchao and under bitq's own integer kernels, where these take the network.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq.data.inputs import cut
from bitq.data.loader import evaluation_batches
from bitq.data.store import open_set
from bitq.deploy.evaluate import full_precision, predict
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.interop.backends import ported
from bitq.interop.calls import example_for
from bitq.interop.onnx_export import onnx_bytes, session
from bitq.measure.packed_file import data_for
from bitq.quant.convert import convert

SEED, MODEL, BATCH = "s42", "model.safetensors", 250
ROUNDED = ("int8", "int4")
HEAD = "| file | images | ONNX, equal top-1 | narrow | packed | torchao | own kernels |"
Batches = list[tuple[Any, Tensor]]


def batches_of(path: Path, spec: dict[str, Any], count: int) -> Batches:
    """Read the first test images, prepared as in training."""
    images = open_set(data_for(path, spec, None, None))
    tokens = None if images.t_test is None else images.t_test[:count]
    x, y = images.x_test[:count], images.y_test[:count]
    return list(evaluation_batches(x, y, spec["normalisation"], BATCH, torch.device("cpu"), tokens))


def answers(model: Callable[[Any], Tensor], batches: Batches) -> Tensor:
    """Return the class that an engine gives each image."""
    with torch.no_grad(), full_precision():
        return torch.cat([model(x).argmax(1) for x, _ in batches])


def share(one: Tensor, other: Tensor) -> float:
    """Return how many percent of the answers are equal."""
    return 100 * float((one == other).float().mean())


def engine(model: nn.Module, name: str, batches: Batches, ours: Tensor) -> str:
    """Measure one engine, or say that it takes no layer of this network."""
    try:
        other = ported(model, name, cut(batches[0][0], 0, 1))
    except UsageError:
        return "—"
    if not other.layers:
        return "—"
    return f"{share(ours, answers(other.model, batches)):.2f} % of {100 * other.multiplications:.1f} %"


def row(path: Path, label: str, count: int) -> str:
    """Measure one file."""
    model, spec = load(path)
    batches = batches_of(path, spec, count)
    ours = predict(model, batches)[0].argmax(1)
    example, size = example_for(spec), path.stat().st_size
    narrow, packed = onnx_bytes(model, example), onnx_bytes(model, example, weights="packed")
    same = share(ours, answers(session(narrow), batches))
    others = [engine(model, name, batches, ours) for name in ("torchao", "fast")]
    ratios = " | ".join(f"{len(content) / size:.2f}" for content in (narrow, packed))
    return f"| {label} | {len(ours):,} | {same:.2f} % | {ratios} | {' | '.join(others)} |"


def rounded(path: Path, folder: Path) -> Iterable[tuple[Path, str]]:
    """Round the weights of a network in fp32 to integers, and write it anew."""
    for method in ROUNDED:
        model, spec = load(path)
        target = folder / f"{method}-{MODEL}"
        export(convert(model, method), spec | {"method": method, "keep": []}, target)
        yield target, f", rounded to {method}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a folder of results, for example results/mini")
    parser.add_argument("--images", type=int, default=2000, help="how many of the test images")
    parser.add_argument("--rounded", action="store_true", help="networks in fp32, rounded to integers first")
    parser.add_argument("--only", default="", help="files whose path contains this")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = [path for path in sorted(asked.results.rglob(f"{SEED}/{MODEL}")) if asked.only in str(path)]
    print(HEAD, "|---|--:|--:|--:|--:|--:|--:|", sep="\n", flush=True)
    for path in found:
        label = str(path.parent.parent.relative_to(asked.results))
        with tempfile.TemporaryDirectory() as folder:
            plain = path.parent.parent.name == "fp32"
            files = rounded(path, Path(folder)) if asked.rounded and plain else [(path, "")] * (not asked.rounded)
            for file, further in files:
                print(row(file, label + further, asked.images), flush=True)


if __name__ == "__main__":
    main()
