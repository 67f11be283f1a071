"""What only a GPU can show: each method keeps its law; captured, eager, resumed and shipped runs have the same bits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bitq.deploy.evaluate import predict
from bitq.deploy.load import load
from bitq.machine import Machine, machine
from bitq.quant.registry import METHODS, make_quantizer
from bitq.results.folder import MODEL, folder_of, read, run_digest
from bitq.run import Run
from bitq.train import checkpoint
from bitq.train.images import open_data, test_batches, training_batches
from bitq.train.loop import Training, train_epoch
from bitq.train.network import build_network, build_teacher
from bitq.train.progress import Progress
from bitq.train.session import Session
from bitq.train.signals import StopRequest
from tests.support import STEPS, small_run
from tests.test_capture import RECIPES

# Rehearsed on a processor with BITQ_GPU_TESTS=cpu, but for what only CUDA has.
DEVICE, HOST = torch.device(os.environ.get("BITQ_GPU_TESTS", "cuda")), machine("cpu")
NONE = "needs a CUDA device, and none is visible"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason=NONE),
]
cuda_alone = pytest.mark.skipif(not torch.cuda.is_available(), reason=NONE)
ON_DEVICE = {name: {**options, "epochs": 2} for name, options in RECIPES.items()}


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    Machine(DEVICE).prepare()
    yield
    torch.use_deterministic_algorithms(False)


def on_gpu(root: Path, **options: Any) -> Session:
    return Session(Machine(DEVICE, **options), root / "results", root / "state")


def small(method: str = "bitnet", **options: Any) -> Run:
    return small_run(**{"method": method, "model": "resnet20", "epochs": 2} | options)


def digest(run: Run, root: Path) -> str:
    return run_digest(folder_of(run, root / "results"))


def training_of(run: Run, root: Path, **options: Any) -> Training:
    on = Machine(DEVICE, **options)
    batches = training_batches(open_data(run), run, on)
    teacher = build_teacher(run, on, root / "results")
    return Training(run, build_network(run, on, root / "results"), batches, on, root / "state", teacher)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_keeps_its_law(method: str) -> None:
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    here = make_quantizer(method, weight.to(DEVICE), {}).to(DEVICE).eval()
    latent = here.latent(weight.to(DEVICE)).requires_grad_()
    quantized = here(latent)
    if here.levels is not None:
        decoded = here.codes(latent).decode()
        assert torch.equal(quantized, decoded)
        there = make_quantizer(method, weight, {}).eval()
        same = there.codes(there.latent(weight)).index == here.codes(latent).index.cpu()
        assert same.float().mean() > 0.999  # a weight halfway between two levels may round either way
    quantized.sum().backward()
    assert latent.grad is not None and latent.grad.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ships_what_it_computes_and_captured_is_eager(method: str, tmp_path: Path) -> None:
    run = small(method, lr=0.01)
    # To finish, a run is written, read back and compared bit for bit with the network in memory.
    assert on_gpu(tmp_path / "captured").train([run]) == 0
    assert on_gpu(tmp_path / "eager", capture=False).train([run]) == 0
    assert digest(run, tmp_path / "captured") == digest(run, tmp_path / "eager")


@pytest.mark.parametrize("recipe", ON_DEVICE)
def test_captured_is_eager_under_every_recipe(recipe: str, tmp_path: Path) -> None:
    run = small(**ON_DEVICE[recipe])
    assert on_gpu(tmp_path / "captured").train([run]) == 0
    assert on_gpu(tmp_path / "eager", capture=False).train([run]) == 0
    assert digest(run, tmp_path / "captured") == digest(run, tmp_path / "eager")


@cuda_alone
@pytest.mark.parametrize("method", ["fp32", "bitnet", "ttq", "ring", "atq", "lsq", "dorefa"])
def test_steps_are_captured_and_none_waits_for_the_host(method: str, tmp_path: Path) -> None:
    training = training_of(small(method, epochs=3), tmp_path)
    progress = Progress("", 3, STEPS)
    train_epoch(training, StopRequest(), progress)
    assert training.captured.recording is not None
    training.epoch, training.step = 1, 0
    batches = training.batches.epoch(1)
    first = next(batches)  # an epoch's order and crops are sent before its first batch
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in (first, *batches):
            training.sums += training.update(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", ["fp32", "bitnet", "ttq", "ring", "atq", "lsq"])
@pytest.mark.parametrize("step", [1, STEPS + 2])
def test_a_killed_run_ends_with_the_same_bytes(
    method: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    run = small(method, epochs=3, lr=0.01)
    assert on_gpu(tmp_path / "straight").train([run]) == 0
    plain, seen = Progress.step, [0]

    def counted(progress: Progress, *arguments: Any) -> None:
        plain(progress, *arguments)
        seen[0] += 1
        if seen[0] == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", counted)
        with pytest.raises(Killed):
            on_gpu(tmp_path / "killed").train([run])
    assert (step > STEPS) == bool(checkpoint.load(tmp_path / "killed" / "state" / run.hash, run.hash))
    assert on_gpu(tmp_path / "killed").train([run]) == 0
    assert digest(run, tmp_path / "killed") == digest(run, tmp_path / "straight")


@pytest.mark.parametrize("method", ["fp32", "bitnet", "ttq", "ring", "int4"])
def test_processor_and_gpu_agree_on_a_packed_file(
    method: str, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    run = small(method, lr=0.01, precision="fp32")
    assert on_gpu(tmp_path).train([run]) == 0
    predictions = []
    for on in (HOST, Machine(DEVICE)):
        model = load(folder_of(run, tmp_path / "results") / MODEL)[0].to(on.device)
        model = model.to(memory_format=torch.channels_last)
        predictions.append(predict(model, test_batches(open_data(run), run, on))[0].argmax(1).cpu())
    changed = int((predictions[0] != predictions[1]).sum())
    record_property("changed_predictions", changed)  # type: ignore[operator]
    record_property("images", len(predictions[0]))  # type: ignore[operator]
    assert changed <= len(predictions[0]) // 50


def test_fast_runs_too(tmp_path: Path) -> None:
    run = small("ttq")
    assert on_gpu(tmp_path, mode="fast").train([run]) == 0
    assert read(folder_of(run, tmp_path / "results")).env.mode == "fast"


@cuda_alone
def test_runs_in_one_process_leave_no_memory_behind(tmp_path: Path) -> None:
    held = []
    for seed in (1, 2, 3):
        assert on_gpu(tmp_path).train([small(seed=seed)]) == 0
        held.append(torch.cuda.memory_allocated())
    assert held[1] == held[2]
