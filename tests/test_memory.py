"""Memory: what a run took, what it needs at least, and what a machine has."""

import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitq.errors import OutOfMemory
from bitq.measure import memory
from bitq.measure.memory import available_memory, check_memory, expected_memory, least_memory
from bitq.results.schema import Results
from bitq.train import session as session_module
from bitq.train.loop import Training
from bitq.train.memory import forget_peak, peak_memory
from bitq.train.network import build_network
from tests.support import CPU_MACHINE, session, small_run

CPU, MIB = torch.device("cpu"), 2**20


def test_the_peak_is_measured_anew_for_each_run() -> None:
    large = torch.ones(256 * MIB // 4)
    before = peak_memory(CPU)
    del large
    forget_peak(CPU)
    after = peak_memory(CPU)
    assert before and after and before - after > 128 * MIB


def test_the_weights_are_counted_as_the_network_has_them(tmp_path: Path) -> None:
    for optimizer, copies in (("sgd", 3), ("adamw", 4)):
        run = small_run(optimizer=optimizer, lr=0.001)
        held = sum(4 * p.numel() for p in build_network(run, CPU_MACHINE, tmp_path).parameters())
        assert least_memory(run).weights == copies * held
    assert least_memory(run).total < expected_memory(run)


def test_a_network_that_cannot_fit_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session_module, "build_network", lambda *_: pytest.fail("the network was built"))
    monkeypatch.setattr(memory, "available_memory", lambda _: 16 * 1024 * MIB)
    run = small_run(width=1024)  # 2.9 billion weights, each with gradient and momentum
    forget_peak(CPU)
    before = peak_memory(CPU)
    assert session(tmp_path).train([run]) == OutOfMemory.exit_code
    after = peak_memory(CPU)
    assert before and after and after - before < 64 * MIB
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "width 1024" in said and "give a smaller --width" in said


def test_a_run_that_fits_is_checked_in_no_time(tmp_path: Path) -> None:
    run = small_run()
    check_memory(run, CPU)
    start = time.process_time()
    check_memory(run, CPU)
    assert time.process_time() - start < 0.1


def test_the_tightest_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\nSwapFree:    48 kB\n")
    (proc / "self/cgroup").write_text("0::/job/step\n")
    (groups / "job/step").mkdir(parents=True)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", groups)
    assert available_memory(CPU) == 2048 * 1024
    for folder, most in ((groups / "job", "1000000"), (groups / "job/step", "max")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("900000\n")
        (folder / "memory.stat").write_text("anon 1\nactive_file 200\ninactive_file 300\n")
    assert available_memory(CPU) == 1_000_000 - 900_000 + 500
    (proc / "meminfo").unlink()
    (groups / "job/memory.max").unlink()
    assert available_memory(CPU) is None


def test_limits_of_version_1_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, folder = tmp_path / "proc", tmp_path / "cgroup/memory/job"
    (proc / "self").mkdir(parents=True)
    folder.mkdir(parents=True)
    (proc / "self/cgroup").write_text("5:memory:/job\n4:cpu,cpuacct:/job\n")
    for name, text in (("limit_in_bytes", "5000"), ("usage_in_bytes", "3000"), ("stat", "total_inactive_file 70")):
        (folder / f"memory.{name}").write_text(f"{text}\n")
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    assert available_memory(CPU) == 2070


def test_nothing_of_a_run_outlives_it_but_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[weakref.ref[Any]] = []
    images: list[Tensor] = []

    def finish(training: Training, *rest: Any) -> Results:
        gone.extend(weakref.ref(part) for part in (training, training.model, training.optimizer, training.batches))
        images.append(training.batches.x)
        return plain(training, *rest)

    plain = session_module.finish
    monkeypatch.setattr(session_module, "finish", finish)
    runs = [small_run("bitnet", model="atq_cnn", epochs=2), small_run("ttq", model="atq_cnn", epochs=2)]
    gc.disable()  # what only the collector would find lives on for some time
    try:
        assert session(tmp_path).train(runs) == 0
        assert len(gone) == 8 and [ref() for ref in gone] == [None] * 8
    finally:
        gc.enable()
    assert images[0].data_ptr() == images[1].data_ptr()  # sent to the device once
