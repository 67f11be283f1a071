"""Several runs share the GPUs of a machine: each sees one card, none is crowded, and a killed run frees its place."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "workflow/scripts/on_free_gpu")
SAY_AND_WAIT = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES; exec cat")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command on a machine with three GPUs, as a fake nvidia-smi lists them."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    plain = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    machine = plain | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    with ExitStack() as running:

        def begin(*command: str, **env: str) -> "subprocess.Popen[str]":
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            words = [SCRIPT, *(command or SAY_AND_WAIT)]
            process = subprocess.Popen(words, env=machine | env, **pipes)  # type: ignore[call-overload]
            running.enter_context(process)
            running.callback(process.kill)
            return process  # type: ignore[no-any-return]

        yield begin


def card(process: "subprocess.Popen[str]") -> str:
    """The card that a command was shown, once it runs."""
    assert process.stdout
    return process.stdout.readline().strip()


def is_waiting(process: "subprocess.Popen[str]") -> bool:
    os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
    time.sleep(1.5)
    try:
        return not process.stdout.read()  # type: ignore[union-attr]
    except TypeError:
        return True
    finally:
        os.set_blocking(process.stdout.fileno(), True)  # type: ignore[union-attr]


def end(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait()


def test_runs_are_spread_over_all_cards(start: Start) -> None:
    assert [card(start()) for _ in range(7)] == ["0", "1", "2", "0", "1", "2", "0"]


def test_runs_that_start_at_once_are_spread_too(start: Start) -> None:
    commands = [start(BITQ_RUNS_PER_GPU="2") for _ in range(6)]
    assert sorted(map(card, commands)) == ["0", "0", "1", "1", "2", "2"]


def test_cards_have_as_many_places_as_asked_for_and_the_next_run_waits(start: Start) -> None:
    running = [start(BITQ_RUNS_PER_GPU="1") for _ in range(3)]
    cards = [card(process) for process in running]
    assert sorted(cards) == ["0", "1", "2"]
    late = start(BITQ_RUNS_PER_GPU="1")
    assert is_waiting(late)
    end(running[1])  # killed, so that it could tidy up nothing
    assert card(late) == cards[1]


def test_a_run_that_asks_for_a_card_of_its_own_gets_one(start: Start) -> None:
    assert [card(start()) for _ in range(2)] == ["0", "1"]  # one after the other: each runs before the next is started
    alone = start(BITQ_ALONE="1")
    assert card(alone) == "2"
    assert card(start()) == "0"
    second = start(BITQ_ALONE="1")
    assert is_waiting(second)
    end(alone)
    assert card(second) == "2"


def test_one_card_alone_is_waited_for_too(start: Start) -> None:
    shared = start(BITQ_RUNS_PER_GPU="4", CUDA_VISIBLE_DEVICES="GPU-abc")
    assert card(shared) == "GPU-abc"
    alone = start(BITQ_ALONE="1", CUDA_VISIBLE_DEVICES="GPU-abc")
    assert is_waiting(alone)
    end(shared)
    assert card(alone) == "GPU-abc"


def test_the_exit_code_is_the_commands(start: Start) -> None:
    assert start("sh", "-c", "exit 75").wait() == 75
    assert start("sh", "-c", "exit 75", CUDA_VISIBLE_DEVICES="").wait() == 75  # no card at all


@pytest.mark.parametrize("places", ["0", "two", "-1"])
def test_a_wrong_number_of_places_is_refused_in_one_sentence(places: str, start: Start) -> None:
    refused = start(BITQ_RUNS_PER_GPU=places)
    assert refused.communicate()[1] == (
        f"on_free_gpu: BITQ_RUNS_PER_GPU={places} was given; allowed: 1 and more, such as BITQ_RUNS_PER_GPU=4.\n"
    )
    assert refused.returncode == 2
