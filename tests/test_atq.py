"""Adaptive ternary quantization keeps its numbers: zeros, routed gradients, boosted weights, budgets, schedules."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from bitq import models
from bitq.deploy.audit import audit_file
from bitq.deploy.blueprint import spec_of
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.grid.expand import expand
from bitq.machine import machine
from bitq.quant.atq import Atq
from bitq.quant.atq_legacy import AtqLegacy
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.routing import largest, route
from bitq.quant.sparsity import SCHEDULES, sparsity_at
from bitq.quant.thresholds import by_least_squares
from bitq.report import draw
from bitq.report.run_plots import comparable, write_plots
from bitq.results.folder import MODEL, folder_of, read
from bitq.train import budget
from bitq.train.before_training import calibrate_before_training
from bitq.train.images import open_data, training_batches
from bitq.train.loop import Training
from bitq.train.network import build_network
from tests.support import EPOCHS, STEPS, session, small_run, train_until_killed
from tests.test_resume import digest_of, digest_uninterrupted

SHARES = st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.29, 0.3, 0.5, 0.7, 1.0])
KEPT = {"keep": ("conv1", "layer1", "layer2")}


def weights(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradient(weight: Tensor, upstream: Tensor, **options: Any) -> Tensor:
    weight = weight.clone().requires_grad_()
    Atq(weight, **options)(weight).backward(upstream)
    assert weight.grad is not None
    return weight.grad


# --- zeros --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), sparsity=SHARES, ties=st.booleans(), channel=st.booleans())
@settings(max_examples=80)
def test_the_share_of_zeros_is_the_target_to_one_weight(seed: int, sparsity: float, ties: bool, channel: bool) -> None:
    weight = weights(seed, 6, 5, 3, 3)
    weight = (2 * weight).round() / 2 if ties else weight  # many equal sizes, many exact zeros
    quantizer = Atq(weight, sparsity=sparsity, granularity="channel" if channel else "tensor").eval()
    for row in quantizer(weight).view(6 if channel else 1, -1):
        zeros = int((row == 0).sum())
        assert zeros <= sparsity * len(row) + 1e-6 and sparsity * len(row) < zeros + 1


@pytest.mark.parametrize("threshold", ["twn", "max", "ls", "learned"])
def test_every_rule_leaves_zeros_and_others(threshold: str) -> None:
    weight = weights(1, 8, 30)
    assert 0 < (Atq(weight, threshold=threshold)(weight) == 0).float().mean() < 1


@given(seed=st.integers(0, 10**6), sparsity=st.floats(0, 0.95), channel=st.booleans())
@settings(max_examples=40)
def test_no_quantile_is_closer_to_the_weights_than_least_squares(seed: int, sparsity: float, channel: bool) -> None:
    weight, granularity = weights(seed, 4, 25), "channel" if channel else "tensor"
    exact, quantile = (
        mse_loss(Atq(weight, threshold=rule, sparsity=sparsity, granularity=granularity)(weight), weight)
        for rule in ("ls", "quantile")
    )
    assert exact <= quantile * (1 + 1e-5)


def test_least_squares_finds_the_optimum_of_all_thresholds() -> None:
    size = weights(2, 1, 40).abs()
    errors = {}
    for k in range(1, 41):
        kept = size >= size.sort(descending=True).values[0, k - 1]
        errors[k] = float((size - (size * kept).sum() / k * kept).square().sum())
    assert int(by_least_squares(size).sum()) == min(errors, key=errors.__getitem__)


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["ls", "learned", "asym"])
@pytest.mark.parametrize("rule", ["quantile", "twn", "max", "ls", "learned"])
@pytest.mark.parametrize("passes", ["clip", "ttq"])
def test_a_gradient_reaches_every_weight_and_every_scalar(rule: str, scale: str, passes: str) -> None:
    weight = (2 * torch.rand(9, 50, generator=torch.Generator().manual_seed(3)) - 1).requires_grad_()
    quantizer = Atq(weight, threshold=rule, scale=scale, gradient=passes)
    quantizer(weight).backward(weights(4, 9, 50))
    assert all(p.grad is not None and bool(p.grad.all()) for p in (weight, *quantizer.parameters()))


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_learned_scales_start_at_the_least_squares_value(granularity: str) -> None:
    weight = weights(5, 6, 20)
    one, other = (Atq(weight, scale=scale, granularity=granularity)(weight) for scale in ("ls", "learned"))
    assert torch.equal(one, other)


def test_the_gradient_of_a_learned_scale_is_its_finite_difference() -> None:
    weight, upstream = weights(6, 8, 12), weights(7, 8, 12)
    for scale in ("learned", "asym"):
        quantizer = Atq(weight, scale=scale)
        quantizer(weight).backward(upstream)
        for place in range(quantizer.factor.numel()):
            values = []
            for step in (0.01, -0.01):
                with torch.no_grad():
                    quantizer.factor.view(-1)[place] += step
                    values.append((quantizer(weight) * upstream).sum())
                    quantizer.factor.view(-1)[place] -= step
            expected = ((values[0] - values[1]) / 0.02).item()
            assert quantizer.factor.grad.view(-1)[place].item() == pytest.approx(expected, abs=1e-3)  # type: ignore


def test_ttq_gradients_are_scaled_by_region() -> None:
    weight, upstream = weights(8, 7, 9), weights(9, 7, 9)
    for scale in ("learned", "asym"):
        latent = weight.clone().requires_grad_()
        quantizer = Atq(latent, scale=scale, gradient="ttq")
        with torch.no_grad():
            quantizer.factor.mul_(torch.linspace(0.5, 0.7, quantizer.factor.numel()).view_as(quantizer.factor))
        value = quantizer(latent)
        value.backward(upstream)
        low, high = quantizer.factor.detach().expand(2).tolist()
        expected = upstream * torch.where(value == 0, 1.0, torch.where(value < 0, low, high))
        torch.testing.assert_close(latent.grad, expected)


def test_ttq_gradients_of_a_fitted_scale_follow_its_change() -> None:
    weight, upstream = weights(8, 7, 9), weights(9, 7, 9)
    quantizer, latent = Atq(weight, gradient="ttq"), (0.5 * weight).requires_grad_()
    value = quantizer(latent)
    value.backward(upstream)
    signs = value.detach().sign()
    through_scale = signs * (upstream * signs).sum() / signs.abs().sum()
    expected = upstream * torch.where(signs == 0, 1.0, 0.5) + through_scale
    torch.testing.assert_close(latent.grad, expected, rtol=1e-4, atol=1e-5)


def test_weights_beyond_the_clip_learn_only_through_the_scale() -> None:
    weight = torch.tensor([0.1, 0.2, 0.3, 9.0])
    found = gradient(weight, torch.tensor([1.0, 1.0, 1.0, 1.0]), scale="learned", sparsity=0.5, clip=1.5)
    assert found.tolist() == pytest.approx([1, 1, 1, 0])


# --- routing ------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), share=SHARES, by=st.sampled_from(["magnitude", "boundary"]), ties=st.booleans())
@settings(max_examples=60)
def test_routing_keeps_exactly_the_stated_share_of_the_weights(seed: int, share: float, by: str, ties: bool) -> None:
    weight = weights(seed, 7, 11)
    weight = weight.round() if ties else weight
    found = gradient(weight, torch.ones(7, 11), route_weights=share, route_by=by, clip=100.0, scale="learned")
    assert int((found != 0).sum()) == int(share * 77 + 1e-9)
    if by == "magnitude" and (found != 0).any() and not (found != 0).all():
        assert weight.abs()[found != 0].min() >= weight.abs()[found == 0].max()


@given(share=SHARES, half=st.booleans())
@settings(max_examples=30)
def test_routing_keeps_exactly_the_stated_share_of_the_inputs(share: float, half: bool) -> None:
    torch.manual_seed(0)
    layer = convert(nn.Sequential(nn.Linear(12, 5)), "atq", {"route_inputs": share, "sparsity": 0.0})[0]  # type: ignore[index]
    x = weights(10, 8, 12).relu().requires_grad_()  # half of them equal
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        layer(x).backward(weights(19, 8, 5).to(torch.bfloat16 if half else torch.float32))
    assert x.grad is not None and int((x.grad != 0).sum()) == int(share * 96 + 1e-9)


def test_routing_changes_nothing_going_forward() -> None:
    x = weights(11, 5, 5)
    assert torch.equal(route(x, largest(x.abs(), 0.3)), x)


# --- schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@given(start=st.floats(0, 1), end=st.floats(0, 1), until=st.floats(0.1, 1), places=st.tuples(SHARES, SHARES))
@settings(max_examples=30)
def test_schedules_run_from_start_to_end_without_turning(
    name: str, start: float, end: float, until: float, places: tuple[float, float]
) -> None:
    early, late = (sparsity_at(SCHEDULES[name], start, end, until, place) for place in sorted(places))
    assert abs(late - end) <= abs(early - end) + 1e-12
    assert sparsity_at(SCHEDULES[name], start, end, until, until) == end
    if name != "constant":
        assert sparsity_at(SCHEDULES[name], start, end, until, 0.0) == start


def test_zeros_follow_the_schedule(tmp_path: Path) -> None:
    run = small_run("atq", settings={"schedule": "linear", "sparsity": 0.6, "until": 1.0}, epochs=3)
    assert session(tmp_path).train([run]) == 0
    zeros = read(folder_of(run, tmp_path / "results")).history.zeros
    expected = [0.05 + 0.55 * done for done in (1 / 3, 2 / 3, 1)]
    assert zeros == pytest.approx(expected, abs=2e-3)  # each layer rounds down


# --- boosting -----------------------------------------------------------------------------------------------------


def test_boosted_weights_are_close_and_learn_as_themselves() -> None:
    weight, upstream = weights(12, 20, 20).requires_grad_(), weights(13, 20, 20)
    quantizer = Atq(weight, boost=0.1, scale="learned")  # a scale that no weight decides
    value = quantizer(weight)
    value.backward(upstream)
    plain = Atq(weight, scale="learned")(weight)
    boosted = torch.zeros(400, dtype=torch.bool).index_fill(0, quantizer.positions, True).view(20, 20)
    step = quantizer.codes(weight).residual.scale  # type: ignore[union-attr]
    assert int(boosted.sum()) == 40 and ((value - weight).abs()[boosted] <= 0.51 * step).all()
    assert torch.equal(value[~boosted], plain[~boosted])
    assert (weight - plain).abs()[boosted].min() >= (weight - plain).abs()[~boosted].max()
    torch.testing.assert_close(weight.grad[boosted], upstream[boosted])  # type: ignore[index]


def test_boosted_by_gradient_are_the_weights_whose_codes_cost_most() -> None:
    weight = weights(15, 20, 20).requires_grad_()
    quantizer = Atq(weight, boost=0.1, boost_by="gradient")
    at_first = quantizer.positions.clone()
    weight.grad = weights(16, 20, 20)
    with torch.no_grad():
        quantizer.progress = 0.1
        quantizer.project_(weight)
    cost = (weight.grad * (weight - Atq(weight)(weight))).detach().abs().flatten()
    assert set(quantizer.positions.tolist()) == set(cost.topk(40).indices.tolist()) != set(at_first.tolist())


def test_the_boosted_weights_are_chosen_anew_and_then_no_more() -> None:
    weight = weights(14, 30, 30)
    quantizer = Atq(weight, boost=0.05)
    seen = []
    for step in range(100):
        quantizer.progress = step / 100
        weight = weight + 0.3 * weights(100 + step, 30, 30)
        quantizer.project_(weight)
        seen.append(tuple(quantizer.positions.tolist()))
    changes = [step for step in range(1, 100) if seen[step] != seen[step - 1]]
    assert changes == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


def test_boosting_is_counted_in_bytes_and_read_back(tmp_path: Path) -> None:
    run = small_run("atq", settings={"boost": 0.05}, width=16)
    assert session(tmp_path).train([run]) == 0  # which compares weights and logits of the file bit by bit
    packed = read(folder_of(run, tmp_path / "results")).results.packed
    assert packed is not None
    boosted = sum(layer.residual for layer in packed.audit.layers)
    assert boosted == sum(int(0.05 * layer.weights + 1e-9) for layer in packed.audit.layers)
    layers = len(packed.audit.layers)
    assert packed.parts["residuals"] >= 2 * boosted + 4 * layers  # a gap and a value each, a scale for each layer
    assert packed.parts["residuals"] <= 2.2 * boosted + 4 * layers


def test_in_training_a_gradient_is_there_to_boost_by(tmp_path: Path) -> None:
    by_distance, by_gradient = (
        small_run("atq", settings={"boost": 0.05, "boost_by": by}) for by in ("distance", "gradient")
    )
    assert session(tmp_path).train([by_distance, by_gradient]) == 0
    one, other = (read(folder_of(run, tmp_path / "results")).results for run in (by_distance, by_gradient))
    assert one.weights_digest != other.weights_digest


@pytest.mark.parametrize(
    "options",
    [
        {"boost": 0.1, "boost_by": "gradient", "schedule": "cubic", "scale": "learned", "granularity": "channel"},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {"boost": 0.05, "boost_until": 0.9, "scale": "asym", "threshold": "quantile"},
                {"boost": 0.05, "boost_until": 0.9, "budget": 0.5},
            )
        ),
        {"threshold": "learned", "scale": "learned", "gradient": "ttq", "route_weights": 0.5, "route_inputs": 0.5},
    ],
)
def test_a_killed_run_with_everything_on_ends_with_the_same_bytes(options: dict[str, Any], tmp_path: Path) -> None:
    run = small_run("atq", settings=options, teacher="online", optimizer="adamw", lr=0.002)
    straight = digest_uninterrupted(run, tmp_path / "straight")
    for step in (STEPS + 3, STEPS - 1):
        killed = train_until_killed(run, tmp_path / "killed", min(step, EPOCHS * STEPS - 1))
        assert os.WTERMSIG(killed) == signal.SIGKILL
    assert digest_uninterrupted(run, tmp_path / "killed") == straight == digest_of(run, tmp_path / "killed")


# --- budget -------------------------------------------------------------------------------------------------------


@given(share=st.floats(0, 0.9), sizes=st.lists(st.integers(20, 200), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_the_layers_zeros_add_up_to_the_budget(share: float, sizes: list[int], seed: int) -> None:
    sensitivity = [weights(seed + place, size).abs() * 10.0**place for place, size in enumerate(sizes)]
    zeros = budget.zeros_of(sensitivity, share)
    assert sum(zeros) == int(share * sum(sizes) + 1e-9)
    assert all(count < size for count, size in zip(zeros, sizes, strict=True))


def test_a_budget_that_would_lose_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="budget=1.0 was given, but 5% of the weights of each layer are never zero"):
        budget.zeros_of([weights(0, 100).abs()], 1.0)


def test_a_budget_is_dealt_by_sensitivity_and_shipped(tmp_path: Path) -> None:
    run = small_run("atq", settings={"budget": 0.5})
    assert session(tmp_path).train([run]) == 0
    packed = read(folder_of(run, tmp_path / "results")).results.packed
    assert packed is not None
    layers = packed.audit.layers
    assert sum(layer.histogram[1] for layer in layers) == int(0.5 * packed.audit.packed_weights)
    assert max(layer.zeros for layer in layers) - min(layer.zeros for layer in layers) > 0.05


def test_dealing_a_budget_leaves_no_trace_but_the_shares(tmp_path: Path) -> None:
    run, cpu = small_run("atq", settings={"budget": 0.5}), machine("cpu")
    one, other = (
        Training(run, build_network(run, cpu, tmp_path), training_batches(open_data(run), run, cpu),
                 cpu, tmp_path)
        for _ in range(2)
    )  # fmt: skip
    calibrate_before_training(one)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]) != name.endswith("share"), name
    assert all(parameter.grad is None for parameter in one.model.parameters())


# --- the published arithmetic -------------------------------------------------------------------------------------


def test_the_published_ternary_weights_have_no_gradient_and_decay_erases_them() -> None:
    # 200 steps of Adam with coupled decay 1e-4 on a regression: outside the mask the weights vanish.
    layer = convert(nn.Sequential(nn.Linear(60, 20)), "atq_legacy", {"rho": 0.05})[0]  # type: ignore[index]
    before = layer.weight.detach().abs().mean()
    outside = torch.ones(1200, dtype=torch.bool).index_fill(0, layer.quantizer.positions, False).view(20, 60)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, weight_decay=1e-4)
    x, y = weights(15, 64, 60), weights(16, 64, 20)
    for _ in range(200):
        optimizer.zero_grad()
        mse_loss(layer(x), y).backward()  # type: ignore[no-untyped-call]
        assert not (layer.weight.grad[outside] != 0).any()
        optimizer.step()
    assert layer.weight.detach().abs()[outside].mean() < 0.02 * before


def test_the_published_threshold_is_a_quantile_that_keeps_no_tie() -> None:
    weight = weights(17, 10, 100)
    quantizer = AtqLegacy(weight, rho=0.0, sparsity=0.3)
    assert int((quantizer(weight) == 0).sum()) == 301  # sorted[300] itself is not above it
    quantizer.progress = 0.35  # half of the way from 0.05 to 0.3
    assert int((quantizer(weight) == 0).sum()) == 176


def test_the_published_layers_may_differ_in_rho() -> None:
    model = convert(nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 10)), "atq_legacy", {"rho": 0.05, "1": {"rho": 0.1}})
    masks = [layer.quantizer.positions for layer in quantized_layers(model).values()]
    assert [mask.shape for mask in masks] == [(10,), (10,)]
    with pytest.raises(UsageError, match="no layer matches 'fc9'"):
        convert(nn.Sequential(nn.Linear(20, 10)), "atq_legacy", {"fc9": {"rho": 0.1}})


def test_a_zeroed_run_keeps_what_the_mask_holds_and_nothing_else(tmp_path: Path) -> None:
    parent = small_run("atq_legacy", optimizer="adam", lr=1e-3)
    session(tmp_path).train([parent])
    file = folder_of(parent, tmp_path / "results") / MODEL
    zeroed = small_run("atq_legacy", settings={"zeroed": True}, start=str(file), epochs=0)
    assert session(tmp_path).train([zeroed]) == 0
    one, other = (load(folder_of(run, tmp_path / "results") / MODEL)[0] for run in (parent, zeroed))
    for before, after in zip(quantized_layers(one).values(), quantized_layers(other).values(), strict=True):
        residual = before.quantizer.codes(before.weight).residual
        assert residual is not None
        assert torch.equal(after.weight, residual.added_to(torch.zeros_like(after.weight)))


@pytest.mark.parametrize("settings", [{"scale": "learned"}, {"scale": "asym"}, {"gradient": "ttq"}])
def test_a_budget_is_refused_where_first_scales_would_be_those_of_another_share(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give scale=ls and gradient=clip with it"):
        Atq(torch.ones(2, 2), budget=0.5, **settings)


@pytest.mark.parametrize("settings", [{"scale": "learned"}, {"scale": "asym"}, {"gradient": "ttq"}])
def test_the_first_scales_fit_the_first_share_of_zeros(settings: dict[str, Any]) -> None:
    weight = torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
    quantizer = Atq(weight, schedule="linear", sparsity=0.7, **settings)
    assert quantizer.progress == 1.0
    quantizer.progress = 0.0
    assert torch.equal(quantizer.first, quantizer._least_squares(weight, quantizer._signs(weight)))


def test_whole_weights_ship_as_they_are(tmp_path: Path) -> None:
    run = small_run("atq_legacy")
    model = build_network(run, machine("cpu"), tmp_path)
    export(model, spec_of(run), tmp_path / "m")
    report = audit_file(tmp_path / "m")
    assert all(layer.residual == int(0.05 * layer.weights) for layer in report.layers)
    assert (
        report.bits_per_packed_weight and report.bits_per_packed_weight > 1.6 + 0.05 * 40
    )  # 32 bits and a gap for a twentieth
    before, after = (quantized_layers(network)["conv1"] for network in (model, load(tmp_path / "m")[0]))
    assert isinstance(before.quantizer, AtqLegacy)
    mask = before.quantizer.positions
    assert torch.equal(after.weight.flatten()[mask], before.weight.detach().flatten()[mask])


# --- complaints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"threshold": "quantil"}, "unknown threshold 'quantil'; allowed: .*quantile"),
        ({"sparsity": 1.2}, "sparsity=1.2 was given; it is a share, from 0 to 1"),
        ({"sparsity": "much"}, "sparsity=much was given; it is a share"),
        ({"schedule": "linear", "until": 0}, "until=0 was given; it must be above 0"),
        ({"threshold": "twn", "schedule": "linear"}, "a schedule or a budget would be ignored"),
        ({"scale": "asym", "granularity": "channel"}, "give granularity=tensor"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Atq(weights(18, 3, 3), **options)


# --- the network and its study ------------------------------------------------------------------------------------


def test_the_network_has_the_published_number_of_weights() -> None:
    assert (
        models.flops("atq_cnn", models.Geometry(10, 32, channels=1, image_size=28)).params == 421_836 - 2
    )  # the original counts two α
    assert models.flops("atq_cnn", models.Geometry(10, width=16, channels=1, image_size=28)).params < 421_836 / 3
    model = models.build("atq_cnn", 10, channels=1, image_size=28)
    assert set(models.matching_layers(model, models.keep_patterns("atq_cnn", ("conv",)))) == {"conv1", "conv2"}


def test_the_study_has_the_counts_that_it_promises() -> None:
    runs = expand("atq", "full")
    assert (len(runs), sum(run.distillation is not None for run in runs)) == (119, 15)
    headline = [run for run in runs if run.phase == "headline" and run.data.dataset == "fashion_mnist"]
    assert {(run.arm, run.seed) for run in headline} == {
        (arm, seed) for arm in ("fp32", "atq-keep_conv") for seed in (42, 123, 456, 789, 1011)
    }
    zeroed = [run for run in runs if run.tag == "zeroed"]
    assert all(run.recipe.epochs == 0 and run.start and run.start.id.endswith(f"s{run.seed}") for run in zeroed)


# --- plots of one file --------------------------------------------------------------------------------------------


def test_a_file_is_plotted_as_far_as_its_records_tell(tmp_path: Path) -> None:
    run = small_run("atq", settings={"schedule": "linear"}, epochs=1, warmup_epochs=0)
    session(tmp_path).train([run])
    folder = folder_of(run, tmp_path / "results")
    histograms = {
        layer.name: list(zip(layer.signs, layer.histogram, strict=True)) for layer in audit_file(folder / MODEL).layers
    }
    written, left_out = write_plots(folder / MODEL, tmp_path / "plots", histograms)
    names = {"accuracy_comparison", "sparsity_schedule", "training_curve", "level_distribution"}
    assert {path.stem for path in written} == names
    assert {path.suffix: path.read_bytes()[:4] for path in written} == {".pdf": b"%PDF", ".png": b"\x89PNG"}
    assert left_out == []
    (folder / "best.safetensors").write_bytes((folder / MODEL).read_bytes())
    _, left_out = write_plots(folder / "best.safetensors", tmp_path / "renamed", histograms)
    assert len(left_out) == 3 and all("give the file under that name" in sentence for sentence in left_out)
    (folder / "history.json").unlink()
    written, left_out = write_plots(folder / MODEL, tmp_path / "alone", histograms)
    assert [path.name for path in written] == ["level_distribution.pdf", "level_distribution.png"]
    assert len(left_out) == 3 and all("no history.json lies beside" in sentence for sentence in left_out)


def test_plots_compare_runs_of_the_same_images_width_and_length() -> None:
    run = small_run("atq")
    assert comparable(run, small_run("twn")) and comparable(run, run.model_copy(update={"study": "atq"}))
    for other in (small_run(epochs=5), small_run(width=16), small_run(variant="procedural@640")):
        assert not comparable(run, other)


def test_a_single_epoch_lies_between_whole_numbers() -> None:
    axes = Figure().subplots()
    draw.curves(axes, {"test": [50.0]})
    assert axes.get_xlim() == (0, 2)
