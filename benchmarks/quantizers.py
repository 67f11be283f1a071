"""What quantizing weights costs: share of a step of ResNet-20 (fp32, channels-last, batch 128), memory, packing.

    python benchmarks/quantizers.py            every method that trains, the memory of ring, packing
    python benchmarks/quantizers.py ring lsq   these methods

A weight quantizer's forward and backward pass may take 10 % of a step, packing ten million weights 0.2 s.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from bitq import models
from bitq.deploy.pack import pack, unpack
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS, make_quantizer

BATCH, STEPS, GOAL, PACKING_GOAL = 128, 5, 0.1, 0.2
METHODS_OF_WEIGHTS = (
    "bitnet", "ttq", "twn", "ring", "ring_legacy", "lsq", "dorefa", "atq", "int4", "paretoq", "parq", "apot", "irnet",
)  # fmt: skip


def seconds(work: Callable[[], object], repeat: int = STEPS) -> float:
    """CPU time of the fastest of some rounds."""
    work()
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def step_of(network: nn.Module) -> Callable[[], object]:
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.arange(BATCH) % 10

    def step() -> None:
        nn.functional.cross_entropy(network(x), y).backward()

    return step


def quantizing(network: nn.Module) -> Callable[[], object]:
    """Only the quantizers of a network, forwards and backwards."""
    layers = list(quantized_layers(network).values())
    gradients = [torch.randn_like(layer.weight) for layer in layers]

    def work() -> None:
        for layer, gradient in zip(layers, gradients, strict=True):
            layer.quantizer(layer.weight).backward(gradient)

    return work


def peak_bytes(levels: int, weights: int = 1_000_000) -> float:
    """The most that ring's forward and backward pass hold at once, in bytes a weight."""
    ring = make_quantizer("ring", torch.randn(100, weights // 100), {"levels": levels})
    latent = torch.rand(100, weights // 100, requires_grad=True)
    gradient = torch.randn_like(latent)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        ring(latent).backward(gradient)
    held = most = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns()):  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / weights


def packing() -> dict[str, float]:
    """Seconds for ten million codes."""
    found = {}
    for levels in (2, 3, 4, 8, 16, 256):
        codes = torch.randint(levels, (10_000_000,), dtype=torch.uint8)
        packed: Tensor = pack(codes, levels)
        found[f"pack {levels} levels"] = seconds(lambda codes=codes, levels=levels: pack(codes, levels), 3)
        assert torch.equal(unpack(packed, codes.shape, levels), codes)
        found[f"unpack {levels} levels"] = seconds(
            lambda packed=packed, codes=codes, levels=levels: unpack(packed, codes.shape, levels), 3
        )
    return found


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    plain = seconds(step_of(models.build("resnet20", 10).train()))
    print(f"a step of ResNet-20 without quantizers: {1000 * plain:.0f} ms")
    for name in chosen or [name for name in METHODS_OF_WEIGHTS if name in METHODS]:
        network = convert(models.build("resnet20", 10), name, keep=("fc",)).train()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        cost = seconds(quantizing(network))
        share = cost / (plain + cost)
        print(f"{name:12} {1000 * cost:6.1f} ms  {100 * share:5.1f} % of a step  {'ok' if share <= GOAL else 'MISSED'}")
    if not chosen:
        for levels in (4, 16, 64):
            print(f"ring, {levels} levels: {peak_bytes(levels):.1f} bytes a weight at the peak")
        for what, taken in packing().items():
            print(f"{what}: {taken:.3f} s for ten million  {'ok' if taken <= PACKING_GOAL else 'MISSED'}")


if __name__ == "__main__":
    main(sys.argv[1:])
