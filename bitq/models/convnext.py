"""ConvNeXt-Tiny: torchvision's, with a width and a stem for small images."""

from torch import nn
from torchvision.models import convnext as published

from bitq.models.adapter import Adapter, Geometry, keep_modes
from bitq.models.stem import refit, truncated_normal

DEPTHS = (3, 3, 9, 3)


def convnext(geometry: Geometry) -> nn.Module:
    """Build ConvNeXt-Tiny without stochastic depth; the CIFAR stem cuts patches of 2×2 pixels instead of 4×4."""
    first = geometry.width
    channels = [first, 2 * first, 4 * first, 8 * first, None]
    plan = [published.CNBlockConfig(*stage) for stage in zip(channels, channels[1:], DEPTHS, strict=False)]
    model = published.ConvNeXt(plan, num_classes=geometry.classes)
    patch = (2, 2) if geometry.stem == "cifar" else (4, 4)
    return refit(model, "features.0.0", truncated_normal, geometry.channels, kernel_size=patch, stride=patch)


# Each stage begins with the layer that halves the resolution, as in a ResNet.
STAGES = (("features.1.*",), ("features.[23].*",), ("features.[45].*",), ("features.[67].*",))
CONVNEXT = Adapter(
    convnext,
    keep_modes("features.0.0", STAGES, head="classifier.2", last="classifier.2"),
    smallest_image={"cifar": 16, "imagenet": 32},
)
