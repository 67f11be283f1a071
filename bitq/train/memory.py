"""How much memory a run takes at most, told apart from the runs before it in the same process."""

import os
import re
from pathlib import Path

import torch

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # resets VmHWM, the peak of resident memory (Linux, proc(5))


def forget_peak(device: torch.device) -> None:
    """Reset the peak, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(CLEAR_REFS, os.W_OK):
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_memory(device: torch.device) -> int | None:
    """Return the peak in bytes: of the tensors on a GPU, else of the process; None where the system has none."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not os.access(CLEAR_REFS, os.W_OK):
        return None
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.M)
    return 1024 * int(peak[1]) if peak else None
