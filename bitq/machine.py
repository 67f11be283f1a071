"""The machine under a run: device, threads, determinism, and the fingerprint that says which bits to expect."""

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from bitq.errors import UsageError

Mode = Literal["exact", "fast"]


@dataclass(frozen=True)
class Machine:
    """Where a run computes. `exact` repeats bit for bit on one kind of machine; `fast` lets cuDNN choose freely."""

    device: torch.device
    mode: Mode = "exact"
    threads: int = 1
    capture: bool = True  # on a GPU, replay whole training steps rather than launch their kernels one by one

    @property
    def captures(self) -> bool:
        """Are training steps replayed here?"""
        return self.capture and self.device.type == "cuda"

    def prepare(self) -> None:
        """Set the process up; called once before the first tensor."""
        torch.set_num_threads(self.threads)
        exact = self.mode == "exact"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first CUDA call
        torch.use_deterministic_algorithms(exact)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not exact
        # Left alone, cuDNN takes TF32, with ten bits of mantissa, for fp32. Said in torch's older words: its compiler
        # still asks in those, and fails where the newer ones were used.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def machine(device: str = "auto", mode: Mode = "exact", threads: int = 1, capture: bool = True) -> Machine:
    """Check the options and return their machine."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device} was given; allowed: auto, cpu, cuda, cuda:N.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device} was given, but no CUDA device is visible; use --device cpu.")
    if threads < 1:
        raise UsageError(f"--threads {threads} was given; allowed: 1 and more.")
    return Machine(torch.device(device), mode, threads, capture)


def fingerprint(of: Machine) -> str:
    """Name the kind of processor and its instruction set; only equal fingerprints promise equal bits."""
    kind = torch.cuda.get_device_name(of.device) if of.device.type == "cuda" else platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    caps = [os.environ.get(key, "") for key in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    amx = "amx" if torch.cpu._is_amx_tile_supported() and _allows_amx(caps[0]) else "no-amx"
    return " ".join([kind, capability, amx, *filter(None, caps)])


def _allows_amx(cap: str) -> bool:
    return "AMX" in cap.upper() or cap.upper() in ("", "ALL", "DEFAULT")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    names = ("torch", "torchvision", "numpy", "safetensors")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
