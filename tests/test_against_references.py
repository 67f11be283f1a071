"""Every method against its published formula, written a second time: number by number, in double precision, by hand.

Bounds are the differences that were found against the authors' and other public code, rounding of fp32 included.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.quant.activation import Int8Activation
from bitq.quant.convert import convert
from bitq.quant.registry import make_quantizer

Numbers = list[float]
SHAPES = [(5, 7), (6, 40), (4, 3, 3, 3), (8, 2, 1, 1)]
SIZES = [0.05, 1.0]


@dataclass
class Expected:
    """ŵ, dL/dw, and the gradients of the quantizer's own parameters."""

    value: Numbers
    gradient: Numbers
    scalars: dict[str, Numbers] = field(default_factory=dict)


Reference = Callable[[Numbers, Numbers, Any, int], Expected]  # weights, dL/dŵ, the quantizer, weights per channel


def mean(values: Numbers) -> float:
    return sum(values) / len(values)


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def clamp(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def bitnet(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    beta = mean([abs(x) for x in w])
    return Expected([beta * clamp(round(x / beta), -1, 1) for x in w], g)


def bitnet_legacy(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    """β stays in the graph: dL/dw = β·g + Σ(g·T)·sign(w)/n."""
    beta = mean([abs(x) for x in w])
    signs = [clamp(round(x / (beta + 1e-5)), -1, 1) for x in w]
    through_beta = sum(a * t for a, t in zip(g, signs, strict=True)) / len(w)
    return Expected([beta * t for t in signs], [beta * a + through_beta * sign(x) for x, a in zip(w, g, strict=True)])


def ttq(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    """The published rule with wp = s₀·a⁺ and wn = s₀·a⁻, its latent gradient in units of s₀."""
    up, down, unit, delta = q.wp.item(), q.wn.item(), q.s0.item(), 0.05 * max(abs(x) for x in w)
    found = Expected([], [], {"wp": [0.0], "wn": [0.0]})
    for x, a in zip(w, g, strict=True):
        if x > delta:
            found.value.append(unit * up)
            found.gradient.append(a * up)
            found.scalars["wp"][0] += a * unit
        elif x < -delta:
            found.value.append(-unit * down)
            found.gradient.append(a * down)
            found.scalars["wn"][0] -= a * unit
        else:
            found.value.append(0.0)
            found.gradient.append(a)
    return found


def ttq_legacy(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    """Softplus scales around a frozen threshold, softplus'(v) = 1/(1 + e⁻ᵛ); the latent gradient is not scaled."""
    up, down, delta = (math.log1p(math.exp(v.item())) for v in (q.wp, q.wn, q.delta))
    slopes = {name: 1 / (1 + math.exp(-getattr(q, name).item())) for name in ("wp", "wn")}
    value = [up if x > delta else -down if x < -delta else 0.0 for x in w]
    to_up = sum(a for x, a in zip(w, g, strict=True) if x > delta)
    to_down = -sum(a for x, a in zip(w, g, strict=True) if x < -delta)
    return Expected(value, g, {"wp": [to_up * slopes["wp"]], "wn": [to_down * slopes["wn"]]})


def twn(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    value = []
    for channel in rows(w, row if q.granularity == "channel" else len(w)):
        delta = q.threshold * mean([abs(x) for x in channel])
        alpha = mean([abs(x) for x in channel if abs(x) > delta])
        value += [alpha * sign(x) if abs(x) > delta else 0.0 for x in channel]
    return Expected(value, g)


def lsq(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    low, high, length = -(2 ** (q.bits - 1)), 2 ** (q.bits - 1) - 1, row if q.granularity == "channel" else len(w)
    slowed = 1 / math.sqrt((len(w) if q.gradient_count == "tensor" else length) * high)
    found = Expected([], [], {"step": []})
    for channel, upstream, step in zip(rows(w, length), rows(g, length), numbers(q.step), strict=True):
        to_step = 0.0
        for x, a in zip(channel, upstream, strict=True):
            ratio = x / step
            code = round(clamp(ratio, low, high))
            inside = low < ratio < high
            found.value.append(code * step)
            found.gradient.append(a if inside else 0.0)
            to_step += a * (code - ratio if inside else code)
        found.scalars["step"].append(to_step * slowed)
    return found


def dorefa(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    if q.bits == 1:
        scale = mean([abs(x) for x in w])
        return Expected([math.copysign(scale, x) for x in w], g)
    last, largest = 2**q.bits - 1, max(abs(math.tanh(x)) for x in w)
    value = [2 * round(last * (math.tanh(x) / (2 * largest) + 0.5)) / last - 1 for x in w]
    return Expected(value, [a * (1 - math.tanh(x) ** 2) / largest for x, a in zip(w, g, strict=True)])


def ring_legacy(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    """A softmax over circular distances; its slope by the quotient rule."""
    size, sigma = q.ring_size, max(0.5, q.ring_size / 32)
    along = [k / (size - 1) for k in range(size)]
    triangle = [2 * abs(2 * (u - math.floor(u + 0.5))) - 1 for u in along]
    values = triangle if q.wave == "triangle" else [math.sin(2 * math.pi * u) for u in along]
    found = Expected([], [])
    for p, a in zip(w, g, strict=True):
        top = bottom = top_slope = bottom_slope = 0.0
        for k, value in enumerate(values):
            straight = abs(size * p - k)
            distance = min(straight, size - straight)
            turn = sign(size * p - k) * (1 if straight <= size - straight else -1)
            share = math.exp(-(distance**2) / (2 * sigma**2))
            slope = -share * distance / sigma**2 * turn * size
            top, bottom = top + share * value, bottom + share
            top_slope, bottom_slope = top_slope + slope * value, bottom_slope + slope
        found.value.append(top / bottom)
        found.gradient.append(a * (top_slope * bottom - top * bottom_slope) / bottom**2)
    return found


def atq_legacy(w: Numbers, g: Numbers, q: Any, row: int) -> Expected:
    """α·T·(1 - m) + w·m: only the weights of the mask learn."""
    masked = set(sorted(range(len(w)), key=lambda i: -abs(w[i]))[: int(q.rho * len(w))])
    threshold, alpha = sorted(map(abs, w))[int(q.sparsity * len(w))], q.alpha.item()
    signs = [sign(x) if abs(x) > threshold and i not in masked else 0 for i, x in enumerate(w)]
    value = [x if i in masked else alpha * t for i, (x, t) in enumerate(zip(w, signs, strict=True))]
    to_alpha = sum(a * t for a, t in zip(g, signs, strict=True))
    return Expected(value, [a if i in masked else 0.0 for i, a in enumerate(g)], {"alpha": [to_alpha]})


def rows(values: Numbers, length: int) -> list[Numbers]:
    return [values[start : start + length] for start in range(0, len(values), length)]


def numbers(tensor: Tensor) -> Numbers:
    return [float(value) for value in tensor.detach().double().flatten()]


def difference(found: Numbers, expected: Numbers) -> float:
    """The largest, in units of the largest number expected."""
    largest = max(abs(e) for e in expected) or 1.0
    return max(abs(f - e) for f, e in zip(found, expected, strict=True)) / largest


CASES: list[tuple[str, dict[str, Any], Reference, float]] = [
    ("bitnet", {}, bitnet, 9e-7),
    ("bitnet_legacy", {}, bitnet_legacy, 2e-6),
    ("ttq", {}, ttq, 3e-7),
    ("ttq", {"unit": "one"}, ttq, 3e-7),
    ("ttq_legacy", {}, ttq_legacy, 4e-7),
    ("lsq", {}, lsq, 2e-5),
    ("lsq", {"bits": 4}, lsq, 2e-5),
    ("lsq", {"granularity": "channel"}, lsq, 5e-6),
    ("lsq", {"granularity": "channel", "bits": 3, "gradient_count": "tensor"}, lsq, 5e-6),
    *(("dorefa", {"bits": bits}, dorefa, 2e-7) for bits in range(1, 9)),
    ("twn", {}, twn, 2e-7),
    ("twn", {"granularity": "channel", "threshold": 0.75}, twn, 2e-7),
    ("ring_legacy", {}, ring_legacy, 8e-7),
    ("ring_legacy", {"ring_size": 4}, ring_legacy, 8e-7),
    ("ring_legacy", {"ring_size": 16, "wave": "sin"}, ring_legacy, 8e-7),
    ("ring_legacy", {"ring_size": 64}, ring_legacy, 8e-7),
    ("atq_legacy", {}, atq_legacy, 2e-7),
]


@pytest.mark.parametrize(("name", "settings", "reference", "bound"), CASES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_value_and_gradients_are_those_of_the_formula(
    name: str, settings: dict[str, Any], reference: Reference, bound: float, shape: tuple[int, ...], size: float
) -> None:
    weight, upstream = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    weight *= size
    quantizer = make_quantizer(name, weight, settings)
    with torch.no_grad():
        for place, parameter in enumerate(quantizer.parameters()):
            parameter.mul_(1.1 + 0.1 * place)  # away from where they start
    latent = quantizer.latent(weight).clone().requires_grad_()
    value = quantizer(latent)
    value.backward(upstream)
    expected = reference(numbers(latent), numbers(upstream), quantizer, weight[0].numel())
    assert difference(numbers(value), expected.value) <= bound
    assert latent.grad is not None and difference(numbers(latent.grad), expected.gradient) <= bound
    gradients = {name: p.grad for name, p in quantizer.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.scalars.keys()
    for scalar, gradient in gradients.items():
        assert difference(numbers(gradient), expected.scalars[scalar]) <= max(bound, 5e-6)  # sums that cancel


@pytest.mark.parametrize("shape", SHAPES)
def test_the_unit_of_ttq_is_the_mean_size_of_the_kept_initial_weights(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    kept = [abs(x) for x in numbers(weight) if abs(x) > 0.05 * weight.abs().max()]
    assert make_quantizer("ttq", weight, {}).s0.item() == pytest.approx(mean(kept), rel=1e-6)  # type: ignore[operator]
    assert make_quantizer("ttq", weight, {"unit": "one"}).s0.item() == 1  # type: ignore[operator]
    assert make_quantizer("ttq", 0 * weight, {}).s0.item() == 1  # type: ignore[operator]


def int8_convolution(x: Tensor, weight: Tensor, upstream: Tensor, stride: int, groups: int) -> tuple[Tensor, ...]:
    """BitNet's layer as one writes it down, in fp64: rounded x̂ and ŵ, and the gradient straight through both."""
    x, weight = (tensor.detach().double().requires_grad_() for tensor in (x, weight))
    peak = x.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-5)
    beta = weight.detach().abs().mean()
    x_hat = x + ((x * 127 / peak).round().clamp(-128, 127) * peak / 127 - x).detach()
    w_hat = weight + ((weight / beta).round().clamp(-1, 1) * beta - weight).detach()
    y = functional.conv2d(x_hat, w_hat, stride=stride, padding=weight.shape[2] // 2, groups=groups)
    y.backward(upstream.double())
    assert x.grad is not None and weight.grad is not None
    return y.detach(), x.grad, weight.grad


@pytest.mark.parametrize(("kernel", "stride", "groups", "pixels"), [
    (3, 1, 1, 8), (3, 2, 1, 8), (1, 2, 1, 8), (1, 1, 1, 8), (3, 1, 4, 8), (3, 2, 1, 1), (3, 2, 4, 1),
])  # fmt: skip
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("half", [False, True])
def test_a_convolution_of_codes_has_the_value_and_gradients_of_bitnet(
    kernel: int, stride: int, groups: int, pixels: int, layout: torch.memory_format, half: bool
) -> None:
    torch.manual_seed(4)
    layer = nn.Conv2d(8, 12, kernel, stride, kernel // 2, groups=groups, bias=False)
    model = convert(nn.Sequential(layer), "bitnet").to(memory_format=layout)  # type: ignore[call-overload]
    x = torch.randn(5, 8, pixels, pixels).to(memory_format=layout).requires_grad_()  # type: ignore[call-overload]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = model(x)
    upstream = torch.randn(y.shape).to(y.dtype)
    y.backward(upstream)
    expected = int8_convolution(x, layer.weight, upstream, stride, groups)
    for found, wanted in zip((y, x.grad, layer.weight.grad), expected, strict=True):
        assert difference(numbers(found), numbers(wanted)) <= (2e-2 if half else 9e-7)  # type: ignore[arg-type]


def test_codes_multiply_scales_that_are_learned() -> None:
    torch.manual_seed(5)
    layer = nn.Conv2d(8, 12, 3, padding=1)
    model = convert(nn.Sequential(layer), "lsq", {"granularity": "channel"}, activation=Int8Activation)
    x, upstream = torch.randn(5, 8, 6, 6), torch.randn(5, 12, 6, 6)
    model(x).backward(upstream)
    codes, step = layer.activation(x)
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    model.zero_grad()
    functional.conv2d(codes * step, layer.quantizer(layer.weight), layer.bias, padding=1).backward(upstream)
    for name, parameter in model.named_parameters():
        assert difference(numbers(found[name]), numbers(parameter.grad)) <= 2e-5  # type: ignore[arg-type]


def test_bitnet_legacy_layer_equals_its_formula() -> None:
    # y = conv(LN(x)·128/g clamped, T, b)·g·β/128, LN over all axes but the batch, g = max|LN(x)|
    layer = convert(nn.Sequential(nn.Conv2d(3, 4, 3)), "bitnet_legacy")[0].eval()  # type: ignore[index]
    x = 5 * torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(14))
    normal = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    peak = normal.abs().amax((1, 2, 3), keepdim=True)
    beta = layer.weight.abs().mean()
    signs = (layer.weight / (beta + 1e-5)).round().clamp(-1, 1)
    codes = (normal * 128 / peak).clamp(-128 + 1e-5, 128 - 1e-5)
    expected = functional.conv2d(codes, signs, layer.bias) * peak * beta / 128
    assert difference(numbers(layer(x)), numbers(expected)) <= 2e-6


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_a_linear_layer_of_bitnet_is_that_of_torchao() -> None:
    bitnet_training = pytest.importorskip("torchao.prototype.quantized_training").bitnet_training
    from torchao.quantization import quantize_

    torch.manual_seed(6)
    ours, theirs = nn.Sequential(nn.Linear(48, 20)), nn.Sequential(nn.Linear(48, 20))
    theirs.load_state_dict(ours.state_dict())
    convert(ours, "bitnet")
    quantize_(theirs, bitnet_training())
    upstream, found = torch.randn(9, 20), []
    for model in (ours, theirs):
        x = torch.randn(9, 48, generator=torch.Generator().manual_seed(7)).requires_grad_()
        y = model(x)
        y.backward(upstream)
        found.append((y, x.grad, model[0].weight.grad, model[0].bias.grad))
    for one, other in zip(*found, strict=True):
        assert difference(numbers(one), numbers(other)) <= 4e-7
