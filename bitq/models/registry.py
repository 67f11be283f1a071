"""The networks by name. A new one is one adapter and one line here."""

import torch
from torch import nn

from bitq.catalogue import published_width
from bitq.errors import UsageError, one_of
from bitq.models.adapter import Adapter, Geometry, Patterns
from bitq.models.atq_cnn import ATQ_CNN
from bitq.models.convnext import CONVNEXT
from bitq.models.convolution import guard
from bitq.models.mobile import EFFICIENTNET_B0, MOBILENET_V2
from bitq.models.multimodal import FUSION_IMAGE_ONLY, FUSION_TEXT_ONLY, GATED_FUSION
from bitq.models.resnet import RESNET18, RESNET50
from bitq.models.resnet_cifar import RESNET20, RESNET32, RESNET44
from bitq.models.vgg import VGG11, VGG16
from bitq.rng import derive

ADAPTERS: dict[str, Adapter] = {
    "resnet18": RESNET18,
    "resnet50": RESNET50,
    "resnet20": RESNET20,
    "resnet32": RESNET32,
    "resnet44": RESNET44,
    "vgg11": VGG11,
    "vgg16": VGG16,
    "mobilenet_v2": MOBILENET_V2,
    "efficientnet_b0": EFFICIENTNET_B0,
    "convnext": CONVNEXT,
    "atq_cnn": ATQ_CNN,
    "gated_fusion": GATED_FUSION,
    "fusion_image_only": FUSION_IMAGE_ONLY,
    "fusion_text_only": FUSION_TEXT_ONLY,
}
MODES = frozenset(mode for adapter in ADAPTERS.values() for mode in adapter.keep)


def names(reads: bool = False) -> tuple[str, ...]:
    """Name the networks that can be built for images, or for pairs of an image and a sentence."""
    return tuple(name for name, each in ADAPTERS.items() if each.reads == reads)


def adapter(name: str) -> Adapter:
    """Look up the adapter of a network."""
    if name not in ADAPTERS:
        raise one_of("model", name, ADAPTERS)
    return ADAPTERS[name]


def network(name: str, geometry: Geometry) -> nn.Module:
    """Build a network on torch's current device, its weights drawn from torch's current generator."""
    return guard(unguarded(name, geometry))


def unguarded(name: str, geometry: Geometry) -> nn.Module:
    """Build a network with torch's own convolutions."""
    smallest = adapter(name).smallest_image[geometry.stem]
    if geometry.image_size < smallest:
        raise UsageError(
            f"{name} with the {geometry.stem} stem cannot take images of {geometry.image_size} pixels; "
            f"give an image size of {smallest} or more."
        )
    if bool(geometry.words) != adapter(name).reads:
        raise UsageError(
            f"{name} takes {'images with sentences' if adapter(name).reads else 'images alone'}; allowed for "
            f"{'pairs of both' if geometry.words else 'a set of images'}: {', '.join(names(bool(geometry.words)))}."
        )
    return adapter(name).network(geometry)


def drawn(name: str, geometry: Geometry, seed: int) -> nn.Module:
    """Build a network on the CPU whose initial weights are a function of these arguments and nothing else."""
    # torch.manual_seed would reseed the accelerators too.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derive(seed, "init"))
        return network(name, geometry)


def build(
    name: str,
    classes: int,
    width: int | None = None,
    stem: str = "cifar",
    channels: int = 3,
    image_size: int = 32,
    seed: int = 0,
    words: int = 0,
    vocabulary: int = 0,
) -> nn.Module:
    """Build a network from its geometry spelled out; without a width it is the published one."""
    width = published_width(name) if width is None else width
    return drawn(name, Geometry(classes, width, stem, channels, image_size, words, vocabulary), seed)


def keep_patterns(name: str, keep: tuple[str, ...]) -> Patterns:
    """Translate keep modes into globs on the layer names of one network; what is no mode is taken as a glob."""
    return tuple(pattern for item in keep for pattern in _patterns(name, item))


def _patterns(name: str, item: str) -> Patterns:
    modes = adapter(name).keep
    if item in MODES and item not in modes:
        raise one_of("keep mode", item, modes, f"{name} has these; a glob on its layer names works too.")
    return modes.get(item, (item,))
