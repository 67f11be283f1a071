"""How data sets, networks and arms are called in print, and in which order they stand."""

from collections.abc import Mapping
from typing import Any

# Studies in the order of the paper.
STUDIES = ("bitnet", "ring", "atq", "multimodal", "precision")
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
}
MODELS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "vgg11": "VGG-11",
    "atq_cnn": "ATQ-CNN",
}
# The places of the first study, in the order of its tables.
BITNET_DATASETS = ("cifar10", "cifar100", "tiny_imagenet")
BITNET_MODELS = ("resnet18", "resnet50")
METHODS = {
    "fp32": "FP32",
    "bitnet": "BitNet",
    "ttq": "TTQ",
    "bitnet_legacy": "BitNet legacy",
    "ttq_legacy": "TTQ legacy",
    "twn": "TWN",
    "atq": "ATQ",
    "atq_legacy": "ATQ legacy",
}
# What follows the method in an arm's name; whatever is not here is printed as it is written.
PARTS = {
    "keep_first+last": "FP32 first/last",
    "norm": "inner normalisation",
    "imagenet_stem": "ImageNet stem",
    "kd": "KD",
    "no_mixup": "no mixup",
    "from_fp32": "from FP32",
    "online_kd": "online KD",
    "zeroed": "ternary part zeroed",
    "constant": "constant sparsity",
    "cubic": "cubic schedule",
    "threshold_twn": "threshold of TWN",
    "threshold_max": "threshold of TTQ",
    "threshold_ls": "least-squares threshold",
    "threshold_learned": "learned threshold",
    "scale_learned": "learned scale",
    "scale_asym": "two learned scales",
    "channel": "scale a channel",
    "gradient_ttq": "gradient of TTQ",
    "ttq_rules": "all rules of TTQ",
    "boosted": "boosted",
    "routed": "routed weights",
    "routed_boundary": "routed at the boundary",
    "routed_inputs": "routed inputs",
    "budget50": "budget of 50 % zeros",
    "l1": "L1 penalty",
    "zeros10": "10 % zeros",
    "zeros50": "50 % zeros",
    "zeros70": "70 % zeros",
    "zeros90": "90 % zeros",
}
LAYERS = ("conv1", "layer1", "layer4", "fc")


def dataset(name: str) -> str:
    """A data set in print."""
    return DATASETS.get(name, name)


def model(name: str) -> str:
    """A network in print."""
    return MODELS.get(name, name)


def where(record: Mapping[str, Any]) -> str:
    """Network and data set in few letters.

    >>> where({"model": "resnet18", "dataset": "cifar10"})
    'R18 CIFAR-10'
    """
    return f"{model(record['model']).replace('ResNet-', 'R')} {dataset(record['dataset'])}"


def arm(name: str) -> str:
    """An arm in print.

    >>> arm("bitnet-keep_conv1-kd")
    'BitNet, FP32 conv1, KD'
    """
    method, *parts = name.split("-")
    return ", ".join([METHODS.get(method, method), *map(part, parts)])


def part(name: str) -> str:
    """One word of an arm's name in print."""
    kept = name.removeprefix("keep_")
    return PARTS.get(name, f"FP32 {kept.replace('+', ', ')}" if kept != name else name)


def versus(a: str, b: str) -> str:
    """A contrast in print: the first arm minus the second, kept layers by their own name.

    >>> versus("bitnet-keep_conv1-kd", "bitnet")
    'conv1, KD − BitNet'
    """
    return f"{_short(a)} − {_short(b)}"


def _short(name: str) -> str:
    return arm(name).removeprefix("BitNet, FP32 ")
