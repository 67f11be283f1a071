"""The networks are torchvision's, of any width, start from a seed alone, and know their layers by role."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from math import sqrt
from typing import Any

import pytest
import torch
import torchvision.models as published
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from bitq import models
from bitq.catalogue import KEEP, MODELS, published_width
from bitq.errors import UsageError
from bitq.models.adapter import STEMS, Geometry
from bitq.models.registry import ADAPTERS, network

NAMES = models.names()
DROPOUT = {"atq_cnn", "vgg11"}  # they draw masks while they train; the loop seeds them at every step

PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: published.resnet18(num_classes=10, zero_init_residual=True),
    "resnet50": lambda: published.resnet50(num_classes=10, zero_init_residual=True),
    "vgg16": lambda: published.vgg16_bn(num_classes=10, init_weights=False),
    "mobilenet_v2": lambda: published.mobilenet_v2(num_classes=10),
    "efficientnet_b0": lambda: published.efficientnet_b0(num_classes=10),
    "convnext": lambda: published.convnext_tiny(num_classes=10),
}
LIGHT = [name for name in PUBLISHED if name != "vgg16"]  # VGG-16 at full width has 138 million weights


@cache
def on_meta(name: str, stem: str = "cifar") -> nn.Module:
    """A network without memory."""
    with torch.device("meta"):
        sentences = {"words": 4, "vocabulary": 9} if ADAPTERS[name].reads else {}
        return network(name, published_geometry(name, stem=stem, **sentences))


def published_geometry(name: str, classes: int = 10, **sizes: Any) -> Geometry:
    """The sizes of the published network."""
    return Geometry(classes, published_width(name), **sizes)


def kept(name: str, *keep: str, stem: str = "cifar") -> set[str]:
    """The layers that stay in full precision."""
    return set(models.matching_layers(on_meta(name, stem=stem), models.keep_patterns(name, keep)))


# --- the published networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_width_with_the_imagenet_stem_is_torchvisions_network(name: str) -> None:
    theirs, ours = PUBLISHED[name]().eval(), deepcopy(on_meta(name, stem="imagenet")).eval()
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("name", LIGHT)
def test_the_published_width_with_the_imagenet_stem_starts_from_torchvisions_initial_weights(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = PUBLISHED[name]().state_dict()
        torch.manual_seed(5)
        ours = network(name, published_geometry(name, stem="imagenet")).state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize(
    ("name", "classes", "params"),
    [
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
        ("resnet18", 200, 11_271_432),
        ("resnet20", 10, 272_474),
        ("resnet32", 10, 466_906),
        ("resnet44", 10, 661_338),
        ("resnet50", 10, 23_520_842),
        ("resnet50", 100, 23_705_252),
        ("resnet50", 200, 23_910_152),
        ("vgg11", 100, 9_802_596),
        ("vgg16", 10, 14_728_266),
    ],
)
def test_cifar_networks_have_the_known_number_of_weights(name: str, classes: int, params: int) -> None:
    assert models.flops(name, published_geometry(name, classes)).params == params


@pytest.mark.parametrize(
    ("name", "size", "macs"),
    [
        ("resnet18", 32, 555.4e6),
        ("resnet18", 64, 2221.8e6),
        ("resnet50", 32, 1297.8e6),
        ("resnet50", 64, 5191.7e6),
        ("vgg11", 32, 153.3e6),
        ("vgg16", 32, 313.2e6),
    ],
)
def test_cifar_networks_cost_the_known_number_of_multiplications(name: str, size: int, macs: float) -> None:
    geometry = published_geometry(name, 200 if size == 64 else 10, image_size=size)
    assert models.flops(name, geometry).forward_macs == pytest.approx(macs, abs=1e5)


def test_activations_are_counted_per_image_and_by_hand() -> None:
    def count(width: int) -> int:
        # conv1 + bn1, then per resolution: 8 (first stage) or 10 (with shortcut) outputs; fc.
        pixels = [32 * 32, 16 * 16, 8 * 8, 4 * 4]
        stages = zip((8, 10, 10, 10), (1, 2, 4, 8), pixels, strict=True)
        return 2 * width * pixels[0] + sum(n * width * c * p for n, c, p in stages) + 10

    assert models.flops("resnet18", Geometry(10, width=8)).activations == count(8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [8, 24])
def test_the_width_is_the_number_of_channels_of_the_first_convolution(name: str, width: int) -> None:
    first, *_ = models.weight_layers(models.build(name, 10, width)).values()
    assert isinstance(first, nn.Conv2d) and first.out_channels == width
    first, *_ = models.weight_layers(models.build(name, 10)).values()
    assert isinstance(first, nn.Conv2d) and first.out_channels == published_width(name)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "resnet32", "resnet44"])
def test_the_first_stage_of_a_resnet_has_so_many_channels(name: str) -> None:
    assert models.build(name, 10, 24).layer1[0].conv1.out_channels == 24


def test_what_is_known_without_torch_is_what_there_is() -> None:
    assert tuple(ADAPTERS) == MODELS
    meant = {mode for each in ADAPTERS.values() for mode in each.keep}
    roots = {path.partition(".")[0] for name in MODELS for path in models.weight_layers(on_meta(name))}
    assert meant | roots == set(KEEP)


# --- small images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_cifar_stem_of_a_resnet_is_one_3x3_convolution(name: str) -> None:
    model = models.build(name, 10)
    assert isinstance(model.maxpool, nn.Identity)
    assert isinstance(model.conv1, nn.Conv2d)
    assert (model.conv1.stride, model.conv1.padding, model.conv1.bias) == ((1, 1), (1, 1), None)
    assert model.conv1.weight.numel() == 1_728


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers_that_a_small_stem_changes_are_initialised_like_the_others(name: str) -> None:
    first = next(iter(models.weight_layers(models.build(name, 10)).values()))
    assert isinstance(first, nn.Conv2d)
    fan_out = first.out_channels * first.kernel_size[0] * first.kernel_size[1]
    expected = 0.02 if name == "convnext" else sqrt(2 / fan_out)
    assert first.weight.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stem", STEMS)
def test_every_residual_branch_starts_at_zero(name: str, stem: str) -> None:
    model = models.build(name, 10, width=8, stem=stem)
    last = "bn2" if name == "resnet18" else "bn3"
    silent = {path for path, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()}
    assert silent == {path for path, _ in model.named_modules() if path.endswith(last)}


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns_on_a_narrow_network(name: str) -> None:
    model = models.build(name, 10, width=16)
    images, labels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):  # the first step opens the residual branches that start at zero
        optimizer.zero_grad()
        logits = model(images)
        cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert logits.isfinite().all()
    for path, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), path
        assert weight.dim() == 1 or weight.grad.any(), path


@settings(max_examples=15)
@given(
    name=st.sampled_from(NAMES),
    stem=st.sampled_from(STEMS),
    width=st.integers(1, 80),
    channels=st.sampled_from([1, 3]),
    extra=st.integers(0, 20),
)
def test_every_accepted_geometry_makes_a_network(name: str, stem: str, width: int, channels: int, extra: int) -> None:
    size = models.adapter(name).smallest_image[stem] + extra
    cost = models.flops(name, Geometry(7, width, stem, channels, size))
    assert min(cost.forward_macs, cost.params, cost.activations) > 0


@pytest.mark.parametrize(("name", "stem"), [("vgg16", "imagenet"), ("convnext", "cifar"), ("convnext", "imagenet")])
def test_too_small_an_image_is_refused_with_the_smallest_size_that_works(name: str, stem: str) -> None:
    smallest = models.adapter(name).smallest_image[stem]
    with pytest.raises(UsageError, match=f"{smallest - 1} pixels; give an image size of {smallest} or more"):
        models.build(name, 10, width=8, stem=stem, image_size=smallest - 1)
    with torch.device("meta"), pytest.raises(RuntimeError):  # the limit is the network's own
        network(name, Geometry(10, 8, stem, image_size=smallest))(torch.empty(2, 3, smallest - 1, smallest - 1))


# --- seeds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_follow_from_the_seed_alone(name: str) -> None:
    one = models.build(name, 10, width=8, seed=3).state_dict()
    torch.rand(1)
    two, other = (models.build(name, 10, width=8, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stem", STEMS)
def test_building_and_training_draw_no_hidden_random_numbers(name: str, stem: str) -> None:
    images, before = torch.randn(2, 3, 33, 33), torch.get_rng_state()
    models.build(name, 10, width=8, stem=stem, image_size=33).train(name not in DROPOUT)(images)
    assert torch.equal(torch.get_rng_state(), before)


# --- layers by role -----------------------------------------------------------------------------------------------

FIRST_AND_LAST = {
    "resnet18": ("conv1", "fc"),
    "resnet50": ("conv1", "fc"),
    "resnet20": ("conv1", "fc"),
    "resnet32": ("conv1", "fc"),
    "resnet44": ("conv1", "fc"),
    "vgg11": ("features.0", "classifier.6"),
    "vgg16": ("features.0", "classifier.6"),
    "mobilenet_v2": ("features.0.0", "classifier.1"),
    "efficientnet_b0": ("features.0.0", "classifier.1"),
    "convnext": ("features.0.0", "classifier.2"),
    "atq_cnn": ("conv1", "fc2"),
}
# Blocks of each stage: the first two parts of a layer's name.
STAGES = {
    "resnet18": [[f"layer{n}.{b}" for b in range(2)] for n in range(1, 5)],
    "resnet50": [[f"layer{n}.{b}" for b in range(blocks)] for n, blocks in enumerate((3, 4, 6, 3), 1)],
    **{
        name: [[f"layer{n}.{b}" for b in range(blocks)] for n in (1, 2, 3)]
        for name, blocks in (("resnet20", 3), ("resnet32", 5), ("resnet44", 7))
    },
    "vgg11": [
        ["features.4"],
        ["features.8", "features.11"],
        ["features.15", "features.18"],
        ["features.22", "features.25"],
        ["classifier.0", "classifier.3"],
    ],
    "vgg16": [[f"features.{n}" for n in stage] for stage in ([3], [7, 10], [14, 17, 20], [24, 27, 30], [34, 37, 40])],
    "mobilenet_v2": [
        [f"features.{n}" for n in stage] for stage in (range(1, 4), range(4, 7), range(7, 14), range(14, 19))
    ],
    "efficientnet_b0": [[f"features.{n}" for n in stage] for stage in ([1, 2], [3], [4, 5], [6, 7, 8])],
    "convnext": [[f"features.{n}" for n in stage] for stage in ([1], [2, 3], [4, 5], [6, 7])],
    "atq_cnn": [["conv2"], ["fc1"]],
}


@pytest.mark.parametrize("name", NAMES)
def test_keep_modes_of_the_first_and_last_layer_hit_one_layer(name: str) -> None:
    first, last = FIRST_AND_LAST[name]
    for mode in ("first", "conv1", "conv_stem", "stem"):
        assert kept(name, mode) == {first}
    for mode in ("last", "fc", "head"):
        assert kept(name, mode) == {last}


def test_the_convolutions_of_a_vgg11_have_a_mode_of_their_own() -> None:
    assert kept("vgg11", "conv") == {f"features.{n}" for n in (0, 4, 8, 11, 15, 18, 22, 25)}


@pytest.mark.parametrize("name", NAMES)
def test_keep_modes_of_a_stage_hit_its_blocks(name: str) -> None:
    for number, blocks in enumerate(STAGES[name], 1):
        layers = kept(name, f"layer{number}")
        assert {".".join(path.split(".")[:2]) for path in layers} == set(blocks)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stem", STEMS)
def test_first_layer_stages_and_head_are_disjoint_and_complete(name: str, stem: str) -> None:
    parts = ["first", *(mode for mode in models.adapter(name).keep if mode[:5] == "layer"), "head"]
    layers = [path for mode in parts for path in kept(name, mode, stem=stem)]
    assert sorted(layers) == sorted(models.weight_layers(on_meta(name, stem=stem)))


def test_the_published_vgg_head_has_three_layers_and_one_is_last() -> None:
    assert kept("vgg16", "head", stem="imagenet") == {"classifier.0", "classifier.3", "classifier.6"}
    assert kept("vgg16", "last", stem="imagenet") == {"classifier.6"}


def test_resnet_layer1_keeps_four_convolutions_and_conv1_none_of_them() -> None:
    assert kept("resnet18", "layer1") == {f"layer1.{block}.conv{conv}" for block in (0, 1) for conv in (1, 2)}
    assert kept("resnet18", "conv1") == {"conv1"}


def test_modes_and_globs_mix_and_a_name_keeps_what_lies_below_it() -> None:
    assert models.keep_patterns("resnet18", ("stem", "layer?.0.conv1")) == ("conv1", "layer?.0.conv1")
    assert kept("resnet18", "stem", "layer?.0.conv1") == {"conv1", *(f"layer{n}.0.conv1" for n in range(1, 5))}
    assert kept("resnet18", "layer1.0") == {"layer1.0.conv1", "layer1.0.conv2"}
    assert kept("resnet18", "*") == set(models.weight_layers(on_meta("resnet18")))


def test_matching_layers_come_in_the_models_order_whatever_the_order_of_the_globs() -> None:
    assert list(models.matching_layers(on_meta("resnet18"), ("fc", "layer1.1", "conv1"))) == [
        "conv1",
        "layer1.1.conv1",
        "layer1.1.conv2",
        "fc",
    ]


# --- complaints ---------------------------------------------------------------------------------------------------


def test_an_unknown_network_is_answered_with_the_known_ones() -> None:
    for ask in (
        lambda: models.build("resnet8", 10),
        lambda: models.adapter("resnet8"),
        lambda: models.flops("x", Geometry(10, 8)),
        lambda: published_width("resnet8"),
    ):
        with pytest.raises(UsageError, match=r"unknown model .*; allowed: .*convnext, .*vgg16"):
            ask()


def test_a_mode_of_other_networks_is_refused_with_the_modes_of_this_one() -> None:
    assert models.keep_patterns("vgg16", ("layer5",))
    with pytest.raises(UsageError, match=r"unknown keep mode 'layer5'; allowed: conv1, .*layer4.*resnet18"):
        models.keep_patterns("resnet18", ("layer5",))


def test_a_pattern_that_matches_nothing_is_answered_with_layers_of_the_model() -> None:
    with pytest.raises(UsageError, match=r"no layer matches 'layr1.0.conv1'; .*layer1.0.conv1"):
        kept("resnet18", "conv1", "layr1.0.conv1")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"stem": "cifra"}, "unknown stem 'cifra'; allowed: cifar, imagenet"),
        ({"width": 0}, "width 0 makes no network; give width of 1 or more"),
        ({"channels": -3}, "channels -3 makes no network"),
    ],
)
def test_a_geometry_without_sense_is_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        models.build("resnet18", 10, **arguments)  # type: ignore[arg-type]
