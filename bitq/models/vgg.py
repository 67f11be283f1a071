"""VGG-16 with batch normalisation."""

import torch
from torch import nn
from torchvision.models import vgg as published  # type: ignore[import-untyped]

from bitq.models.adapter import PUBLISHED_WIDTH, Adapter, Geometry, keep_modes
from bitq.models.stem import he_normal, refit


def vgg16(geometry: Geometry) -> nn.Module:
    """torchvision's vgg16_bn without dropout, of any width.

    The CIFAR stem pools the last features to one pixel and classifies them with the last linear layer alone, under its
    published name `classifier.6`; the 4096-wide layers in front of it would hold 88 % of the weights. Its poolings
    round sizes up, which changes nothing at multiples of 32 and lets smaller images through.
    """
    small = geometry.stem == "cifar"
    # torchvision's constructor would lay out 124 million classifier weights first: take its skeleton without memory.
    with torch.device("meta"):
        model = published.VGG(nn.Sequential(), init_weights=False)
    model.features = _features(geometry, ceil_mode=small)
    if small:
        model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = _classifier(model.classifier, geometry)[6 if small else 0 :]
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            he_normal(module)
    return model  # type: ignore[no-any-return]


def _features(geometry: Geometry, ceil_mode: bool) -> nn.Sequential:
    plan = [item if item == "M" else _scaled(item, geometry) for item in published.cfgs["D"]]
    features: nn.Sequential = published.make_layers(plan, batch_norm=True)
    features[0] = refit(features[0], he_normal, geometry.channels)  # type: ignore[arg-type]
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = ceil_mode
    return features


def _classifier(skeleton: nn.Sequential, geometry: Geometry) -> nn.Sequential:
    """The published classifier at the wanted width; dropout is off because it would draw hidden random numbers."""
    ...


def _scaled(channels: int, geometry: Geometry) -> int:
    return channels * geometry.width // PUBLISHED_WIDTH
