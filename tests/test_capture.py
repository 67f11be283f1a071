"""A recorded step computes what the plain one does, bit for bit, and no step makes a GPU wait for its host."""

import re
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitq.machine import machine
from bitq.quant import thresholds
from bitq.quant.convert import quantized_layers
from bitq.quant.registry import METHODS, make_quantizer
from bitq.run import Run
from bitq.train import capture
from bitq.train.capture import Captured
from bitq.train.images import open_data, training_batches
from bitq.train.loop import Training, train_epoch, train_step
from bitq.train.network import build_network, build_teacher
from bitq.train.progress import Progress
from bitq.train.signals import StopRequest
from tests.support import STEPS, session, small_run
from tests.tape import Tape, recorder, state_of

CPU = machine("cpu")
TEACHER = "bitnet/cifar10/resnet18/fp32/s42"
RECIPES: dict[str, dict[str, Any]] = {
    "no mixup": {"mixup": 0.0},
    "clip, adamw, lr of the step": {"clip_norm": 0.5, "optimizer": "adamw", "lr": 0.002, "lr_every": "step"},
    "adam, l1": {"optimizer": "adam", "lr": 0.002, "l1": 1e-5, "precision": "fp32"},
    "fp16, clip": {"method": "ttq", "precision": "fp16", "clip_norm": 0.5},
    "distilled": {"teacher": TEACHER, "model": "resnet18"},
    "online teacher": {"teacher": "online"},
    "dropout, erasing": {"model": "vgg11", "augment": "cutout"},
    "micro-batches": {"model": "convnext", "width": 16, "accumulate": 2},
    "a smaller last batch": {"variant": "procedural@150"},
    "rotated": {"augment": "rotate"},
    "pairs": {"model": "gated_fusion", "dataset": "fashion_sst2", "mixup": 0.0, "batch": 16},
}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results that runs start or learn from."""
    folder = tmp_path_factory.mktemp("parents")
    assert session(folder).train([small_run("bitnet", teacher=TEACHER, epochs=2)]) == 0
    return folder / "results"


def recipe_run(recipe: str) -> Run:
    options = {"method": "bitnet", "model": "atq_cnn", "epochs": 2} | RECIPES[recipe]
    return small_run(**options)


def training_of(run: Run, folder: Path, results: Path | None = None) -> Training:
    results = results or folder
    batches = training_batches(open_data(run), run, CPU)
    return Training(run, build_network(run, CPU, results), batches, CPU, folder, build_teacher(run, CPU, results))


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "EAGER_STEPS", 1)
    monkeypatch.setattr(thresholds, "on_host", lambda _: False)  # or numpy sorts, which no tape sees


def on_tape(training: Training) -> list[int]:
    """Record and replay from now on; returns where the replayed steps are counted."""
    replayed = [0]

    def record(call: Any) -> Any:
        sums, replay = recorder(training)(call)

        def counted() -> None:
            replayed[0] += 1
            replay()

        return sums, counted

    training.captured = Captured(record, training.run.recipe.batch)
    return replayed


def epochs_of(training: Training, epochs: int = 2) -> list[Tensor]:
    """Train some epochs; all that they changed."""
    progress = Progress("", epochs, training.batches.steps)
    for _ in range(epochs):
        train_epoch(training, StopRequest(), progress)
        training.epoch, training.step = training.epoch + 1, 0
    return [tensor.detach().clone() for tensor in (*state_of(training), training.sums)]


def assert_equal(some: list[Tensor], others: list[Tensor]) -> None:
    assert len(some) == len(others) > 3
    assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_replayed_steps_of_a_method_change_no_bit(method: str, tmp_path: Path) -> None:
    run = small_run(method, model="atq_cnn", epochs=2, lr=0.001)  # atq_legacy diverges at a larger one
    plain, recorded = training_of(run, tmp_path), training_of(run, tmp_path)
    replayed = on_tape(recorded)
    assert_equal(epochs_of(plain), epochs_of(recorded))
    # The threshold of atq_legacy moves with every step until 70 % of the training, the map of parq until 75 %.
    assert replayed[0] == {"atq_legacy": 2, "parq": 2, "irnet": 0}.get(method, 2 * STEPS - 1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_replayed_steps_of_a_recipe_change_no_bit(recipe: str, tmp_path: Path, parents: Path) -> None:
    run = recipe_run(recipe)
    plain, recorded = training_of(run, tmp_path, parents), training_of(run, tmp_path, parents)
    replayed = on_tape(recorded)
    assert_equal(epochs_of(plain), epochs_of(recorded))
    every = 2 * plain.batches.steps
    not_replayed = {"adam, l1": 2, "a smaller last batch": 3}.get(recipe, 1)
    assert replayed[0] == every - not_replayed


def test_a_recording_of_another_host_state_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The negative control: what the host decides, left out of the host state, must not pass the test above.
    run = small_run("ring", model="atq_cnn", epochs=2, settings={"mode": "anneal", "sigma": [0.5, 0.15]})
    plain, recorded = training_of(run, tmp_path), training_of(run, tmp_path)
    replayed = on_tape(recorded)
    monkeypatch.setattr(Training, "host_state", ())
    expected, found = epochs_of(plain), epochs_of(recorded)
    assert replayed[0] and not all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_stopped_and_resumed_run_replays_to_the_same_bits(tmp_path: Path) -> None:
    run = small_run("ttq", model="atq_cnn", epochs=2, precision="fp16", clip_norm=0.5)
    straight = epochs_of(training_of(run, tmp_path / "straight"))
    stopped, stop = training_of(run, tmp_path), StopRequest()
    on_tape(stopped)
    progress = Progress("", 2, STEPS)
    plain_step = progress.step

    def step_and_stop(epoch: int, step: int, images: int) -> None:
        plain_step(epoch, step, images)
        if step == 3:
            stop.handle(15, None)

    progress.step = step_and_stop  # type: ignore[method-assign]
    train_epoch(stopped, stop, progress)
    stopped.save()
    resumed = training_of(run, tmp_path)
    replayed = on_tape(resumed)
    assert resumed.resume() and resumed.step == 3
    assert_equal(straight, epochs_of(resumed))
    assert replayed[0] == 2 * STEPS - 3 - 1


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in METHODS),
    ("ring", {"mode": "anneal", "sigma": [0.5, 0.15]}),
    ("ring", {"mode": "soft_until", "hard_from": 0.5}),
    ("atq", {"schedule": "linear"}),
    ("atq", {"schedule": "cubic", "until": 0.3}),
    ("atq", {"boost": 0.1}),
    ("atq", {"budget": 0.4}),
    ("atq", {"threshold": "learned", "scale": "learned"}),
]
# The one table of what cannot be recorded at all, since a step reads a value on the device.
NEVER_RECORDED = [("atq", {"boost": 0.1}), ("atq", {"budget": 0.4})]


def pass_through(name: str, settings: dict[str, Any], progress: float) -> tuple[Any, list[Tensor]]:
    """What the host decides at this progress, and the weights and gradients that come of it."""
    weight = torch.linspace(-1, 1, 60).view(6, 10)
    quantizer = make_quantizer(name, weight, settings).train()
    quantizer.progress = progress
    latent = quantizer.latent(weight).clone().requires_grad_()
    quantized = quantizer(latent)
    quantized.backward(torch.linspace(1, 2, 60).view(6, 10))
    return quantizer.host_state, [quantized.detach(), *(() if latent.grad is None else (latent.grad,))]


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_what_changes_with_progress_alone_is_in_the_host_state(name: str, settings: dict[str, Any]) -> None:
    seen = [pass_through(name, settings, progress) for progress in (0.0, 0.1, 0.4, 0.6, 0.9, 1.0)]
    for (one, before), (other, after) in pairwise(seen):
        if one is not None and one == other:
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert ((name, settings) in NEVER_RECORDED) == (None in [state for state, _ in seen])


def waiting(training: Training) -> list[str]:
    """The operations of an epoch's second and third batch, and of their steps, for which a GPU and its host wait."""
    training.model.train()
    batches = training.batches.epoch(0)
    train_step(training, next(batches))  # what is computed once is computed here
    with Tape() as tape:
        for batch in islice(batches, 2):
            train_step(training, batch)
    assert len(tape.calls) > 100
    return tape.waiting


@pytest.mark.parametrize("method", METHODS)
def test_no_step_of_a_method_waits(method: str, tmp_path: Path) -> None:
    assert waiting(training_of(small_run(method, model="atq_cnn"), tmp_path)) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_step_of_a_recipe_waits(recipe: str, tmp_path: Path, parents: Path) -> None:
    assert waiting(training_of(recipe_run(recipe), tmp_path, parents)) == []


@pytest.mark.parametrize("model", ["resnet20", "resnet18", "vgg11", "mobilenet_v2", "resnet50"])
def test_no_step_of_a_network_waits(model: str, tmp_path: Path) -> None:
    assert waiting(training_of(small_run("bitnet", model=model), tmp_path)) == []


@pytest.mark.parametrize("settings", [settings for _, settings in NEVER_RECORDED])
def test_a_step_that_waits_is_found_and_said(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = training_of(small_run("atq", model="atq_cnn", epochs=2, settings=settings), tmp_path)
    assert "aten::_local_scalar_dense" in waiting(training)
    assert quantized_layers(training.model) and training.host_state is None
    replayed = on_tape(training)
    epochs_of(training, 1)
    assert replayed == [0]
    assert capsys.readouterr().err.count("operation by operation") == 1


def test_nothing_compiles(tmp_path: Path) -> None:
    """torch.compile chooses kernels by measuring them: no exact run may depend on it, and none loads its compiler."""
    root = Path(__file__).parents[1]
    files = sorted((root / "bitq").rglob("*.py"))
    assert files and not [
        file.name for file in files if re.search(r"torch\.compile\b", file.read_text(encoding="utf-8"))
    ]
    code = (
        "import sys; from pathlib import Path; from tests.support import session, small_run; "
        f"assert session(Path({str(tmp_path)!r})).train([small_run('bitnet', epochs=2)]) == 0; "
        "assert 'torch._inductor.compile_fx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True)


def test_the_table_names_every_method() -> None:
    table = (Path(__file__).parents[1] / "docs" / "gpu.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named | {f"int{bits}" for bits in range(2, 9)} == set(METHODS)
