"""Name data sets, networks and arms in print, and fix their order."""

from collections.abc import Callable, Collection, Mapping
from functools import reduce
from itertools import takewhile
from typing import Any

from bitq.errors import DataError

DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "fashion_sst2": "Fashion-MNIST + SST-2",
}
MODELS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "resnet20": "ResNet-20",
    "resnet32": "ResNet-32",
    "resnet44": "ResNet-44",
    "vgg11": "VGG-11",
    "atq_cnn": "ATQ-CNN",
    "gated_fusion": "Gated fusion",
    "fusion_image_only": "Gated fusion, image only",
    "fusion_text_only": "Gated fusion, sentence only",
}
PRINTED = {"dataset": DATASETS, "model": MODELS}
# Where there is little room.
SHORT = {
    "ResNet-": "R",
    "VGG-": "V",
    "Gated fusion": "Fusion",
    "Tiny-ImageNet": "Tiny-IN",
    "Fashion-MNIST + SST-2": "pairs",
    "Fashion-": "F-",
}
METHODS = {
    "fp32": "FP32",
    "bitnet": "BitNet",
    "ttq": "TTQ",
    "bitnet_legacy": "BitNet legacy",
    "ttq_legacy": "TTQ legacy",
    "twn": "TWN",
    "atq": "ATQ",
    "atq_legacy": "ATQ legacy",
    "ring": "Ring",
    "ring_legacy": "Ring legacy",
    "lsq": "LSQ",
    "dorefa": "DoReFa",
    "paretoq": "ParetoQ",
    "parq": "PARQ",
    "apot": "APoT",
    "irnet": "IR-Net",
    "bwn": "BWN",
}
# Parts of an arm's name after the method that any study may use; a study adds its own, any other is printed as it is.
PARTS = {
    "keep_first+last": "FP32 first/last",
    "keep_conv": "linear layers only",
    "norm": "inner normalisation",
    "imagenet_stem": "ImageNet stem",
    "kd": "KD",
    "online_kd": "online KD",
    "no_mixup": "no mixup",
    "from_fp32": "from FP32",
    "channel": "scale a channel",
    "n2": "2 levels",
    "n3": "3 levels",
    "n4": "4 levels",
    "n8": "8 levels",
    "n16": "16 levels",
    "w2": "2 bits",
    "w3": "3 bits",
    "w4": "4 bits",
    "w8": "8 bits",
    "w4a8": "W4A8",
    "w8a8": "W8A8",
    "ptq": "after training",
}
# Verdicts are printed as they are, but for claims without runs.
VERDICTS = {"missing": "not judged"}


def dataset(name: str) -> str:
    """Name a data set in print."""
    return DATASETS.get(name, name)


def model(name: str) -> str:
    """Name a network in print."""
    return MODELS.get(name, name)


def printed(kind: str, name: str) -> str:
    """Name a data set or a network in print; one that has no name there is an error, not an omission.

    >>> printed("model", "resnet18")
    'ResNet-18'
    """
    if name not in PRINTED[kind]:
        raise DataError(f"{kind} {name!r} has no name in print; add it to bitq/report/names.py.")
    return PRINTED[kind][name]


def in_order(kind: str, there: Collection[str]) -> list[str]:
    """Sort data sets or networks as they are printed.

    >>> in_order("model", {"resnet50", "resnet18"})
    ['resnet18', 'resnet50']
    """
    return sorted(there, key=lambda name: list(PRINTED[kind].values()).index(printed(kind, name)))


def verdict(name: str) -> str:
    """Name a verdict in print."""
    return VERDICTS.get(name, name)


def where(record: Mapping[str, Any]) -> str:
    """Name network and data set in few letters.

    >>> where({"model": "resnet18", "dataset": "cifar10"})
    'R18 CIFAR-10'
    """
    return short(f"{model(record['model'])} {dataset(record['dataset'])}")


def short(text: str) -> str:
    """Shorten the names of networks and data sets in a text."""
    return reduce(lambda text, name: text.replace(name, SHORT[name]), SHORT, text)


def arm(name: str, parts: Mapping[str, str] = PARTS) -> str:
    """Name an arm in print; `parts` are the words of its study.

    >>> arm("bitnet-keep_conv1-kd"), arm("ring-n4_line", {"n4_line": "4 levels on a line"})
    ('BitNet, FP32 conv1, KD', 'Ring, 4 levels on a line')
    """
    method, *rest = name.split("-")
    return ", ".join([METHODS.get(method, method), *(part(each, parts) for each in rest)])


def part(name: str, parts: Mapping[str, str] = PARTS) -> str:
    """Name one part of an arm in print."""
    kept = name.removeprefix("keep_")
    default = f"FP32 {kept.replace('+', ', ')}" if kept != name else name
    return parts.get(name, PARTS.get(name, default))


def versus(a: str, b: str, label: Callable[[str], str] = arm) -> str:
    """Name a contrast in print, first arm minus second, with long shared parts written once.

    >>> versus("bitnet-keep_conv1-kd", "bitnet"), versus("bitnet-norm-kd-no_mixup", "bitnet-norm-kd")
    ('conv1, KD − BitNet', 'BitNet, inner normalisation, KD: no mixup − plain')
    """
    first, second = (label(name).removeprefix("BitNet, FP32 ").split(", ") for name in (a, b))
    shared = len(list(takewhile(lambda words: words[0] == words[1], zip(first, second, strict=False))))
    if shared < 2:
        return f"{', '.join(first)} − {', '.join(second)}"
    rests = (", ".join(words[shared:]) or "plain" for words in (first, second))
    return f"{', '.join(first[:shared])}: {' − '.join(rests)}"
