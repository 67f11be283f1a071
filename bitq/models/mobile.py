"""MobileNetV2 and EfficientNet-B0: torchvision's, narrowed by their own width multipliers, without dropout.

The CIFAR stem gives the first convolution stride 1. The width is the channels of the first convolution, as published
rounded to a multiple of 8 like all others: neighbouring widths can give the same network.
"""

from torch import nn
from torchvision.models import efficientnet as published
from torchvision.models.mobilenetv2 import MobileNetV2

from bitq.catalogue import PUBLISHED_WIDTH
from bitq.models.adapter import Adapter, Geometry, keep_modes
from bitq.models.stem import he_normal, refit


def mobilenet_v2(geometry: Geometry) -> nn.Module:
    """Build MobileNetV2; as published, multipliers below one leave the 1280 channels of the last convolution alone."""
    multiplier = geometry.width / PUBLISHED_WIDTH["mobilenet_v2"]
    return _with_stem(MobileNetV2(geometry.classes, width_mult=multiplier, dropout=0.0), geometry)


def efficientnet_b0(geometry: Geometry) -> nn.Module:
    """Build EfficientNet-B0 without stochastic depth, which would draw hidden random numbers."""
    multiplier = geometry.width / PUBLISHED_WIDTH["efficientnet_b0"]
    plan, last = published._efficientnet_conf("efficientnet_b0", width_mult=multiplier, depth_mult=1.0)
    model = published.EfficientNet(
        plan, dropout=0.0, stochastic_depth_prob=0.0, num_classes=geometry.classes, last_channel=last
    )
    return _with_stem(model, geometry)


def _with_stem(model: nn.Module, geometry: Geometry) -> nn.Module:
    stride = (1, 1) if geometry.stem == "cifar" else (2, 2)
    return refit(model, "features.0.0", he_normal, geometry.channels, stride=stride)


# As in a ResNet, a stage begins with the block that halves the resolution, at 1/4, 1/8, 1/16 and 1/32 of a large image;
# the block before 1/4 counts as the first stage's, the convolution after 1/32 as the last one's.
MOBILENET_STAGES = (
    ("features.[1-3].*",),
    ("features.[4-6].*",),
    ("features.[7-9].*", "features.1[0-3].*"),
    ("features.1[4-8].*",),
)
EFFICIENTNET_STAGES = (("features.[12].*",), ("features.3.*",), ("features.[45].*",), ("features.[678].*",))

ANY_SIZE = {"cifar": 1, "imagenet": 1}
MOBILENET_V2 = Adapter(
    mobilenet_v2, keep_modes("features.0.0", MOBILENET_STAGES, head="classifier.1", last="classifier.1"), ANY_SIZE
)
EFFICIENTNET_B0 = Adapter(
    efficientnet_b0, keep_modes("features.0.0", EFFICIENTNET_STAGES, head="classifier.1", last="classifier.1"), ANY_SIZE
)
