"""The public VGG-11 for CIFAR, `cifar100_vgg11_bn` of pytorch-cifar-models and its twin for CIFAR-10, as ours."""

from pathlib import Path

from bitq import models
from bitq.deploy.export import NOT_SHIPPED, Exported, export
from bitq.errors import DataError
from bitq.interop.pth import read_pth, refuse_misfit, state_of
from bitq.io import sha256_file

LAST = "classifier.6.bias"
DATASETS = {10: "cifar10", 100: "cifar100"}  # by the number of classes


def import_vgg11(source: Path, target: Path) -> Exported:
    """Write the checkpoint as a model file. Its layers have the names of ours: only what fits exactly is taken."""
    state = state_of(read_pth(source), source)
    if LAST not in state:
        raise DataError(f"{source} does not hold a VGG-11 for CIFAR: it has no {LAST}.")
    classes = len(state[LAST])
    if classes not in DATASETS:
        raise DataError(f"{source} does not hold a VGG-11 for CIFAR: {LAST} has {classes} classes, not 10 or 100.")
    network = models.build("vgg11", classes)
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ state.keys()):
        if not name.endswith(NOT_SHIPPED):
            raise DataError(f"{source} does not hold a VGG-11: {name} is in only one of the two.")
    for name, value in expected.items():
        if name in state:
            refuse_misfit(source, name, state[name], tuple(value.shape), value)
    network.load_state_dict({name: state.get(name, value).to(value.dtype) for name, value in expected.items()})
    digest = sha256_file(source)
    spec = {
        "run": f"published/{source.name}",
        "hash": digest,
        "model": "vgg11",
        "classes": classes,
        "method": "fp32",
        "dataset": DATASETS[classes],
        "variant": "official",
        "normalisation": DATASETS[classes],
        "source": {"file": source.name, "sha256": digest},
    }
    return export(network.eval(), spec, target)
