"""Helpers of several test files: a run small enough for seconds, and a process to kill."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bitq.grid.adhoc import sweep
from bitq.machine import machine
from bitq.quant.registry import METHODS
from bitq.run import Run
from bitq.train.progress import Progress
from bitq.train.session import Session

CPU_MACHINE = machine("cpu")
EPOCHS, STEPS = 3, 5  # 160 images in batches of 32
OFTEN = ("fp32", "bitnet", "ttq", "ring", "lsq", "int4")  # a method of each kind, for the quick tests
EACH_METHOD = [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in METHODS]


def small_run(method: str = "fp32", **options: Any) -> Run:
    """Three epochs of five steps on 160 procedural images."""
    described = {
        "model": "resnet18", "dataset": "cifar10", "variant": "procedural@160", "method": method,
        "epochs": EPOCHS, "warmup_epochs": 1.0, "mixup": 0.2, "label_smoothing": 0.1, "precision": "bf16",
    }  # fmt: skip
    return sweep("smoke", {key: [value] for key, value in (described | options).items()})[0]


def session(root: Path, **options: Any) -> Session:
    """Trains below `root`."""
    return Session(machine("cpu"), root / "results", root / "state", **options)


def in_child(work: Callable[[], int], stderr: Path = Path(os.devnull)) -> int:
    """Run `work` in a forked process (importing torch anew would cost seconds); its wait status."""
    assert torch.get_num_threads() == 1, "a process with running worker threads must not fork"
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.stderr = open(stderr, "w", buffering=1)  # noqa: SIM115, the process ends before it
        os.dup2(sys.stderr.fileno(), 2)
        os._exit(work())
    return os.waitpid(child, 0)[1]


def at_step(number: int, action: Callable[[], None]) -> None:
    """Do something to this process when it has trained so many steps, whatever the run."""
    plain_step, seen = Progress.step, [0]

    def step(self: Progress, *args: Any) -> None:
        plain_step(self, *args)
        seen[0] += 1
        if seen[0] == number:
            action()

    Progress.step = step  # type: ignore[method-assign]


def at_call(module: ModuleType, name: str, number: int, action: Callable[[], None], survived: Path) -> None:
    """Do something to this process within a call of a function; leave a file if the call went on all the same."""
    plain, seen = getattr(module, name), [0]

    def call(*args: Any, **options: Any) -> Any:
        seen[0] += 1
        if seen[0] == number:
            action()
            survived.touch()
        return plain(*args, **options)

    setattr(module, name, call)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(run: Run, root: Path, step: int) -> int:
    """Train in a child that is killed with SIGKILL at a step; its wait status."""

    def work() -> int:
        at_step(step, kill_myself)
        return session(root).train([run])

    return in_child(work)
