"""Peak memory is that of the run, not of what the process did before."""

import torch

from bitq.train.memory import forget_peak, peak_memory

CPU, MIB = torch.device("cpu"), 2**20


def test_the_peak_is_measured_anew_for_each_run() -> None:
    large = torch.ones(256 * MIB // 4)
    before = peak_memory(CPU)
    del large
    forget_peak(CPU)
    after = peak_memory(CPU)
    assert before and after and before - after > 128 * MIB
