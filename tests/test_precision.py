"""Quantization after training: its laws, the settings that it refuses, and the frauds that the audit finds."""

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import vgg as published

from bitq import models
from bitq.deploy.audit import audit, audit_file, most_values_under_a_scale
from bitq.deploy.coverage import coverage
from bitq.deploy.evaluate import predict
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.errors import Bug, DataError, UsageError
from bitq.interop.backends import ported
from bitq.interop.published_vgg import import_vgg11
from bitq.models.fold import fold, foldable
from bitq.ptq import ranges
from bitq.ptq.calibrate import calibrate
from bitq.ptq.rounding import round_columns
from bitq.quant.base import Codes, Quantizer
from bitq.quant.cast import Cast
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.integer import RANGES, Integer
from bitq.quant.static import StaticUint8, activation_named
from bitq.results.folder import MODEL, folder_of, read
from bitq.run import Calibration
from tests.support import session, small_run

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
SPEC = {"model": "vgg11", "classes": 10, "width": 8, "image_size": 16}


def images(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def lived_in(model: nn.Module, size: int = 16) -> nn.Module:
    """A network whose normalisation has seen images, with scales and shifts of its own."""
    generator = torch.Generator().manual_seed(1)
    model(images(32, size))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for parameter in (module.weight, module.bias):
                    parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return model.eval()


def vgg(seed: int = 0) -> nn.Module:
    return network("vgg11", seed)


def network(name: str, seed: int = 0) -> nn.Module:
    return lived_in(models.build(name, 10, 8, image_size=16, seed=seed))


def quantized(method: str, plan: Calibration, range: str = "mse", name: str = "vgg11") -> nn.Module:
    model = network(name)
    if plan.fold:
        fold(model)
    convert(model, method, {"range": range}, activation=activation_named(plan.activations))
    calibrate(model, plan, [images(64)])
    return model.eval()


def logits(model: nn.Module) -> Tensor:
    return predict(model, [(images(100, seed=2), torch.zeros(100))])[0]


def relative(error: Tensor, of: Tensor) -> float:
    return float(error.norm() / of.norm())


# --- integers ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), granularity=st.sampled_from(["channel", "tensor"]),
       range=st.sampled_from(list(RANGES)))  # fmt: skip
@settings(max_examples=60)
def test_fake_quantization_equals_an_integer_reference(seed: int, bits: int, granularity: str, range: str) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    quantizer = Integer(weight, bits, granularity, range)
    codes = quantizer.codes(weight)
    # In integers, one weight at a time.
    for row, values in enumerate(weight.tolist()):
        step = float(quantizer.step.expand(6, 1)[row] if granularity == "channel" else quantizer.step)
        for column, value in enumerate(values):
            best = min(range_of(bits), key=lambda code: abs(code * step - value))
            shipped = int(codes.index[row, column]) - 2 ** (bits - 1)
            # A weight between two codes: half of all steps, rounded to fp32, are off by 2^(bits - 24) of one.
            tie = max(1e-5, 2.0 ** (bits - 24))
            assert abs(abs(best * step - value) - abs(shipped * step - value)) <= tie * step
    assert most_values_under_a_scale(quantizer(weight), codes.scale) <= 2**bits


def range_of(bits: int) -> list[int]:
    return list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 4))
@settings(max_examples=30)
def test_the_mse_range_leaves_no_more_error_than_the_others(seed: int, bits: int) -> None:
    weight = torch.randn(4, 200, generator=torch.Generator().manual_seed(seed)) ** 3
    errors = {range: (Integer(weight, bits, range=range)(weight) - weight).square().sum(1) for range in RANGES}
    assert (errors["mse"] <= errors["minmax"]).all() and (errors["mse"] <= 1.01 * errors["percentile"]).all()


@given(low=st.floats(-5, 0), high=st.floats(0.01, 9), seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_static_codes_are_within_half_a_step_and_zero_is_exact(low: float, high: float, seed: int) -> None:
    activation = StaticUint8((1,))
    activation.use_range(torch.tensor(low), torch.tensor(high))
    x = low + (high - low) * torch.rand(500, generator=torch.Generator().manual_seed(seed))
    codes, scale = activation(x)
    zero = activation.zero.item()
    inside = (x >= -zero * scale) & (x <= (255 - zero) * scale)  # the zero point is rounded, which moves the ends
    assert ((codes * scale - x).abs()[inside] <= 0.501 * scale).all() and inside.float().mean() > 0.98
    assert activation(torch.zeros(1))[0].item() == 0 and codes.abs().max() <= 255


@pytest.mark.parametrize("name", ["minmax", "percentile", "mse"])
def test_a_range_is_chosen_from_all_pixels_and_channels(name: str) -> None:
    """Large numbers in one of two channels and one of two rows only, which an even stride would miss, or see alone."""
    x = torch.rand(250, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, 1::2, 1::2] *= 4
    seen = ranges.Observer()
    seen.see(x)
    low, high = ranges.RANGES[name](seen)
    activation = StaticUint8((1,))
    activation.use_range(low, high)
    codes, scale = activation(x)
    assert high.item() == pytest.approx(4, rel=0.05) and (codes * scale - x).square().mean() < 1e-4


def test_each_activation_range_is_another_choice() -> None:
    heavy = torch.randn(10**5, generator=torch.Generator().manual_seed(0)) ** 3
    seen = ranges.Observer()
    seen.see(heavy)
    assert ranges.mse(seen)[1] < ranges.minmax(seen)[1] > ranges.percentile(seen)[1]


def test_a_calibration_uses_the_range_that_it_asks_for() -> None:
    scales = set()
    for name in ranges.RANGES:
        plan = Calibration(fold=True, activations="static", activation_range=name)  # type: ignore[arg-type]
        scales.add(quantized("int8", plan).features[0].activation.scale.item())  # type: ignore[index, union-attr]
    assert len(scales) == len(ranges.RANGES)


# --- folding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg11", "vgg16", "resnet18", "resnet20", "mobilenet_v2", "efficientnet_b0"])
def test_folding_changes_logits_by_rounding_only(name: str) -> None:
    model = lived_in(models.build(name, 10, 8, image_size=32), 32)
    before = predict(model, [(images(8, 32), torch.zeros(8))])[0]
    pairs = list(foldable(model))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(pairs) == norms > 0 and fold(model) == [layer for layer, _ in pairs]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    after = predict(model, [(images(8, 32), torch.zeros(8))])[0]
    assert relative(after - before, before) <= 1e-5


def test_a_normalisation_behind_two_readers_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.bn(y) + y

    assert fold(Shared()) == []


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activations", ["none", "static"])
def test_eight_bits_change_logits_by_less_than_one_percent(activations: str) -> None:
    plan = Calibration(fold=True, activations=activations, rounding="adaptive", bias_correction=activations == "none")
    wanted = logits(vgg())
    assert relative(logits(quantized("int8", plan)) - wanted, wanted) < 0.01
    # Eleven layers of rounding errors that nothing makes up for.
    nearest = quantized("int8", Calibration(fold=True, activations=activations))
    assert relative(logits(nearest) - wanted, wanted) < 0.03


@pytest.mark.parametrize("method", ["int4", "int3"])
def test_rounding_for_the_outputs_beats_rounding_to_the_nearest(method: str) -> None:
    nearest, adaptive = (quantized(method, Calibration(fold=True, rounding=r)) for r in ("nearest", "adaptive"))
    wanted = logits(vgg())
    assert relative(logits(adaptive) - wanted, wanted) < 0.9 * relative(logits(nearest) - wanted, wanted)


def test_bias_correction_puts_the_mean_output_right() -> None:
    wanted = predict(vgg(), [(images(64), torch.zeros(64))])[0].mean(0)
    plain, corrected = (
        predict(quantized("int3", Calibration(fold=True, bias_correction=bias)), [(images(64), torch.zeros(64))])[0]
        for bias in (False, True)
    )
    assert (corrected.mean(0) - wanted).norm() < 0.1 * (plain.mean(0) - wanted).norm()


def test_rounding_in_groups_is_rounding_each_group_by_itself() -> None:
    weight, x = torch.randn(2, 3, 9), torch.randn(2, 50, 9)
    gram, step = x.transpose(1, 2) @ x, torch.full((2, 3, 1), 0.4)
    together = round_columns(weight, gram, step, -8, 7)
    for group in range(2):
        alone = round_columns(weight[group][None], gram[group][None], step[group][None], -8, 7)
        assert torch.equal(together[group], alone[0])


@pytest.mark.parametrize(
    ("plan", "method", "words"),
    [
        ({"rounding": "adaptive"}, "twn", "rounding=adaptive chooses among the codes of uniform integers"),
        ({"activations": "static"}, "fp32", "none is quantized"),
        ({"bias_correction": True}, "int4", "with fold=true"),
    ],
)
def test_what_would_silently_not_happen_is_refused(plan: dict[str, object], method: str, words: str) -> None:
    model = convert(
        models.build("resnet20", 10, 8), method, activation=activation_named(str(plan.get("activations", "none")))
    )
    with pytest.raises(UsageError, match=words):
        calibrate(model, Calibration(**plan), [images(4, 32)])


@pytest.mark.parametrize(
    ("method", "plan"),
    [
        ("int8", {"fold": True, "activations": "static"}),
        ("int4", {"fold": True, "rounding": "adaptive", "bias_correction": True}),
        ("int2", {"activations": "dynamic"}),
        ("fp16", None),
        ("bf16", None),
    ],
)
def test_a_quantized_start_ships_reads_back_and_is_counted(
    method: str, plan: dict[str, object], tmp_path: Path
) -> None:
    session(tmp_path).train([parent := small_run(model="vgg11", width=8, mixup=0.0)])
    start = str(folder_of(parent, tmp_path / "results") / MODEL)
    run = small_run(
        method, model="vgg11", width=8, mixup=0.0, start=start, epochs=0, **{"calibration": plan} if plan else {}
    )
    assert session(tmp_path).train([run]) == 0
    packed = read(folder_of(run, tmp_path / "results")).results.packed
    assert packed and packed.coverage
    if method in ("fp16", "bf16"):
        assert (
            1.8 < packed.compression < 2.1 and len(packed.casts) == 11 and packed.coverage.packed_multiplications == 0
        )
        assert packed.casts[0].inputs == 3 * 16 * 16 * packed.images
    else:
        assert packed.coverage.packed_multiplications == packed.coverage.multiplications
        assert not packed.coverage.left_float and packed.audit.coverage == 1
        integer = packed.coverage.integer_multiplications
        assert integer == (packed.coverage.multiplications if "activations" in (plan or {}) else 0)


def test_casts_count_what_leaves_the_range() -> None:
    cast = Cast(torch.ones(1), "fp16")
    cast.counting = True
    cast.transform_input(torch.tensor([1.0, 7e4, 1e-9, 1e-6, 0.0, float("inf")]))
    counts = cast.inputs
    assert (counts.numbers, counts.overflowed, counts.underflowed, counts.subnormal) == (6, 1, 1, 1)


# --- frauds -----------------------------------------------------------------------------------------------------------


class Soft(Quantizer):
    """Sold as two bits, but it computes with weights that are only drawn towards four values."""

    levels = 4

    def codes(self, weight: Tensor) -> Codes:
        index = weight.detach().sign().add(1).to(torch.uint8)
        return Codes(index, torch.tensor([-1.0, 0.0, 1.0, 2.0]), torch.tensor(0.1))

    def forward(self, weight: Tensor) -> Tensor:
        return 0.1 * torch.tanh(10 * weight)


class PerTap(Integer):
    """Sold as per channel, but with a scale of its own for every tap of the kernel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight, 2)
        self.step = self.largest_step(weight.detach().abs().amax(1, keepdim=True))


def test_a_soft_network_sold_as_two_bits_is_found() -> None:
    model = convert(nn.Sequential(nn.Linear(20, 5)), "int2")
    quantized_layers(model)["0"].quantizer = Soft(model[0].weight)
    with pytest.raises(Bug, match=r"distinct weights under one scale, more than the 4 levels"):
        audit(model, 1)


def test_a_scale_for_every_tap_is_found() -> None:
    model = convert(nn.Sequential(nn.Conv2d(8, 4, 3)), "int2")
    quantized_layers(model)["0"].quantizer = PerTap(model[0].weight)
    assert (
        most_values_under_a_scale(quantized_layers(model)["0"].quantizer(model[0].weight), torch.ones(4, 1, 1, 1)) > 4
    )
    with pytest.raises(Bug, match=r"ships scales \(4, 1, 3, 3\).*its 4 levels allow"):
        audit(model, 1)


def test_a_network_quantized_in_its_linear_layers_only_is_rejected_unless_it_says_so(tmp_path: Path) -> None:
    kept = models.matching_layers(model := vgg(), models.keep_patterns("vgg11", ("conv",)))
    convert(model, "int4", keep=kept)
    export(model, SPEC | {"method": "int4"}, tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=r"sold as int4, but features.0 and 7 more layers ship in full precision"):
        audit_file(tmp_path / "m.safetensors")
    export(model, SPEC | {"method": "int4", "keep": ["conv"]}, tmp_path / "m.safetensors")
    shipped, _ = load(tmp_path / "m.safetensors")
    found, held = coverage(shipped, images(2)), audit_file(tmp_path / "m.safetensors")
    assert [layer.name for layer in found.left_float] == list(kept)
    assert held.coverage < 0.07 and found.packed_multiplications < 0.02 * found.multiplications
    assert held.bits_per_parameter > 28  # of a file that would be sold as four


def test_weights_of_layers_that_no_method_knows_are_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.fc = nn.ConvTranspose2d(3, 3, 2), nn.Linear(27, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.up(x).flatten(1))

    found = coverage(convert(Odd(), "int8"), images(1, 2))
    assert [layer.name for layer in found.left_float] == ["up"]


# --- other engines ----------------------------------------------------------------------------------------------------


@needs_torchao
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_torchao_chooses_the_same_codes_and_outputs(bits: int) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, PerRow, quantize_

    torch.manual_seed(bits)
    theirs, x = nn.Sequential(nn.Linear(96, 40)), torch.randn(16, 96)
    ours = convert(nn.Sequential(nn.Linear(96, 40)), f"int{bits}")
    ours.load_state_dict(theirs.state_dict(), strict=False)
    ours[0].quantizer = Integer(ours[0].weight, bits)
    config = Int8WeightOnlyConfig(granularity=PerRow())
    if bits < 8:
        config = IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerAxis(0))
    quantize_(theirs, config)
    assert theirs[0].weight.qdata.dtype == torch.int8  # it did not pass over the layer
    torch.testing.assert_close(theirs(x), ours(x), rtol=0, atol=1e-5)


@needs_torchao
@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
@pytest.mark.parametrize("method", ["int8", "int4", "int2"])
def test_whole_networks_agree_under_torchao(method: str, name: str) -> None:
    model = quantized(method, Calibration(fold=True), name=name)
    other = ported(model, "torchao", x := images(200))
    with torch.no_grad():
        theirs, ours = other.model(x), model(x)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    assert (theirs.argmax(1) == ours.argmax(1)).float().mean() >= 0.99
    assert other.weights == other.multiplications == 1


@needs_torchao
def test_layers_that_stay_in_full_precision_are_not_counted_under_torchao() -> None:
    model = network("vgg11")
    convert(model, "int4", {}, keep=[name for name in quantized_layers(convert(vgg(), "int4")) if "features" in name])
    other = ported(model.eval(), "torchao", images(2))
    assert other.layers == ("classifier.0", "classifier.3", "classifier.6")
    assert other.weights < 0.07 and other.multiplications < 0.02


@needs_torchao
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"),
    [("int8", "vgg11"), ("int4", "vgg11"), ("int8", "resnet20"), ("int8", "resnet18"), ("int8", "mobilenet_v2")],
)
def test_whole_networks_answer_alike_under_pt2e(method: str, name: str) -> None:
    model = quantized(method, Calibration(fold=True, activations="static"), name=name)
    other = ported(model, "pt2e", images(2))
    x = images(400, seed=3)
    with torch.no_grad():
        theirs, ours = other.model(x), model(x)
    assert (theirs.argmax(1) == ours.argmax(1)).float().mean() >= 0.99
    assert relative(theirs - ours, ours) < 0.01
    assert (other.weights, other.multiplications) == (1, 1)


@needs_torchao
def test_pt2e_refuses_what_it_would_compute_in_float() -> None:
    with pytest.raises(UsageError, match="static uint8 activations and integer weights, but features.0 has not both"):
        ported(quantized("int8", Calibration(fold=True)), "pt2e", images(2))
    with pytest.raises(UsageError, match=r"quantized without that; .* --calibration fold=true"):
        ported(quantized("int8", Calibration(activations="static")), "pt2e", images(2))


def test_an_unknown_backend_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown backend 'onnx'; allowed: fast, onnxruntime, pt2e, torchao"):
        ported(vgg(), "onnx", images(2))


# --- the public network -----------------------------------------------------------------------------------------------


def test_the_public_checkpoint_becomes_the_same_network(tmp_path: Path) -> None:
    # Its layers are named features.<n> and classifier.<0, 3, 6>, as in torchvision's VGG-11 with normalisation.
    hub = nn.Module()
    hub.features = published.make_layers(published.cfgs["A"], batch_norm=True)
    linear = [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout()]
    hub.classifier = nn.Sequential(*linear, nn.Linear(512, 100))
    torch.save(hub.state_dict(), tmp_path / "cifar100_vgg11_bn.pt")
    import_vgg11(tmp_path / "cifar100_vgg11_bn.pt", tmp_path / "vgg11.safetensors")
    ours, spec = load(tmp_path / "vgg11.safetensors")
    x, hub = images(2, 32), hub.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), hub.classifier(hub.features(x).flatten(1)))
    assert (spec["dataset"], spec["normalisation"], spec["classes"]) == ("cifar100", "cifar100", 100)


def test_another_checkpoint_is_refused_in_one_sentence(tmp_path: Path) -> None:
    torch.save({"classifier.6.bias": torch.ones(100)}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="does not hold a vgg11: classifier.0.bias is missing"):
        import_vgg11(tmp_path / "x.pt", tmp_path / "y.safetensors")
