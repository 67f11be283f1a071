"""Every line of a recipe does what it says: decay, clipping, penalties, momentum, loss scaling, teachers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitq.grid.expand import at_size, expand
from bitq.grid.study import scale
from bitq.machine import machine
from bitq.quant.convert import quantized_layers
from bitq.results.folder import folder_of, read
from bitq.run import Recipe, Run
from bitq.train.before_training import estimate_norm_statistics
from bitq.train.budget import allocate_sparsity
from bitq.train.images import open_data, training_batches
from bitq.train.loop import Training, forward, train_step
from bitq.train.network import build_network, build_teacher
from bitq.train.optimizer import build_optimizer, undecayed
from tests.support import session, small_run

CPU = machine("cpu")


def training_of(run: Run, folder: Path) -> Training:
    batches = training_batches(open_data(run), run, CPU)
    teacher = build_teacher(run, CPU, folder / "results")
    return Training(run, build_network(run, CPU, folder / "results"), batches, CPU, folder, teacher)


def one_step(folder: Path, **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters before and after the first update."""
    training = training_of(small_run(**options), folder)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    for group in training.optimizer.param_groups:
        group["lr"] = 1.0
    train_step(training, next(training.batches.epoch(0)))
    return before, {name: p.detach() for name, p in training.model.named_parameters()}


@pytest.mark.parametrize("method", ["ring", "lsq", "atq", "ring_legacy", "atq_legacy"])
def test_positions_and_steps_do_not_decay_but_those_of_the_originals_do(method: str, tmp_path: Path) -> None:
    settings = {"atq": {"scale": "learned", "threshold": "learned"}}.get(method, {})
    model = build_network(small_run(method, settings=settings), CPU, tmp_path)
    layer = next(iter(quantized_layers(model)))
    own = {name for name, _ in model.named_parameters() if ".quantizer." in name}
    expected = {
        "ring": own | {f"{name}.weight" for name in quantized_layers(model)}, "lsq": own, "atq": own,
        "ring_legacy": set(), "atq_legacy": set(),
    }  # fmt: skip
    assert undecayed(model) == expected[method] and (method == "ring") == (f"{layer}.weight" in undecayed(model))


def test_clipping_bounds_the_whole_gradient(tmp_path: Path) -> None:
    plain = {"momentum": 0.0, "weight_decay": 0.0}
    before, after = one_step(tmp_path, clip_norm=0.01, **plain)
    moved = torch.stack([(after[name] - before[name]).norm() for name in before]).norm().item()
    assert moved == pytest.approx(0.01, rel=1e-2)


def test_the_penalty_is_the_sum_of_all_sizes(tmp_path: Path) -> None:
    plain, penalised = (training_of(small_run(l1=l1), tmp_path) for l1 in (0.0, 0.25))
    batch = next(plain.batches.epoch(0))
    for training in (plain, penalised):
        training.epoch, training.model = 2, training.model.eval()
    sizes = sum(p.detach().abs().sum() for name, p in plain.model.named_parameters() if name.endswith("weight"))
    extra = forward(penalised, batch)[0].total - forward(plain, batch)[0].total
    assert extra.detach().item() == pytest.approx(0.25 * float(sizes), rel=1e-3)


def test_adam_couples_weight_decay_and_adamw_does_not() -> None:
    """A gradient of zero: coupled, decay alone is a full step of lr; decoupled, w shrinks by lr·decay."""
    moved = {}
    for kind in ("adam", "adamw"):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, 0.5)
        optimizer = build_optimizer(layer, Recipe(optimizer=kind, lr=0.01, weight_decay=0.1))  # type: ignore[arg-type]
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
        moved[kind] = 0.5 - layer.weight.item()
    assert moved == {"adam": pytest.approx(0.01, rel=1e-3), "adamw": pytest.approx(0.01 * 0.1 * 0.5, rel=1e-3)}


def test_a_first_step_that_loss_scaling_skips_leaves_no_trace(tmp_path: Path) -> None:
    training = training_of(small_run("fp32", precision="fp16"), tmp_path)
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [p.detach().clone() for p in training.model.parameters()]
    train_step(training, next(training.batches.epoch(0)))
    assert training.skipped == 1
    assert all(torch.equal(one, other) for one, other in zip(before, training.model.parameters(), strict=True))
    state = training.optimizer.state.values()
    assert len(state) == len(before) and not any(s["momentum_buffer"].any() for s in state)


def test_a_frozen_teacher_answers_as_its_file_does(tmp_path: Path) -> None:
    run = small_run("twn", teacher="bitnet/cifar10/resnet18/fp32/s42")
    session(tmp_path).train([run])
    training = training_of(run, tmp_path)
    assert training.teacher is not None
    before = {name: value.clone() for name, value in training.teacher.state_dict().items()}
    train_step(training, next(training.batches.epoch(0)))
    assert not training.teacher.training
    assert all(torch.equal(value, before[name]) for name, value in training.teacher.state_dict().items())


def test_an_online_teacher_has_weights_of_its_own_and_no_decay(tmp_path: Path) -> None:
    training = training_of(small_run("twn", teacher="online"), tmp_path)
    assert training.teacher is not None
    assert not torch.equal(training.teacher.conv1.weight, training.model.conv1.weight)
    exempt = undecayed(training.trained)
    assert {f"teacher.{name}" for name, _ in training.teacher.named_parameters()} == exempt


def test_dealing_a_budget_asks_no_teacher(tmp_path: Path) -> None:
    run = small_run("atq", settings={"budget": 0.5}, teacher="online", model="atq_cnn")
    training = training_of(run, tmp_path)
    assert training.teacher is not None
    before = {name: value.clone() for name, value in training.teacher.state_dict().items()}
    drawn = torch.default_generator.get_state()
    allocate_sparsity(training)
    assert torch.equal(torch.default_generator.get_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in training.teacher.state_dict().items())


def test_norm_statistics_are_the_means_over_the_batches_of_the_sample(tmp_path: Path) -> None:
    training = training_of(small_run(), tmp_path)
    estimate_norm_statistics(training, images=64)
    batches = list(training.batches.sample(64))
    with torch.no_grad():
        seen = [training.model.conv1(x).transpose(0, 1).flatten(1) for x in batches]
    mean = torch.stack([x.mean(1) for x in seen]).mean(0)
    variance = torch.stack([x.var(1) for x in seen]).mean(0)
    torch.testing.assert_close(training.model.bn1.running_mean, mean)
    torch.testing.assert_close(training.model.bn1.running_var, variance)


@pytest.mark.parametrize(("study", "name"), [("atq", "mini"), ("atq", "smoke")])
def test_milestones_keep_their_share_of_the_training(study: str, name: str) -> None:
    run = next(run for run in expand(study, name) if run.recipe.epochs)
    full = next(run for run in expand(study, "full") if run.recipe.epochs)
    shares = [milestone / run.recipe.epochs for milestone in run.recipe.milestones]
    assert shares == pytest.approx([milestone / full.recipe.epochs for milestone in full.recipe.milestones])
    assert at_size({"epochs": 100, "milestones": [50]}, scale("full").size("mnist", "atq_cnn", "p"))["milestones"] == [
        50
    ]


def test_a_run_in_fp16_counts_the_steps_that_it_skipped(tmp_path: Path) -> None:
    run = small_run("fp32", precision="fp16")
    assert session(tmp_path).train([run]) == 0
    history = read(folder_of(run, tmp_path / "results")).history
    assert len(history.loss_scale) == len(history.skipped_share) == run.recipe.epochs
