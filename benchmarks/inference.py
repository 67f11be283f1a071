"""Inference from packed files against fp32 eager of the same network: ratios, one thread, channels last.

    python benchmarks/inference.py                  each cap of the instruction set, both networks at full width
    python benchmarks/inference.py --cap avx2       one cap
    python benchmarks/inference.py --repeats 30     steadier

Both sides share one process and take turns, each after an untimed pass of its own; the fastest pass of each counts, in
CPU time, so that a busy machine slows both alike. The weights are random: a speed needs no trained ones. Memory and
start-up are those of a fresh process that loads the file and answers one image.

Two bounds are measured beside: how many times faster the processor multiplies large matrices of int8 than of fp32, and
how many times faster than fp32 a network would be whose integer layers did nothing but call their kernels.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

import bitq
from bitq import models
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.infer.fast import accelerated, inputs_of
from bitq.infer.kernels import OneDnnLinear, exact_kernels
from bitq.infer.layers import product_of
from bitq.infer.reference import Epilogue, Product
from bitq.machine import fingerprint, machine
from bitq.models.fold import fold
from bitq.ptq.calibrate import calibrate
from bitq.quant.convert import convert
from bitq.quant.static import activation_named
from bitq.run import Calibration
from bitq.train.memory import forget_peak, peak_memory

CAPS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "vnni": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "none": {},
}
GOALS = {"avx2": {32: 2.0, 1: 1.5}, "vnni": {32: 6.0, 1: 3.0}, "none": {32: 6.0, 1: 3.0}}
NETWORKS = ("vgg11", "resnet18")
FILES = {  # method, activations, folded
    "ternary, static": ("bitnet", "static", True),
    "ternary, dynamic": ("bitnet", "dynamic", False),
    "int8, static": ("int8", "static", True),
}
Pass = Callable[[], object]


def write(name: str, kind: str, path: Path) -> None:
    """Write a packed file of random weights whose normalisation and ranges have seen noise."""
    method, activations, folded = FILES[kind]
    model = models.build(name, 10, 64)
    model(torch.randn(16, 3, 32, 32))
    model.eval()
    plan = Calibration(activations=activations, fold=folded)
    if folded:
        fold(model)
    convert(model, method, {}, activation=activation_named(activations))
    calibrate(model, plan, [torch.randn(16, 3, 32, 32)])
    spec = {"model": name, "classes": 10, "width": 64, "method": method, "calibration": plan.model_dump(mode="json")}
    export(model.eval(), spec, path)


def seconds(passes: dict[str, Pass], repeats: int) -> dict[str, float]:
    """CPU seconds of the fastest pass of each, taking turns; a pass before it leaves the caches as its own do."""
    best = dict.fromkeys(passes, float("inf"))
    for repeat in range(repeats + 1):
        for name, call in passes.items():
            call()
            start = time.process_time()
            call()
            if repeat:  # the first allocates
                best[name] = min(best[name], time.process_time() - start)
    return best


def measure(cap: str, networks: list[str], repeats: int, folder: Path) -> None:
    """Print the ratios under the cap that this process was started with."""
    torch.set_num_threads(1)
    print(f"cap {cap}: {fingerprint(machine('cpu'))}; {products()}", flush=True)
    for name in networks:
        plain = models.build(name, 10, 64).eval().to(memory_format=torch.channels_last)
        for batch in (32, 1):
            x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
            files = {kind: load(folder / file_of(name, kind))[0] for kind in FILES}
            alone = {kind: kernels_alone(model, x, repeats) for kind, model in files.items()}
            quick = {kind: accelerated(model, x) for kind, model in files.items()}
            passes: dict[str, Pass] = {"fp32": _pass(plain, x)} | {kind: _pass(net, x) for kind, net in quick.items()}
            best = seconds(passes, repeats * (1 if batch > 1 else 5))
            for kind, taken in best.items():
                ratio, goal = best["fp32"] / taken, GOALS[cap][batch]
                judged = "" if kind == "fp32" else f"  {'ok' if ratio >= goal else 'MISSED'} (goal {goal})"
                kernels = "" if kind == "fp32" else str(dict(Counter(quick[kind].kernels.values())))
                bound = f"  kernels alone {best['fp32'] / alone[kind]:.2f}×" if alone.get(kind) else ""
                told = f"{1000 * taken:8.2f} ms {ratio:6.2f}×"
                print(f"  {name:<9} batch {batch:<3}{kind:<17} {told}{judged}{bound}  {kernels}", flush=True)


def products(size: int = 1024, repeats: int = 20) -> str:
    """Say how fast large matrices are multiplied, in fp32 and in int8."""
    factor, image = torch.randn(size, size), torch.randn(size, size)
    kernel = OneDnnLinear(Product(torch.ones(size, size, dtype=torch.int8)))
    codes, epilogue = torch.ones(size, size, dtype=torch.uint8), Epilogue(torch.ones(size))
    with torch.inference_mode():
        best = seconds({"fp32": lambda: image @ factor, "int8": lambda: kernel(codes, epilogue)}, repeats)
    each = {kind: 2 * size**3 / taken / 1e9 for kind, taken in best.items()}
    return f"products of {size}×{size}: fp32 {each['fp32']:.0f} GFLOP/s, int8 {each['int8']:.0f} GOP/s, " + (
        f"{each['int8'] / each['fp32']:.2f}×"
    )


def kernels_alone(model: nn.Module, x: torch.Tensor, repeats: int) -> float | None:
    """Sum the seconds of the integer kernels of all layers; None where a layer has no exact one."""
    total = 0.0
    for layer, given, signed in inputs_of(model, x).values():
        product = product_of(layer, signed)
        codes = torch.full(given.shape, 1, dtype=torch.uint8)
        codes = codes.contiguous(memory_format=torch.channels_last) if product.is_convolution else codes
        epilogue = Epilogue(torch.ones(len(product.weight)))
        calls = {make.name: make(product) for make in exact_kernels(product)}  # type: ignore[attr-defined]
        if not calls:
            return None
        with torch.inference_mode():
            passes = {name: partial(kernel, codes, epilogue) for name, kernel in calls.items()}
            total += min(seconds(passes, repeats).values())
    return total


def _pass(network: nn.Module, x: torch.Tensor) -> Pass:
    def call() -> object:
        with torch.inference_mode():
            return network(x)

    return call


def file_of(name: str, kind: str) -> str:
    return f"{name}-{kind.replace(', ', '-')}.safetensors"


# --- memory and start-up ----------------------------------------------------------------------------------------------


def start(path: Path, how: str) -> None:
    """Load a file, answer one image, and print CPU seconds and peak memory of all that."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    forget_peak(cpu)  # a child inherits its parent's from getrusage(2)
    before, begun = peak_memory(cpu) or 0, time.process_time()
    network = bitq.fast(path) if how == "fast" else load(path)[0]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))
    taken = (peak_memory(cpu) or 0) - before
    print(json.dumps({"seconds": time.process_time() - begun, "mib": taken / 2**20, "imports": before / 2**20}))


def startups(networks: list[str], folder: Path) -> None:
    for name in networks:
        for kind in FILES:
            path = folder / file_of(name, kind)
            size = path.stat().st_size / 2**20
            for how in ("as loaded", "fast"):
                command = [sys.executable, __file__, "--start", str(path), how]
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"  {name:<9} {kind:<17} {how:<10} file {size:5.1f} MiB, first answer after "
                    f"{told['seconds']:.2f} CPU-s, peak {told['mib']:.0f} MiB above {told['imports']:.0f} of imports",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cap", choices=CAPS, help="this cap alone")
    parser.add_argument("--network", choices=NETWORKS, help="this network alone")
    parser.add_argument("--repeats", type=int, default=8, help="passes of each at batch 32; five times as many at 1")
    parser.add_argument("--here", metavar="FOLDER", help="in this process, whose environment is set")
    parser.add_argument("--start", nargs=2, metavar=("FILE", "HOW"), help="start-up alone")
    asked = parser.parse_args()
    if asked.start:
        return start(Path(asked.start[0]), asked.start[1])
    networks = [asked.network] if asked.network else list(NETWORKS)
    if asked.here:
        return measure(asked.cap, networks, asked.repeats, Path(asked.here))
    with tempfile.TemporaryDirectory() as folder:
        for name in networks:
            for kind in FILES:
                write(name, kind, Path(folder) / file_of(name, kind))
        for cap in [asked.cap] if asked.cap else CAPS:
            command = [sys.executable, __file__, "--here", folder, "--cap", cap, "--repeats", str(asked.repeats)]
            command += ["--network", asked.network] if asked.network else []
            free = {key: value for key, value in os.environ.items() if key not in CAPS["avx2"]}
            subprocess.run(command, check=True, env=free | CAPS[cap])
        print("start-up and memory, no cap:", flush=True)
        startups(networks, Path(folder))


if __name__ == "__main__":
    main()
