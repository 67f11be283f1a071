"""The laws that every method keeps. A new method is tested by being registered."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitq.catalogue import SETTINGS
from bitq.deploy.audit import most_values_under_a_scale, without_residual
from bitq.errors import UsageError
from bitq.grid.select import grid
from bitq.io import canonical_json
from bitq.quant.activation import Int8Activation
from bitq.quant.base import Quantizer
from bitq.quant.convert import convert, quantized_layers, settings_of
from bitq.quant.registry import METHODS, make_quantizer, reject_unused_settings, settings_of_method

SOME = torch.linspace(-1, 1, 6).view(2, 3)
SHIPPED = [name for name in METHODS if make_quantizer(name, SOME, {}).levels is not None]
PLAIN = [name for name in SHIPPED if make_quantizer(name, SOME, {}).latent(SOME) is SOME]  # the latent is the weight
NOT_ALWAYS_TRAINED = {
    "atq_legacy",
    "lsq",
    "paretoq",
}  # by their laws none passes its ternary part, and none outside its range
SYMMETRIC = ["bitnet", "bitnet_legacy", "twn"]  # one scale for both signs
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (4, 3, 3, 3), (8, 2, 1, 1)])


def weights(seed: int, shape: tuple[int, ...], size: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size


def grown(name: str, weight: Tensor) -> tuple[Quantizer, Tensor]:
    """A quantizer whose scalars have moved away from their initial values, as after some training, and its latent."""
    quantizer = make_quantizer(name, weight, {})
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(1.1)
        return quantizer.eval(), quantizer.latent(weight)


def test_the_settings_that_are_known_without_torch_are_those_of_the_quantizers() -> None:
    assert list(SETTINGS.items()) == [(name, tuple(settings_of_method(name))) for name in METHODS]


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_has_a_type_and_a_default(name: str) -> None:
    for setting in settings_of_method(name).values():
        assert setting.annotation is not setting.empty and setting.default is not setting.empty, setting.name


@pytest.mark.parametrize("name", SHIPPED)
@given(seed=st.integers(0, 10**6), shape=SHAPES, size=st.sampled_from([1e-4, 0.05, 1.0, 30.0]))
@settings(max_examples=40)
def test_evaluation_uses_exactly_what_ships(name: str, seed: int, shape: tuple[int, ...], size: float) -> None:
    quantizer, latent = grown(name, weights(seed, shape, size))
    codes = quantizer.codes(latent)
    assert torch.equal(quantizer(latent), codes.decode())
    assert codes.index.dtype == torch.uint8 and codes.index.shape == latent.shape
    assert len(codes.values) == quantizer.levels and int(codes.index.max()) < len(codes.values)


@pytest.mark.parametrize("name", SHIPPED)
def test_values_stay_within_the_declared_levels(name: str) -> None:
    quantizer, latent = grown(name, weights(1, (16, 8, 3, 3)))
    codes = quantizer.codes(latent)
    dense = without_residual(quantizer(latent).detach(), codes)
    assert most_values_under_a_scale(dense, codes.scale.detach()) <= quantizer.levels  # type: ignore[operator]


@pytest.mark.parametrize("name", SYMMETRIC)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-6, 6))
@settings(max_examples=30)
def test_scaling_the_weights_scales_the_result(name: str, seed: int, exponent: int) -> None:
    if name == "bitnet_legacy":
        exponent = abs(exponent)  # the original adds 1e-5 to its divisor, which small weights feel
    weight, factor = weights(seed, (6, 4)), 2.0**exponent
    one, other = (make_quantizer(name, w, {})(w) for w in (weight, weight * factor))
    torch.testing.assert_close(one * factor, other)


@pytest.mark.parametrize("name", PLAIN)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_codes_of_the_result_are_the_codes(name: str, seed: int) -> None:
    weight = weights(seed, (5, 7))
    quantizer = make_quantizer(name, weight, {}).eval()
    codes = quantizer.codes(weight)
    assert torch.equal(quantizer.codes(codes.decode()).index, codes.index)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NOT_ALWAYS_TRAINED])
def test_a_gradient_reaches_every_weight(name: str) -> None:
    layer = convert(nn.Sequential(nn.Conv2d(3, 8, 3)), name)[0]
    layer(weights(2, (4, 3, 6, 6))).square().sum().backward()
    assert (layer.weight.grad != 0).all()


def test_ttq_legacy_threshold_stays_where_it_began() -> None:
    weight = weights(11, (9, 5))
    quantizer = make_quantizer("ttq_legacy", weight, {})
    quantizer(weight.requires_grad_()).sum().backward()
    assert quantizer.delta.grad is None
    threshold = torch.nn.functional.softplus(quantizer.delta)  # type: ignore[arg-type]
    torch.testing.assert_close(threshold, 0.7 * weight.detach().abs().mean())


@pytest.mark.parametrize("name", SHIPPED)
def test_an_all_zero_layer_survives(name: str) -> None:
    weight = torch.zeros(4, 3, requires_grad=True)
    quantizer = make_quantizer(name, weight, {})
    latent = quantizer.latent(weight)
    assert torch.isfinite(quantizer(latent)).all()
    assert torch.isfinite(quantizer.codes(latent).decode()).all()


@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-8, 1e-3, 1.0, 1e4]), half=st.booleans())
@settings(max_examples=40)
def test_activation_codes_are_int8(seed: int, size: float, half: bool) -> None:
    x = weights(seed, (3, 4, 5, 5), size)
    codes, step = Int8Activation((1, 2, 3))(x.bfloat16() if half else x)
    assert torch.equal(codes, codes.round()) and codes.abs().max() <= 128
    assert step.shape == (3, 1, 1, 1) and step.dtype == torch.float32
    if size >= 1e-3 and not half:
        assert ((codes * step - x).abs() <= 0.5001 * step).all()


def test_convolution_over_codes_is_exact_integer_arithmetic() -> None:
    layer = convert(nn.Sequential(nn.Conv2d(8, 4, 3, bias=True)), "bitnet")[0].eval()
    x = weights(12, (2, 8, 6, 6))
    codes, step = layer.activation(x)
    signs = layer.quantizer.codes(layer.weight).index.long() - 1
    integer = torch.nn.functional.conv2d(codes.double(), signs.double())
    assert torch.equal(integer, integer.round())
    scale = step * layer.quantizer.codes(layer.weight).scale
    assert torch.equal(layer(x), integer.float() * scale + layer.bias.view(1, -1, 1, 1))


def test_bias_is_exactly_additive_in_bitnet_and_scaled_in_the_original() -> None:
    x = weights(13, (2, 3, 6, 6))
    for name, additive in (("bitnet", True), ("bitnet_legacy", False)):
        layer = convert(nn.Sequential(nn.Conv2d(3, 4, 3)), name)[0].eval()
        with torch.no_grad():
            layer.bias.zero_()
            without = layer(x)
            layer.bias.fill_(1.0)
            difference = layer(x) - without
        assert torch.allclose(difference, torch.ones(()), atol=1e-5) == additive


@pytest.mark.parametrize("name", METHODS)
def test_each_method_overfits_one_batch(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, bias=False),
        nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    convert(model, name)
    x, y = weights(15, (16, 3, 8, 8)), torch.arange(16) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", [name for name in METHODS if name != "fp32"])
def test_conversion_keeps_the_initial_weights_and_the_named_layers(name: str) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    before = [plain[0].weight, plain[2].weight]
    convert(plain, name, keep=["2"])
    assert list(quantized_layers(plain)) == ["0"]
    assert plain[0].weight is before[0] and plain[2].weight is before[1] and type(plain[2]) is nn.Linear


def test_inner_normalisation_reaches_kept_layers_too() -> None:
    model = convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)), "bitnet", keep=["2"], norm=True)
    assert all(layer.norm for layer in quantized_layers(model).values()) and len(quantized_layers(model)) == 2
    x = weights(16, (2, 3, 3, 3))
    torch.testing.assert_close(model.eval()(x), model(7 * x + 3), rtol=1e-3, atol=1e-4)


def test_unknown_methods_and_settings_are_refused_by_name() -> None:
    with pytest.raises(Exception, match="unknown method 'bitnt'.*Did you mean 'bitnet'"):
        make_quantizer("bitnt", torch.ones(2), {})
    with pytest.raises(Exception, match="no setting 'treshold'; allowed: threshold"):
        make_quantizer("ttq", torch.ones(2), {"treshold": 1})


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("atq", {"clip": "abc"}, "atq clip=abc was given; it takes a number, for example clip=2.0"),
        ("atq", {"sparsity": True}, "sparsity=True was given; it takes a number"),
        ("atq", {"budget": "half"}, "budget=half was given; it takes a number"),
        ("atq_legacy", {"rho": 2}, "rho=2 was given; it is a share, from 0 to 1"),
        ("atq_legacy", {"sparsity": 3}, "sparsity=3 was given; it is a share"),
        ("ring", {"levels": 4.5}, "levels=4.5 was given; it takes a whole number, for example levels=4"),
        ("ring", {"phase": 5}, "phase=5 was given; it is a share"),
        ("ring", {"mode": "soft_until", "hard_from": 2}, "hard_from=2 was given; it is a share"),
        ("ring", {"sigma": 0.5}, r"sigma=0.5 was given; it takes numbers, for example sigma=\[0.5, 0.5\]"),
        ("ring_legacy", {"ring_size": 4.5}, "ring_size=4.5 was given; it takes a whole number"),
        ("ring_legacy", {"snap": "abc"}, "snap=abc was given; it takes true or false, for example snap=false"),
        ("lsq", {"bits": 2.5}, "bits=2.5 was given; it takes a whole number"),
        ("dorefa", {"bits": "abc"}, "bits=abc was given; it takes a whole number"),
        ("int4", {"percentile": "abc"}, "percentile=abc was given; it takes a number"),
        ("twn", {"threshold": float("nan")}, "threshold=nan was given; it takes a number"),
        ("fp32", {"levels": 3}, "method 'fp32' has no setting 'levels'; allowed: none"),
        ("atq", {"threshold": "twn", "sparsity": 0.5}, "with threshold=twn; give threshold=quantile or learned with"),
        ("atq", {"threshold": "twn", "until": 0.5}, "until was given, but it changes nothing with schedule=constant"),
        ("atq", {"budget": 0.5, "sparsity": 0.5}, "sparsity was given, but it changes nothing with budget=0.5"),
        ("atq", {"route_by": "boundary"}, "with route_weights=1.0; give another route_weights with it, or leave"),
        ("atq", {"gradient": "ttq", "clip": 3.0}, "clip was given, but it changes nothing with gradient=ttq"),
        ("ring", {"hard_from": 0.5}, "with mode=ste; give mode=soft_until with it, or leave hard_from out"),
        ("lsq", {"gradient_count": "tensor"}, "with granularity=tensor; give granularity=channel with it"),
        (
            "lsq",
            {"granularity": "channel", "gradient_count": "all"},
            "unknown gradient_count 'all'; allowed: channel, tensor",
        ),
        ("twn", {"threshold": -1.0}, "threshold=-1.0 was given; allowed: 0 and more"),
        ("twn", {"granularity": "row"}, "unknown granularity 'row'; allowed: channel, tensor"),
        ("ttq", {"unit": "two"}, "unknown unit 'two'; allowed: fitted, one"),
        ("int4", {"percentile": 99.0}, "with range=minmax; give range=percentile with it"),
    ],
)
def test_settings_of_another_type_or_without_use_are_refused(name: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        convert(nn.Sequential(nn.Linear(4, 3)), name, given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("atq", {"schedule": "linear", "until": 0.5}),
        ("atq", {"threshold": "learned", "sparsity": 0.5}),
        ("atq", {"gradient": "ttq", "clip": 2.0}),  # the default
        ("ring", {"sigma": [0.5, 0.2]}),  # the gradient's, whatever the mode
        ("int4", {"range": "percentile", "percentile": 99.0, "1": {"range": "mse"}}),  # of use to the other layer
    ],
)
def test_settings_of_use_somewhere_are_taken(name: str, given: dict[str, Any]) -> None:
    assert len(quantized_layers(convert(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), name, given))) == 2


def test_no_setting_of_the_grid_is_refused() -> None:
    for run in {(run.method, canonical_json(run.settings)): run for run in grid("smoke")}.values():
        globs = [key for key, value in run.settings.items() if isinstance(value, dict)]
        of_layers = [settings_of(path, run.settings) for path in ("another", *globs)]
        reject_unused_settings(run.method, of_layers)
        assert all(make_quantizer(run.method, SOME, own) for own in of_layers)
