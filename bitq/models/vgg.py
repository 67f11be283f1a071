"""VGG-11 and -16 with batch normalisation: torchvision's layers and names, with a width and heads for small images."""

import torch
from torch import nn
from torchvision.models import vgg as published

from bitq.models.adapter import Adapter, Geometry, keep_modes
from bitq.models.stem import he_normal, refit

FIRST_CHANNELS = 64  # in torchvision's plans, which all channels are in proportion to


def vgg11(geometry: Geometry) -> nn.Module:
    """Build the VGG-11 of CIFAR: poolings leave one pixel, and two linear layers as wide as it stand before the last.

    Layers and names are those of `cifar100_vgg11_bn` of pytorch-cifar-models, dropout included, whose weights fit. Here
    too poolings round up. On images of more than 32 pixels what is left is averaged. The hidden linear layers start
    as He et al. 2015 have it: at torchvision's σ = 0.01 they let nothing through that a short run could learn from.
    """
    with torch.device("meta"):
        model = published.VGG(nn.Sequential(), init_weights=False, dropout=0.5)
    model.features = _features(geometry, "A", rounding_up=True)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    hidden = _scaled(512, geometry)
    model.classifier[0], model.classifier[3] = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
    model.classifier[6] = nn.Linear(hidden, geometry.classes)
    _initialised(model)
    for layer in (model.classifier[0], model.classifier[3]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model  # type: ignore[no-any-return]


def vgg16(geometry: Geometry) -> nn.Module:
    """Build torchvision's vgg16_bn without dropout.

    The CIFAR stem pools the last features to one pixel and keeps only the last linear layer, under its published name
    `classifier.6`; the two in front of it would hold nine tenths of the weights. Its poolings round sizes up, which
    changes nothing at multiples of 32 and lets smaller images through.
    """
    # torchvision's constructor lays out 124 million classifier weights: take its skeleton without memory.
    with torch.device("meta"):
        model = published.VGG(nn.Sequential(), init_weights=False, dropout=0.0)
    model.features = _features(geometry, "D", rounding_up=geometry.stem == "cifar")
    if geometry.stem == "cifar":
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = _small_head(geometry)
    else:
        _resize_head(model.classifier, geometry)
    return _initialised(model)


def _initialised(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            he_normal(module)
    return model


def _features(geometry: Geometry, plan_name: str, rounding_up: bool) -> nn.Sequential:
    plan = [item if item == "M" else _scaled(item, geometry) for item in published.cfgs[plan_name]]
    features: nn.Sequential = published.make_layers(plan, batch_norm=True)
    refit(features, "0", he_normal, geometry.channels)
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = rounding_up
    return features


def _small_head(geometry: Geometry) -> nn.Sequential:
    head = nn.Sequential()
    head.add_module("6", nn.Linear(_scaled(512, geometry), geometry.classes))
    return head


def _resize_head(head: nn.Sequential, geometry: Geometry) -> None:
    pixels, hidden = 7 * 7, _scaled(4096, geometry)
    head[0] = nn.Linear(_scaled(512, geometry) * pixels, hidden)
    head[3] = nn.Linear(hidden, hidden)
    head[6] = nn.Linear(hidden, geometry.classes)


def _scaled(channels: int, geometry: Geometry) -> int:
    return channels * geometry.width // FIRST_CHANNELS


# The stages lie between the poolings; the first layer is in none of them, as in the ResNets.
STAGES = (
    ("features.3",),
    ("features.7", "features.10"),
    ("features.14", "features.17", "features.20"),
    ("features.24", "features.27", "features.30"),
    ("features.34", "features.37", "features.40"),
)
STAGES11 = (
    ("features.4",),
    ("features.8", "features.11"),
    ("features.15", "features.18"),
    ("features.22", "features.25"),
    ("classifier.0", "classifier.3"),
)
VGG11 = Adapter(
    vgg11,
    # `conv`: all convolutions, so that only the linear layers are quantized.
    keep_modes("features.0", STAGES11, head="classifier.6", last="classifier.6") | {"conv": ("features.*",)},
    smallest_image={"cifar": 1, "imagenet": 1},
    one_stem=True,
)
VGG16 = Adapter(
    vgg16,
    keep_modes("features.0", STAGES, head="classifier.*", last="classifier.6"),
    smallest_image={"cifar": 1, "imagenet": 32},
)
