"""Fast inference: kernels and whole networks equal the int32 arithmetic bit by bit; answers are those of the file."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitq
from bitq import models
from bitq.deploy.export import export
from bitq.errors import UsageError
from bitq.infer.encode import CodePool, DynamicEncode, StaticEncode
from bitq.infer.fast import accelerated, by_reference
from bitq.infer.kernels import IntMatmul, OneDnnConvolution, OneDnnHalves, OneDnnLinear, exact_kernels, saturates
from bitq.infer.reference import Epilogue, Product, Reference
from bitq.interop.backends import ported
from bitq.measure.packed_file import compare
from bitq.models.fold import fold
from bitq.ptq.calibrate import calibrate
from bitq.quant.activation import Int8Activation
from bitq.quant.convert import convert
from bitq.quant.static import StaticUint8, activation_named
from bitq.run import Calibration

CAP = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def images(count: int, seed: int = 0, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def quantized(name: str, method: str, activations: str, folded: bool = False) -> nn.Module:
    """A network whose normalisation has seen images, quantized, its ranges observed."""
    model = models.build(name, 10, 8, image_size=16)
    model(images(32))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for parameter in (module.weight, module.bias):
                parameter.data = 0.5 + torch.rand(parameter.shape, generator=generator)
    model.eval()
    if folded:
        fold(model)
    convert(model, method, {}, activation=activation_named(activations))
    calibrate(model, Calibration(activations=activations, fold=folded), [images(64)])
    return model.eval()


# --- kernels ----------------------------------------------------------------------------------------------------------

CONVOLUTIONS = [
    {},
    {"padding": (1, 1)},
    {"padding": (1, 1), "zero": 7},
    {"padding": (2, 1), "stride": (2, 2), "zero": 128},
    {"padding": (2, 2), "dilation": (2, 2)},
    {"padding": (1, 1), "groups": 4},
    {"padding": (1, 1), "groups": 16, "stride": (2, 2)},
]


@pytest.mark.parametrize("largest", [1, 8, 64, 127])
@pytest.mark.parametrize("geometry", CONVOLUTIONS)
def test_convolutions_equal_the_definition(geometry: dict, largest: int) -> None:
    generator = torch.Generator().manual_seed(largest)
    inside = 16 // geometry.get("groups", 1)
    weight = torch.randint(-largest, largest + 1, (16, inside, 3, 3), generator=generator).to(torch.int8)
    codes = torch.randint(0, 256, (3, 16, 9, 8), generator=generator, dtype=torch.uint8)
    kernels_agree(Product(weight, **geometry), codes.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("largest", [1, 64, 127])
def test_matrix_products_equal_the_definition(largest: int) -> None:
    generator = torch.Generator().manual_seed(largest)
    weight = torch.randint(-largest, largest + 1, (40, 96), generator=generator).to(torch.int8)
    for shape in ((1, 96), (5, 96), (2, 7, 96)):
        kernels_agree(Product(weight), torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))


def kernels_agree(product: Product, codes: Tensor) -> None:
    multiplier, shift = torch.rand(len(product.weight)) * 1e-3, torch.randn(len(product.weight))
    endings = [
        Epilogue(torch.ones_like(multiplier)),  # the sums themselves
        Epilogue(multiplier, shift, relu=True),
        Epilogue(multiplier, shift, zero=3),
        Epilogue(100 * multiplier, shift, relu=True, zero=0),
    ]
    for make in {*exact_kernels(product), *([OneDnnHalves] if product.groups == 1 else [])}:
        for ending in endings:
            assert torch.equal(make(product)(codes, ending), Reference(product)(codes, ending)), (make, ending)


def test_this_machine_has_kernels_for_ternary_weights_or_none_at_all() -> None:
    ternary = torch.ones(16, 16, 3, 3, dtype=torch.int8)
    assert exact_kernels(Product(ternary)) == [OneDnnConvolution]
    assert OneDnnLinear in exact_kernels(Product(ternary[..., 0, 0]))


def test_kernels_that_would_saturate_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitq.infer.kernels.saturates", lambda: True)
    wide, narrow = (torch.full((4, 16), largest, dtype=torch.int8) for largest in (127, 64))
    assert exact_kernels(Product(wide)) == [OneDnnHalves]
    assert exact_kernels(Product(wide.view(4, 4, 2, 2), groups=2)) == []
    assert exact_kernels(Product(narrow)) == exact_kernels(Product(wide, highest=127)) == [OneDnnLinear]
    monkeypatch.setattr("bitq.infer.kernels.saturates", lambda: False)
    assert exact_kernels(Product(wide)) == [OneDnnLinear, IntMatmul]


def test_sums_beyond_int32_have_no_kernel() -> None:
    assert exact_kernels(Product(torch.full((1, 2**16 + 2**10), 127, dtype=torch.int8))) == []


@pytest.mark.slow
def test_all_this_holds_without_vnni_too() -> None:
    asked = "from bitq.infer.kernels import saturates; print(saturates())"
    told = subprocess.run(
        [sys.executable, "-c", asked], env=os.environ | CAP, capture_output=True, text=True, check=True
    )
    if torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2"):
        assert told.stdout.strip() == "True"
    again = [sys.executable, "-m", "pytest", "-q", __file__]
    subprocess.run(again, env=os.environ | CAP, check=True, capture_output=True)


# --- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (-1.0, 2.0), (-3.0, 0.0)])
def test_static_codes_are_those_of_training(low: float, high: float) -> None:
    activation = StaticUint8((1,))
    activation.use_range(torch.tensor(low), torch.tensor(high))
    x = torch.linspace(low - 1, high + 1, 10_001)
    codes, _ = activation(x)
    ours = StaticEncode(activation.scale, int(activation.zero))(x)
    assert torch.equal(ours.float() - activation.zero, codes)


def test_dynamic_codes_are_those_of_training() -> None:
    x = images(4)
    codes, step = Int8Activation((1, 2, 3))(x)
    ours, our_step = DynamicEncode((1, 2, 3), signed=True)(x)
    assert torch.equal(ours.float() - 128, codes) and torch.equal(our_step, step)
    codes, step = Int8Activation((1, 2, 3))(x.relu())
    ours, our_step = DynamicEncode((1, 2, 3), signed=False)(x.relu())
    assert torch.equal(ours.float(), codes) and torch.equal(our_step, step)


@settings(deadline=None)
@given(st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), st.booleans(), st.integers(3, 9))
def test_codes_are_pooled_as_numbers_are(size: int, stride: int, padding: int, round_up: bool, pixels: int) -> None:
    pool = nn.MaxPool2d(size, stride, padding, ceil_mode=round_up)
    codes = torch.randint(0, 256, (2, 3, pixels, pixels + 1), dtype=torch.uint8)
    assert torch.equal(CodePool(pool)(codes).float(), pool(codes.float()))


# --- networks ---------------------------------------------------------------------------------------------------------

NETWORKS = [
    ("vgg11", "bitnet", "dynamic", False),
    ("resnet20", "bitnet", "static", False),
    ("resnet18", "int8", "static", True),
    pytest.param("resnet18", "bitnet", "dynamic", False, marks=pytest.mark.slow),
    pytest.param("mobilenet_v2", "int8", "static", True, marks=pytest.mark.slow),
    pytest.param("mobilenet_v2", "bitnet", "dynamic", False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "method", "activations", "folded"), NETWORKS)
def test_networks_equal_the_definition_and_answer_as_the_file_does(
    name: str, method: str, activations: str, folded: bool
) -> None:
    model, x = quantized(name, method, activations, folded), images(1000, seed=3)
    quick, plain = accelerated(model, images(1)), by_reference(model, images(1))
    if "float" not in quick.kernels.values():  # a layer of so small a network may be faster in floating point
        assert torch.equal(quick(x[:1]), plain(x[:1])) and torch.equal(quick(x[:4]), plain(x[:4]))
    with torch.no_grad():
        ours, theirs = model(x), quick(x)
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() >= 0.999
    assert (theirs - ours).norm() / ours.norm() < 0.01


def test_codes_that_join_a_kernel_differ_by_one_at_most() -> None:
    """A value next to the middle of two codes may get either: the kernel multiplies once, the network three times."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 3), nn.BatchNorm2d(8)
    )
    net.train()(images(64))
    convert(net.eval(), "int4", {}, activation=activation_named("static"))
    calibrate(net, Calibration(activations="static"), [images(64)])
    quick, x = by_reference(net, images(1)), images(200, seed=5)
    seen: list[Tensor] = []
    net[4].activation.register_forward_hook(lambda *of: seen.append(of[2][0]))
    (second,) = [child for name, child in quick.network.named_children() if name == "4"]
    second.register_forward_pre_hook(lambda _, given: seen.append(given[0].float()))
    with torch.no_grad():
        net(x), quick(x)
    apart = (seen[1] - seen[0]).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 1e-3


def test_what_follows_a_layer_joins_its_kernel() -> None:
    quick = by_reference(quantized("vgg11", "int8", "static"), images(1))
    # The last pooling is followed by an average, which is no integer.
    left = {type(child).__name__ for child in quick.network.children()}
    assert left == {"StaticEncode", "StaticProduct", "CodePool", "MaxPool2d", "AdaptiveAvgPool2d"}


class Functional(nn.Module):
    """A network that calls functions and methods where others have modules."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(nn.functional.relu(self.one(x)), 2)
        x = nn.functional.max_pool2d(self.two(x).relu(), 2, stride=2)
        y: Tensor = self.three(x.flatten(1))
        return y


def test_functions_and_methods_join_as_modules_do() -> None:
    modules = nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 5)),
    )
    for net in (Functional(), modules):
        convert(net.eval(), "int4", {}, activation=activation_named("static"))
        calibrate(net, Calibration(activations="static"), [images(64, size=14)])
        quick, x = by_reference(net, images(1, size=14)), images(50, seed=5, size=14)
        named = [type(child).__name__ for child in quick.network.children()]
        assert named.count("StaticEncode") == 1 and named.count("CodePool") == 2
        with torch.no_grad():
            assert torch.equal(quick(x).argmax(1), net(x).argmax(1))


def in_bitnet(net: nn.Module) -> nn.Module:
    """A small network of seeded weights, its layers ternary and their inputs of dynamic codes."""
    generator = torch.Generator().manual_seed(0)
    for value in (*net.parameters(), *net.buffers()):
        if value.is_floating_point():
            value.data = 0.2 + torch.rand(value.shape, generator=generator)
    convert(net.eval(), "bitnet", {}, activation=activation_named("dynamic"))
    return net


def answers_alike(net: nn.Module, x: Tensor) -> list[str]:
    """Compare fast inference with the network, and name the kinds of modules it is left with."""
    quick = by_reference(net, x)
    with torch.no_grad():
        # Copies: an addition may change its input.
        torch.testing.assert_close(quick(x.clone()), net(x.clone()), rtol=1e-4, atol=1e-3)
    return [type(child).__name__ for child in quick.network.children()]


@pytest.mark.parametrize("shape", [(4, 16), (4, 16, 16), (4, 8, 16)])
def test_normalisation_joins_a_linear_layer_only_where_it_takes_the_same_dimension(shape: tuple[int, ...]) -> None:
    net = in_bitnet(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(shape[1])))
    assert ("BatchNorm1d" in answers_alike(net, torch.randn(shape))) == (len(shape) == 3)


class Sums(nn.Module):
    """A network of two convolutions that adds in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.one, self.two, self.drop = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Dropout()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, self.way)(x.relu())
        return y

    def skip(self, x: Tensor) -> Tensor:
        old = x
        x += self.one(x)
        return 10 * old + x

    def other_name(self, x: Tensor) -> Tensor:
        old, x = x, self.drop(x)
        x += self.one(x)
        return 10 * old + x

    def second_reading(self, x: Tensor) -> Tensor:
        old = x
        x += self.one(x)
        return x + self.two(old)  # which differs from self.two of the value that self.one had

    def below_zero(self, x: Tensor) -> Tensor:
        old = x
        x += self.one(x) - 100
        return x * self.two(old)

    def late(self, x: Tensor) -> Tensor:
        y = self.one(x)
        x += 1
        return y.relu()

    def late_summand(self, x: Tensor) -> Tensor:
        y = self.one(x) + x
        x *= 2
        return y.relu() + x

    def output(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y += x
        return y

    def number(self, x: Tensor) -> Tensor:
        return (self.one(x) + x.shape[0]).relu()

    def number_in_place(self, x: Tensor) -> Tensor:
        y = self.one(x)
        y += x.size(2)
        return y


@pytest.mark.parametrize("way", ["skip", "other_name", "second_reading", "below_zero", "late", "late_summand"])
def test_who_kept_a_value_sees_it_changed_in_place(way: str) -> None:
    answers_alike(in_bitnet(Sums(way)), torch.randn(2, 4, 5, 5))


def test_an_addition_to_the_output_of_a_layer_joins_it() -> None:
    assert answers_alike(in_bitnet(Sums("output")), torch.randn(2, 4, 5, 5)) == ["DynamicEncode", "DynamicProduct"]
    plain = by_reference(quantized("resnet18", "bitnet", "dynamic"), images(1))
    assert not [node for node in plain.network.graph.nodes if "add" in node.name]


@pytest.mark.parametrize("way", ["number", "number_in_place"])
def test_a_number_of_the_shape_may_be_added(way: str) -> None:
    answers_alike(in_bitnet(Sums(way)), torch.randn(3, 4, 5, 5))


class Named(nn.Module):
    """A network that gives its modules their input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.act = nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        name = next(iter(inspect.signature(self.fc.forward).parameters))
        y: Tensor = self.act(input=self.norm(input=self.fc(**{name: x})))
        return y


def test_modules_may_get_their_input_by_name() -> None:
    assert answers_alike(in_bitnet(Named()), torch.randn(4, 16)) == ["DynamicEncode", "DynamicProduct"]


def test_a_file_is_run_from_its_path(tmp_path: Path) -> None:
    model = quantized("resnet20", "bitnet", "dynamic")
    spec = {"model": "resnet20", "classes": 10, "width": 8, "image_size": 16, "method": "bitnet"}
    export(model, spec, tmp_path / "net.safetensors")
    quick = bitq.fast(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(quick(images(50)).argmax(1), model(images(50)).argmax(1))
    assert not any(isinstance(part, nn.Conv2d) for part in quick.modules()) or "float" in quick.kernels.values()


def test_the_backend_says_what_it_computes_from_integers() -> None:
    model = quantized("vgg11", "int4", "static", folded=True)
    found = compare(model, "fast", [(images(100), torch.zeros(100))])
    assert found["same_predictions"] >= 0.99
    assert 0 <= found["weights"] <= 1 and found["layers"] == list(found["layers"])


def test_networks_without_codes_are_refused() -> None:
    with pytest.raises(UsageError, match="no layer of this network does so; use method bitnet, or .*static"):
        ported(quantized("vgg11", "int8", "none"), "fast", images(2))
    with pytest.raises(UsageError, match="meta was given, but fast inference has kernels for the CPU alone"):
        accelerated(quantized("vgg11", "int8", "static"), images(1).to("meta"))


def test_the_probe_of_the_machine_is_kept() -> None:
    assert saturates() is saturates()
