"""The memory that a run needs, estimated without building it, against what the machine has."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bitq import models
from bitq.data.registry import variant
from bitq.errors import OutOfMemory
from bitq.models.cost import Flops
from bitq.run import Run

GIB = 2**30
LIBRARIES = 800 * 2**20  # bytes resident after importing torch and its kernels
FLOAT = 4  # bytes
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Limit, usage and the key of reclaimable file pages in memory.stat, of version 2 and of version 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", r"^(?:in)?active_file (\d+)$"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_(?:in)?active_file (\d+)$"),
)


@dataclass(frozen=True)
class Memory:
    """Bytes by what they hold."""

    weights: int
    images: int
    activations: int

    @property
    def total(self) -> int:
        """Sum them up."""
        return self.weights + self.images + self.activations


def least_memory(run: Run) -> Memory:
    """Estimate what no implementation of this run could do without, libraries excluded."""
    cost, found, trains = cost_of(run), variant(run.data.dataset, run.data.variant), run.recipe.epochs > 0
    moments = (0 if not run.recipe.momentum else 1) if run.recipe.optimizer == "sgd" else 2
    networks = 2 if run.distillation and run.distillation.teacher is None else 1  # an online teacher learns too
    copies = 2 + moments if trains else 1  # weight, gradient, momentum or moments
    pixels = run.data.image_size**2 * run.data.channels
    return Memory(
        weights=networks * copies * FLOAT * cost.params,
        images=(found.train + FLOAT * found.test) * pixels,  # training images as bytes, test images normalised
        activations=_kept(run) if trains else 0,
    )


def expected_memory(run: Run) -> int:
    """Estimate the peak of a process: what a run needs least, and what torch takes beside it."""
    found = variant(run.data.dataset, run.data.variant)
    images = (found.train + found.test) * run.data.image_size**2 * run.data.channels
    # Twice what is kept: the gradients on their way back, and the codes of quantized activations.
    return LIBRARIES + 4 * FLOAT * cost_of(run).params + 5 * images + 2 * _kept(run)


def cost_of(run: Run) -> Flops:
    """Count multiplications, parameters and activations of one image, on no device."""
    return models.flops(run.model, models.Geometry.of(run.data, run.width, run.stem))


def _kept(run: Run) -> int:
    """Count the bytes that a step keeps for its backward pass."""
    micro_batch = run.recipe.batch // run.recipe.accumulate
    return cost_of(run).activations * micro_batch * (FLOAT if run.precision == "fp32" else 2)


def check_memory(run: Run, device: torch.device) -> None:
    """Refuse a run that cannot fit, before it takes any memory."""
    try:
        need, there = least_memory(run), available_memory(device)
    except (OverflowError, RuntimeError, TypeError) as error:
        if not re.search("overflow|too large", str(error), re.I):
            raise
        what = f"{run.model} at width {run.width}"
        raise OutOfMemory(f"{what} has more weights than can be counted; give a smaller --width.") from None
    if there is not None and need.total > there:
        raise OutOfMemory(
            f"{run.id} needs at least {_gib(need.total)} of memory ({_gib(need.weights)} for the weights of "
            f"{run.model} at width {run.width} and their gradients, {_gib(need.activations)} for the activations of "
            f"a batch of {run.recipe.batch}, {_gib(need.images)} for the images), but {device} has "
            f"{_gib(there)} left; give a smaller --width or --batch, or train it on a larger device."
        )


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device; None where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + unused
    return min((*_host_memory(), *_cgroup_memory()), default=None)


def _host_memory() -> Iterator[int]:
    path = PROC / "meminfo"
    if path.exists():
        kilobytes = re.findall(r"^(?:MemAvailable|SwapFree):\s+(\d+) kB$", path.read_text(), re.M)
        yield 1024 * sum(map(int, kilobytes))


def _cgroup_memory() -> Iterator[int]:
    """Yield what each limit above this process leaves; page cache counts as free."""
    for folder in _cgroup_folders():
        for limit, usage, cached in CGROUP_FILES:
            if (folder / limit).exists() and (folder / usage).exists():
                most = (folder / limit).read_text().strip()
                if most != "max":
                    reclaimable = sum(map(int, re.findall(cached, (folder / "memory.stat").read_text(), re.M)))
                    yield max(int(most) - int((folder / usage).read_text()) + reclaimable, 0)


def _cgroup_folders() -> Iterator[Path]:
    """Yield the control groups of this process, each with those around it."""
    path = PROC / "self/cgroup"
    for line in path.read_text().splitlines() if path.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            inside = root / group.lstrip("/")
            yield from (folder for folder in (inside, *inside.parents) if folder.is_relative_to(root))


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:,.0f} MiB"
