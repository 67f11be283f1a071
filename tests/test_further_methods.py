"""ParetoQ, PARQ, APoT and IR-Net: published rules, written out once more in plain terms, give the same numbers."""

import importlib.util
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bitq.errors import UsageError
from bitq.quant.apot import Apot
from bitq.quant.base import Quantizer
from bitq.quant.irnet import Irnet
from bitq.quant.paretoq import Paretoq
from bitq.quant.parq import Parq, mirrored_sigmoid, prox
from bitq.quant.registry import make_quantizer

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
ARMS: list[tuple[str, dict[str, Any]]] = [
    ("paretoq", {"levels": 3}),
    ("paretoq", {"levels": 4}),
    ("parq", {"levels": 2}),
    ("parq", {"levels": 3}),
    ("parq", {"levels": 4}),
    ("apot", {"bits": 2}),
    ("apot", {"bits": 3}),
    ("apot", {"bits": 4}),
    ("irnet", {}),
]
DEGENERATE = {
    "zeros": torch.zeros(3, 4),
    "equal": torch.full((3, 7), 0.1),
    "equal rows": torch.tensor([[0.1] * 7, [-0.3] * 7, [0.0] * 7]),
    "one row of zeros": torch.stack([torch.zeros(7), torch.linspace(-1, 1, 7)]),
    "one weight": torch.tensor([[0.3]]),
    "one weight a channel": torch.tensor([[0.3], [-0.2], [0.0]]),
    "a vector": torch.tensor([0.3, -0.2, 0.0]),
    "tiny": torch.linspace(-1e-12, 1e-12, 8).view(2, 4),
    "huge": torch.linspace(-1e12, 1e12, 8).view(2, 4),
}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(quantizer: Quantizer, weight: Tensor, upstream: Tensor) -> Tensor:
    latent = weight.clone().requires_grad_()
    quantizer(latent).backward(upstream)
    assert latent.grad is not None
    return latent.grad


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "given"), ARMS)
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_evaluation_uses_what_ships_at_any_point_of_the_training(
    method: str, given: dict[str, Any], progress: float
) -> None:
    weight = draw(0, 6, 4, 3, 3)
    quantizer = make_quantizer(method, weight, given).eval()
    quantizer.progress = progress
    codes = quantizer.codes(weight)
    assert torch.equal(quantizer(weight), codes.decode())
    assert len(codes.values) == quantizer.levels == len(codes.index.unique())
    assert (codes.values.diff() > 0).all() and torch.equal(codes.values, -codes.values.flip(0))


@pytest.mark.parametrize(("method", "given"), ARMS)
def test_quantizing_keeps_the_memory_format(method: str, given: dict[str, Any]) -> None:
    weight = draw(1, 6, 4, 3, 3).to(memory_format=torch.channels_last)
    quantizer = make_quantizer(method, weight, given)
    assert quantizer(weight).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(quantizer(weight), quantizer(weight.contiguous()))


@pytest.mark.parametrize("shape", DEGENERATE)
@pytest.mark.parametrize(("method", "given"), ARMS)
def test_weights_without_spread_stay_finite(method: str, given: dict[str, Any], shape: str) -> None:
    weight = DEGENERATE[shape]
    quantizer = make_quantizer(method, weight, given)
    for progress in (0.0, 0.37, 1.0):
        quantizer.progress = progress
        assert quantizer.train()(weight).isfinite().all()
        assert gradients(quantizer, weight, draw(2, *weight.shape)).isfinite().all()
        codes = quantizer.eval().codes(weight)
        assert codes.decode().isfinite().all() and torch.equal(quantizer(weight), codes.decode())
    assert all(parameter.grad.isfinite().all() for parameter in quantizer.parameters() if parameter.grad is not None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("method", "given"), ARMS)
def test_a_cuda_device_computes_the_same(method: str, given: dict[str, Any]) -> None:
    weight, upstream = draw(3, 6, 4, 3, 3), draw(4, 6, 4, 3, 3)
    here, there = (make_quantizer(method, weight.to(device), given).to(device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(here(weight), there(weight.cuda()).cpu())
    expected = gradients(here, weight, upstream)
    torch.testing.assert_close(gradients(there, weight.cuda(), upstream.cuda()).cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        ("paretoq", {"levels": 2}, "levels=2 was given; allowed: 3 or 4"),
        ("parq", {"levels": 5}, "levels=5 was given; allowed: 2, 3 or 4"),
        ("parq", {"steepness": 0.0}, "steepness=0.0, until=0.75 were given; both must be above 0"),
        ("parq", {"until": 0.0}, "until=0.0 were given; both must be above 0"),
        ("parq", {"until": 1.5}, "until=1.5 was given; it is a share"),
        ("apot", {"bits": 5}, "bits=5 was given; allowed: 2, 3 or 4"),
        ("irnet", {"levels": 2}, "has no setting 'levels'; allowed: none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(method: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make_quantizer(method, draw(5, 3, 4), given)


def test_training_goes_on_from_what_shipped_where_that_tells_enough() -> None:
    weight = draw(6, 5, 40)
    for method, given in ARMS:
        shipped = make_quantizer(method, weight, given).codes(weight)
        other = make_quantizer(method, draw(7, 5, 40), given).eval()
        if method == "apot":
            with pytest.raises(UsageError, match="start from an fp32 run"):
                other.latent_from_codes(shipped)
            continue
        latent = other.latent_from_codes(shipped)
        assert torch.equal(other.codes(latent).index, shipped.index)
        torch.testing.assert_close(other.codes(latent).scale, shipped.scale)


# --- ParetoQ ----------------------------------------------------------------------------------------------------------


def published_paretoq(w: float, alpha: float, bits: int) -> tuple[float, float, float]:
    """(ŵ, dŵ/dw, dŵ/dα without its factor) of stretched elastic quantization; 0 bits stand for ternary."""
    half, shift = (1.5, 0.0) if bits == 0 else (2 ** (bits - 1), 0.5)
    share = w / alpha
    level = (round(min(max(share, -0.99), 0.99) * half - shift) + shift) / half
    if abs(share) <= 0.99:
        return alpha * level, 1.0, level - share
    return alpha * level, 0.0, math.copysign((half - shift) / half, share)


@pytest.mark.parametrize(("levels", "bits"), [(3, 0), (4, 2)])
def test_paretoq_is_the_published_rule(levels: int, bits: int) -> None:
    weight, upstream = draw(8, 4, 3, 3, 3), draw(9, 4, 3, 3, 3)
    quantizer = Paretoq(weight, levels)
    largest = weight.abs().amax((1, 2, 3), keepdim=True)
    assert torch.equal(quantizer.range.detach(), largest)
    quantizer.range.data.mul_(0.5)  # so that some weights lie outside
    rows = [
        [published_paretoq(w, alpha, bits) for w in row]
        for row, alpha in zip(weight.flatten(1).tolist(), (largest / 2).flatten().tolist(), strict=True)
    ]
    value, slope, to_range = torch.tensor(rows).unbind(-1)
    assert 0.05 < (slope == 0).float().mean() < 0.5
    torch.testing.assert_close(quantizer(weight).flatten(1), value)
    torch.testing.assert_close(gradients(quantizer, weight, upstream), upstream * slope.view_as(weight))
    expected = (upstream.flatten(1) * to_range).sum(1) / math.sqrt(weight.numel())
    assert quantizer.range.grad is not None
    torch.testing.assert_close(quantizer.range.grad.flatten(), expected)


def test_the_levels_of_paretoq_divide_its_range_evenly() -> None:
    weight = torch.linspace(-1, 1, 2401)[None]
    for levels in (3, 4):
        found = Paretoq(weight, levels).codes(weight).index.flatten().bincount()
        assert len(found) == levels and found.max() - found.min() <= 2  # as many of evenly spread weights at each
    four = Paretoq(weight, 4).codes(weight)
    assert (four.values * four.scale.item()).tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_range_that_fell_below_zero_is_stopped() -> None:
    weight = draw(10, 2, 6)
    quantizer = Paretoq(weight)
    quantizer.range.data.fill_(-1.0)
    assert (quantizer(weight).sign() == weight.sign()).all()
    torch.testing.assert_close(quantizer(weight).abs(), torch.full_like(weight, 0.75e-5))
    gradients(quantizer, weight, weight.sign())
    assert (quantizer.range.grad > 0).all()  # type: ignore[operator]


# --- PARQ -------------------------------------------------------------------------------------------------------------


@needs_torchao
@pytest.mark.parametrize(("levels", "bits"), [(2, 1), (3, 0), (4, 2)])
def test_the_levels_of_parq_are_those_of_torchao(levels: int, bits: int) -> None:
    from torchao.prototype.parq.quant import LSBQuantizer

    weight = draw(11, 16, 27)
    _, expected = LSBQuantizer().quantize(weight, bits)
    codes = Parq(weight, levels).codes(weight)
    torch.testing.assert_close(codes.values * codes.scale, expected, rtol=0, atol=1e-6)


@needs_torchao
@pytest.mark.parametrize(("levels", "bits"), [(2, 1), (3, 0), (4, 2)])
@pytest.mark.parametrize("steepness", [1.0, 10.0, 100.0])
def test_the_proximal_map_is_that_of_torchao(levels: int, bits: int, steepness: float) -> None:
    from torchao.prototype.parq.optim import ProxPARQ
    from torchao.prototype.parq.quant import LSBQuantizer

    weight = draw(12, 16, 27)
    reference, targets = ProxPARQ(0, 1000, steepness), LSBQuantizer().quantize(weight, bits)[1]
    quantizer = Parq(weight, levels, steepness)
    for step in (0, 1, 100, 400, 490, 500, 510, 700, 999, 1000, 1300):
        expected = weight.clone()
        slope = reference.apply_(expected, None, targets, step)
        torch.testing.assert_close(prox(weight, targets, slope), expected, rtol=0, atol=1e-6)
        quantizer.progress = step * 0.75 / 1000
        assert quantizer.inverse_slope == pytest.approx(slope, abs=1e-12)
        # Levels are divided by their scale here, and a map of slope 1/ρ stretches what that rounds near the middles.
        middles = (targets[1:] + targets[:-1]) / 2
        steady = (weight[..., None] - middles).abs().amin(-1) > (1e-3 if slope < 1e-3 else 0)
        tolerance = 1e-6 / slope if slope > 1e-3 else 1e-6
        torch.testing.assert_close(quantizer(weight)[steady], expected[steady], rtol=0, atol=tolerance)


@needs_torchao
def test_parq_trains_as_the_optimizer_of_torchao_does() -> None:
    from torchao.prototype.parq.optim import ProxPARQ, QuantOptimizer
    from torchao.prototype.parq.quant import LSBQuantizer

    x, y, first, steps = draw(13, 32, 12), draw(14, 32, 8), draw(15, 8, 12) / 4, 20

    def loss(weight: Tensor) -> Tensor:
        return (x @ weight.T - y).square().mean()

    theirs = torch.nn.Parameter(first.clone())
    base = torch.optim.SGD([{"params": [theirs], "quant_bits": 2}], lr=0.2, momentum=0.9)
    reference = QuantOptimizer(base, LSBQuantizer(), ProxPARQ(0, steps, 10.0), quant_period=1)

    ours = torch.nn.Parameter(first.clone())
    quantizer, sgd = Parq(first, 4, steepness=10.0), torch.optim.SGD([ours], lr=0.2, momentum=0.9)
    for step in range(steps + 5):
        reference.zero_grad()
        loss(theirs).backward()
        reference.step()
        quantizer.progress = 0.75 * max(step - 1, 0) / steps  # theirs are mapped at the end of the step before
        sgd.zero_grad()
        loss(quantizer(ours) if step else ours).backward()
        sgd.step()
        torch.testing.assert_close(ours.data, reference.state[theirs]["latent"], rtol=0, atol=1e-5)
    assert (ours - first).abs().mean() > 0.1
    torch.testing.assert_close(quantizer.eval()(ours), theirs.data, rtol=0, atol=1e-5)


def test_the_slope_of_parq_is_its_normalised_sigmoid() -> None:
    for steepness, share in itertools.product((1.0, 10.0, 50.0), (0.0, 0.1, 0.3, 0.5, 0.8, 0.99)):
        start, end, now = (1 / (1 + math.exp(steepness * (t - 0.5))) for t in (0.0, 1.0, share))
        assert mirrored_sigmoid(share, steepness) == pytest.approx((now - end) / (start - end), abs=1e-12)


def test_parq_ends_on_its_levels_while_it_still_trains() -> None:
    weight = draw(16, 8, 9)
    quantizer = Parq(weight)
    distance = []
    for progress in (0.0, 0.37, 0.375, 0.38, 0.75, 0.9, 1.0):
        quantizer.progress = progress
        distance.append((quantizer(weight) - quantizer.codes(weight).decode()).abs().mean().item())
        assert torch.equal(gradients(quantizer, weight, torch.ones_like(weight)), torch.ones_like(weight))
    assert distance == sorted(distance, reverse=True) and distance[0] > 0.1 and distance[-3:] == [0, 0, 0]


def test_before_its_slope_grows_parq_only_cuts_off() -> None:
    weight = draw(17, 8, 9)
    quantizer = Parq(weight)
    quantizer.progress = 0.0
    largest = quantizer.codes(weight).scale.item()
    torch.testing.assert_close(quantizer(weight), weight.clamp(-largest, largest))


# --- APoT -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "bases"),
    [
        (2, [(1.0,)]),
        (3, [(2**-1, 2**-2, 2**-3)]),
        (4, [(2**-1, 2**-2, 2**-4), (2**-3,)]),
    ],
)
def test_the_levels_of_apot_are_sums_of_powers_of_two(bits: int, bases: list[tuple[float, ...]]) -> None:
    sums = sorted({sum(terms) for terms in itertools.product(*((0.0, *base) for base in bases))})
    sizes = [size / sums[-1] for size in sums]
    assert len(sizes) == 2 ** (bits - 1)
    expected = [-size for size in sizes[:0:-1]] + sizes
    assert Apot(draw(18, 3, 4), bits).values.tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_apot_is_the_published_rule(bits: int) -> None:
    weight, upstream = draw(19, 8, 3, 3, 3) * 0.1 + 0.02, draw(20, 8, 3, 3, 3)
    quantizer = Apot(weight, bits)
    assert quantizer.clip.item() == 3.0
    quantizer.clip.data.fill_(1.7)
    std, mean = weight.std(), weight.mean()
    share = ((weight - mean) / std / 1.7).flatten().tolist()
    level = [min(quantizer.values.tolist(), key=lambda v: (abs(v - x), v)) for x in share]
    torch.testing.assert_close(quantizer(weight).flatten(), 1.7 * torch.tensor(level))
    torch.testing.assert_close(gradients(quantizer, weight, upstream), upstream / std)
    to_clip = [math.copysign(1, x) if abs(x) > 1 else v - x for x, v in zip(share, level, strict=True)]
    assert 0.02 < sum(abs(x) > 1 for x in share) / len(share) < 0.5
    expected = 0.2 * (upstream.flatten() * torch.tensor(to_clip)).sum()
    torch.testing.assert_close(quantizer.clip.grad, expected)


def test_apot_forgets_mean_and_size_of_its_weights() -> None:
    weight = draw(21, 8, 30)
    quantizer = Apot(weight)
    assert torch.equal(quantizer(weight), quantizer(4 * weight))
    torch.testing.assert_close(quantizer(weight), quantizer(weight + 8))


# --- IR-Net -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "steepness"), [(0.0, 0.1), (0.25, 10**-0.5), (0.5, 1.0), (0.8, 10**0.6), (1.0, 10.0)]
)
def test_irnet_is_the_published_rule(progress: float, steepness: float) -> None:
    weight, upstream = draw(22, 4, 3, 3, 3) * 0.1 + 0.02, draw(23, 4, 3, 3, 3)
    quantizer = Irnet(weight)
    quantizer.progress = progress
    latent = weight.clone().requires_grad_()
    centred = latent - latent.mean((1, 2, 3), keepdim=True)
    standard = centred / centred.std((1, 2, 3), keepdim=True)
    size = standard.detach().abs().mean((1, 2, 3), keepdim=True)
    scale = torch.tensor([2.0 ** round(math.log2(one)) for one in size.flatten().tolist()]).view_as(size)
    torch.testing.assert_close(quantizer(weight), scale * standard.detach().sign(), rtol=0, atol=0)
    # k·tanh(t·x) has the published derivative k·t·(1 - tanh²(t·x)), k = max(1/t, 1)
    (scale * max(1 / steepness, 1) * (steepness * standard).tanh()).backward(upstream)
    torch.testing.assert_close(gradients(quantizer, weight, upstream), latent.grad, rtol=1e-4, atol=1e-5)


def test_the_scale_of_irnet_is_the_power_of_two_next_by_logarithm() -> None:
    # One weight in n stands out: with n = 64, x is 63/8 once and -1/8 otherwise, mean|x| = 63/256 ≈ 2⁻²; the standard
    # deviation over n - 1 makes that (63/64)^½ of it. Two weights of opposite sign: |x| = 1/√2, just above 2^-½.
    lone = torch.zeros(1, 64)
    lone[0, 5] = 7.0
    assert Irnet(lone).codes(lone).scale.item() == 0.25
    halves = torch.tensor([[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]])
    assert Irnet(halves).codes(halves).scale.item() == 1.0


def test_each_channel_of_irnet_is_balanced_and_forgets_its_size() -> None:
    weight = draw(24, 6, 40)
    quantizer = Irnet(weight)
    factor = torch.tensor([1e-3, 0.1, 1.0, 3.0, 50.0, 1e4])[:, None]
    assert torch.equal(quantizer(weight), quantizer(weight * factor))
    gradient = gradients(quantizer, weight, draw(25, 6, 40))
    # Neither a shift nor a stretch of a channel changes it, so its gradient has no part along either.
    torch.testing.assert_close(gradient.sum(1), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close((gradient * weight).sum(1), torch.zeros(6), rtol=0, atol=1e-4)
