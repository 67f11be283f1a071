"""Name data sets, networks and arms in print, and fix their order."""

from collections.abc import Callable, Collection, Mapping
from functools import reduce
from itertools import takewhile
from typing import Any

from bitq.errors import DataError

# Studies in the order of the paper.
STUDIES = ("bitnet", "ring", "atq", "multimodal", "precision")
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
# Parts of an arm's name after the method; any other part is printed as it is.
PARTS = {
    "keep_first+last": "FP32 first/last",
    "norm": "inner normalisation",
    "imagenet_stem": "ImageNet stem",
    "kd": "KD",
    "no_mixup": "no mixup",
    "alpha01": "α = 0.1",
    "alpha03": "α = 0.3",
    "alpha05": "α = 0.5",
    "from_fp32": "from FP32",
    "unit_one": "values from one",
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
    "boosted_gradient": "boosted by gradient",
    "routed": "routed weights",
    "routed_boundary": "routed at the boundary",
    "routed_inputs": "routed inputs",
    "budget50": "budget of 50 % zeros",
    "l1": "L1 penalty",
    "zeros10": "10 % zeros",
    "zeros50": "50 % zeros",
    "zeros70": "70 % zeros",
    "zeros90": "90 % zeros",
    "n2": "2 levels",
    "n3": "3 levels",
    "n4": "4 levels",
    "n8": "8 levels",
    "n16": "16 levels",
    "n4_line": "4 levels on a line",
    "n8_line": "8 levels on a line",
    "n4_sine": "4 levels of a sine",
    "n8_sine": "8 levels of a sine",
    "n4_learned": "4 learned levels",
    "n8_learned": "8 learned levels",
    "n4_phase0": "4 points without phase",
    "n4_anneal": "4 levels, annealed",
    "n4_narrowing": "4 levels, gradient narrowed",
    "r4": "4 points, soft",
    "r8": "8 points, soft",
    "r4_snapped": "4 points, snapped",
    "r8_snapped": "8 points, snapped",
    "r4_recalibrated": "4 points, recalibrated",
    "r8_recalibrated": "8 points, recalibrated",
    "w2": "2 bits",
    "w2_tensor_count": "2 bits, gradient by layer",
    "w3": "3 bits",
    "w4": "4 bits",
    "w8": "8 bits",
    "w4a8": "W4A8",
    "w8a8": "W8A8",
    "trained_bf16": "trained in bf16",
    "trained_fp16": "trained in fp16",
    "trained_on": "trained on",
    "keep_conv": "linear layers only",
    "keep_embedding": "FP32 word vectors",
    "keep_text+fusion+last": "image encoder only",
    "keep_image+fusion+last": "text encoder only",
    "linear_ptq": "after training",
    "ptq": "after training",
    "ptq_minmax": "minmax",
    "ptq_percentile": "percentile",
    "ptq_tensor": "per tensor",
    "ptq_bias": "corrected biases",
    "ptq_adaptive": "rounded for the outputs",
    "ptq_a8_static": "static int8 activations",
    "ptq_a8_dynamic": "dynamic int8 activations",
    "ptq_a8_adaptive": "static int8 activations, rounded for the outputs",
}
# Verdicts are printed as they are, but for claims without runs.
VERDICTS = {"missing": "not judged"}
LAYERS = ("conv1", "layer1", "layer4", "fc")


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


def arm(name: str) -> str:
    """Name an arm in print.

    >>> arm("bitnet-keep_conv1-kd")
    'BitNet, FP32 conv1, KD'
    """
    method, *parts = name.split("-")
    return ", ".join([METHODS.get(method, method), *map(part, parts)])


def part(name: str) -> str:
    """Name one part of an arm in print."""
    kept = name.removeprefix("keep_")
    return PARTS.get(name, f"FP32 {kept.replace('+', ', ')}" if kept != name else name)


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
