"""Import the public VGG-11 for CIFAR: `cifar100_vgg11_bn` of pytorch-cifar-models, and its twin for CIFAR-10."""

from pathlib import Path

from bitq import models
from bitq.deploy.export import Exported, export
from bitq.errors import DataError
from bitq.interop.checkpoint import check_names, load_tensors, published_spec, read_state

MODEL, LAST = "vgg11", "classifier.6.bias"
PUBLISHED = "give cifar10_vgg11_bn or cifar100_vgg11_bn of pytorch-cifar-models"
DATASETS = {10: "cifar10", 100: "cifar100"}  # by the number of classes


def import_vgg11(source: Path, target: Path) -> Exported:
    """Write the checkpoint as a model file; its layers have the names of bitq's, so only an exact match is taken."""
    state = read_state(source)
    if LAST not in state:
        raise DataError(f"{source} does not hold a VGG-11 for CIFAR: it has no {LAST}; {PUBLISHED}.")
    classes = len(state[LAST])
    if classes not in DATASETS:
        raise DataError(f"{source} does not hold a VGG-11 for CIFAR: {LAST} has {classes} classes; {PUBLISHED}.")
    network = models.build(MODEL, classes)
    check_names(source, MODEL, network, state)
    load_tensors(source, network, state)
    return export(network.eval(), published_spec(source, MODEL, classes, DATASETS[classes]), target)
