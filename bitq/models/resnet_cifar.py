"""ResNet-20, -32 and -44 for CIFAR (He et al. 2015): three stages of basic blocks, 16, 32 and 64 channels."""

from functools import partial

import torch
from torch import nn
from torchvision.models import resnet as published

from bitq.models.adapter import Adapter, Geometry, keep_modes
from bitq.models.stem import he_normal


class CifarResNet(published.ResNet):  # type: ignore[misc]
    """torchvision's blocks and names in three stages; where the shape changes, a 1×1 convolution is the shortcut.

    `width` is the number of channels of the first stage, 16 in the published network. It has one stem.
    """

    def __init__(self, blocks: int, geometry: Geometry) -> None:
        with torch.device("meta"):
            super().__init__(published.BasicBlock, (1, 1, 1, 1))
        width = self.inplanes = geometry.width
        self.conv1 = nn.Conv2d(geometry.channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity()
        self.layer1 = self._make_layer(published.BasicBlock, width, blocks)
        self.layer2 = self._make_layer(published.BasicBlock, 2 * width, blocks, stride=2)
        self.layer3 = self._make_layer(published.BasicBlock, 4 * width, blocks, stride=2)
        self.layer4 = nn.Identity()
        self.fc = nn.Linear(4 * width, geometry.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_normal(module)


KEEP = keep_modes("conv1", tuple((f"layer{number}.*",) for number in range(1, 4)), head="fc", last="fc")
SMALLEST = {"cifar": 1, "imagenet": 1}
RESNET20, RESNET32, RESNET44 = (
    Adapter(partial(CifarResNet, blocks), KEEP, SMALLEST, one_stem=True) for blocks in (3, 5, 7)
)
