"""Every method in every network: built, trained for a step, packed, read back, equal."""

import itertools
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitq.deploy.audit import audit_file
from bitq.deploy.export import export
from bitq.deploy.verify import verify
from bitq.models.layers import weight_layers
from bitq.models.registry import build, names
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS

NETWORKS = names()
PAIRS = list(itertools.product(METHODS, NETWORKS))
SHAPES = ((3, 32), (1, 28), (3, 64))  # of the images of CIFAR, (Fashion-)MNIST and Tiny-ImageNet
# Each method once and each network once: neighbours on the diagonal of the whole table.
DIAGONAL = [
    (list(METHODS)[i % len(METHODS)], NETWORKS[i % len(NETWORKS)]) for i in range(max(len(METHODS), len(NETWORKS)))
]


def images(count: int, shape: tuple[int, int]) -> Tensor:
    channels, size = shape
    x = torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=torch.channels_last)


def train_a_step(model: nn.Module, shape: tuple[int, int]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nn.functional.cross_entropy(model.train()(images(8, shape)), torch.arange(8) % 3).backward()
    optimizer.step()
    with torch.no_grad():
        for layer in quantized_layers(model).values():
            layer.quantizer.project_(layer.weight)


def cross(method: str, network: str) -> None:
    # Neighbours differ in their images, so that each method and each network meets all kinds.
    shape = SHAPES[(list(METHODS).index(method) + NETWORKS.index(network)) % len(SHAPES)]
    geometry = {"width": 8, "channels": shape[0], "image_size": shape[1]}
    model = convert(build(network, 3, **geometry), method).to(memory_format=torch.channels_last)
    train_a_step(model, shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        export(model, {"model": network, "classes": 3, "method": method, **geometry}, path)
        verify(model, path, images(2, shape), "bf16")
        report = audit_file(path)
    ships_codes = {name for name, layer in quantized_layers(model).items() if layer.quantizer.levels}
    assert {layer.name for layer in report.layers} == ships_codes
    assert not ships_codes or ships_codes == weight_layers(model).keys()  # no layer is passed over in silence


@pytest.mark.parametrize(("method", "network"), DIAGONAL)
def test_each_method_and_each_network_work(method: str, network: str) -> None:
    cross(method, network)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), PAIRS)
def test_every_method_works_in_every_network(method: str, network: str) -> None:
    cross(method, network)
