"""The audit of the originals: each finding of config/audit.yaml, derived anew from arithmetic, counts or records."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitq.models.registry import build
from bitq.quant.bitnet_legacy import NormScaledActivation
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import make_quantizer
from bitq.report.audit import findings
from bitq.stats.published import published


def weights(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) / 50


def value(name: str) -> float:
    found = published().figures[name].value
    assert isinstance(found, int | float)
    return float(found)


def recorded(count: str) -> int:
    return next(finding.counts[count] for finding in findings() if count in finding.counts)


def test_every_finding_names_a_test_of_this_file() -> None:
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(encoding="utf-8"), re.M))
    named = [finding.test for finding in findings()]
    assert len(set(named)) == len(named) and set(named) == here - {"test_every_finding_names_a_test_of_this_file"}


def test_published_bitnet_activations_are_not_integers() -> None:
    codes, _ = NormScaledActivation((1, 2, 3))(weights(2, 3, 8, 8))
    assert (codes != codes.round()).float().mean() > 0.99


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_published_bitnet_adds_a_normalisation_to_every_layer(model: str) -> None:
    found = quantized_layers(network(model, "bitnet_legacy"))
    assert len(found) == recorded(f"normalised.{model}")
    assert all(isinstance(layer.activation, NormScaledActivation) for layer in found.values())


def test_published_bitnet_scales_the_latent_gradient() -> None:
    weight, upstream = weights(64, 9).requires_grad_(), torch.zeros(64, 9)
    upstream[0, 0] = 1.0
    quantizer = make_quantizer("bitnet_legacy", weight, {})
    quantizer(weight).backward(upstream)
    assert weight.grad is not None
    scale = weight.detach().abs().mean()
    assert scale < 0.02
    assert abs(float(weight.grad[0, 0] - scale)) <= 1 / weight.numel() + 1e-6


def test_published_bitnet_shrinks_the_bias() -> None:
    layer = convert(nn.Sequential(nn.Linear(64, 10)), "bitnet_legacy")[0].eval()  # type: ignore[index]
    x = weights(4, 64)
    with torch.no_grad():
        before = layer(x)
        layer.bias += 1.0
        assert float((layer(x) - before).abs().max()) < 0.01


def test_published_ttq_threshold_is_never_learned() -> None:
    weight = weights(16, 9).requires_grad_()
    quantizer = make_quantizer("ttq_legacy", weight, {})
    quantizer(weight).square().sum().backward()
    assert quantizer.delta.grad is None and quantizer.wp.grad is not None


def test_a_published_full_precision_entry_pools_two_arms() -> None:
    arms = value("acc.cifar10.resnet18.fp32"), value("kd.cifar10.resnet18.fp32_kd")
    assert sum(arms) / 2 == pytest.approx(value("head_accuracy_basic.cifar10.resnet18.std"), abs=0.01)


def test_the_published_range_of_recovery_exceeds_its_own_data() -> None:
    claimed = published().figures["readme.conv1.gap_recovery_range_pct"].range
    assert claimed is not None
    own = [value(f"recipe.{dataset}.resnet18.recovery_pct") for dataset in ("cifar10", "cifar100", "tiny_imagenet")]
    assert max(own) < max(claimed) and min(own) < min(claimed)


def test_published_ring_weights_are_continuous_in_evaluation() -> None:
    quantizer = make_quantizer("ring_legacy", torch.zeros(2000), {"ring_size": 4}).eval()
    positions = torch.linspace(0.01, 0.49, 2000)  # between trough and peak no two positions share a value
    assert len(quantizer(positions).unique()) > 1900


@pytest.mark.parametrize("points", [4, 8])
def test_a_published_ring_has_half_as_many_values_as_points(points: int) -> None:
    quantizer = make_quantizer("ring_legacy", torch.zeros(1), {"ring_size": points, "snap": True}).eval()
    assert len(quantizer(torch.linspace(0, 1, 4001)).unique()) == recorded(f"values.ring{points}") == points // 2


def test_the_released_ring_networks_fail_once_snapped() -> None:
    for points, chance in ((4, 11.0), (8, 20.0)):
        assert value(f"ring.snapped.resnet20.ring{points}") < chance < value(f"ring.resnet20.ring{points}") / 4


def test_published_atq_passes_no_gradient_to_ternary_weights() -> None:
    weight = weights(40, 20).requires_grad_()
    quantizer = make_quantizer("atq_legacy", weight, {"rho": 0.05})
    quantizer(weight).sum().backward()
    assert weight.grad is not None
    assert int((weight.grad != 0).sum()) == len(quantizer.positions) == weight.numel() // 20


def test_coupled_decay_erases_weights_without_a_gradient() -> None:
    weight = nn.Parameter(torch.full((8,), 0.0085))
    optimizer = torch.optim.Adam([weight], lr=1e-3, weight_decay=1e-4)
    for _ in range(20):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert float(weight.detach().abs().max()) < 0.0085 / 2  # decay alone would leave nearly all of it


def test_the_published_zeros_are_those_of_the_plot() -> None:
    plotted, quantized = value("atq.measured.zeros_plot"), value("atq.measured.zeros_quantizer")
    assert abs(value("atq.zeros") - plotted) < 1 and quantized < plotted / 3


def test_linear_layers_hold_a_small_share_of_the_published_vgg() -> None:
    model = network("vgg11", "fp32")
    kinds = [(module, module.weight.numel()) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    linear = sum(count for module, count in kinds if isinstance(module, nn.Linear))
    assert linear / sum(count for _, count in kinds) < 0.07


def test_published_int8_training_is_below_conversion() -> None:
    assert value("precision.int8_qat") < value("precision.int8_ptq")


def network(model: str, method: str) -> nn.Module:
    """The published network, quantized by a method."""
    found = build(model, classes=100 if model == "vgg11" else 10)
    return convert(found, method)
