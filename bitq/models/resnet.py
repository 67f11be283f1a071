"""ResNet-18 and -50: torchvision's blocks and names, with a width and a stem for small images."""

import torch
from torch import nn
from torchvision.models import resnet as published

from bitq.models.adapter import Adapter, Geometry, keep_modes
from bitq.models.stem import he_normal


class ResNet(published.ResNet):  # type: ignore[misc]
    """torchvision's ResNet; `width` is the number of channels of the first stage."""

    def __init__(self, block: type[nn.Module], depths: tuple[int, ...], geometry: Geometry) -> None:
        # torchvision fixes the first stage at 64 channels: take its skeleton without memory, lay every layer anew.
        with torch.device("meta"):
            super().__init__(block, depths)
        width = self.inplanes = geometry.width
        self.conv1, self.maxpool = _stem(geometry)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(block, width, depths[0])
        self.layer2 = self._make_layer(block, 2 * width, depths[1], stride=2)
        self.layer3 = self._make_layer(block, 4 * width, depths[2], stride=2)
        self.layer4 = self._make_layer(block, 8 * width, depths[3], stride=2)
        self.fc = nn.Linear(self.inplanes, geometry.classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_normal(module)
            elif isinstance(module, published.BasicBlock | published.Bottleneck):
                # Every residual branch starts silent (Goyal et al. 2017).
                nn.init.zeros_(module.bn3.weight if hasattr(module, "bn3") else module.bn2.weight)


def _stem(geometry: Geometry) -> tuple[nn.Module, nn.Module]:
    if geometry.stem == "imagenet":
        conv = nn.Conv2d(geometry.channels, geometry.width, 7, stride=2, padding=3, bias=False)
        return conv, nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Conv2d(geometry.channels, geometry.width, 3, padding=1, bias=False), nn.Identity()


def resnet18(geometry: Geometry) -> nn.Module:
    """Build the 18 layers of basic blocks."""
    return ResNet(published.BasicBlock, (2, 2, 2, 2), geometry)


def resnet50(geometry: Geometry) -> nn.Module:
    """Build the 50 layers of bottleneck blocks, stride on the 3×3 convolution (v1.5)."""
    return ResNet(published.Bottleneck, (3, 4, 6, 3), geometry)


KEEP = keep_modes("conv1", tuple((f"layer{number}.*",) for number in range(1, 5)), head="fc", last="fc")
ANY_SIZE = {"cifar": 1, "imagenet": 1}
RESNET18 = Adapter(resnet18, KEEP, ANY_SIZE)
RESNET50 = Adapter(resnet50, KEEP, ANY_SIZE)
