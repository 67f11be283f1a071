"""Import the published checkpoints of Ring Quantization, so that their accuracy can be measured again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq import models
from bitq.deploy.export import Exported, export
from bitq.errors import DataError, UsageError
from bitq.interop.checkpoint import check_names, load_tensors, published_spec, read_state
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.ring_legacy import WAVES
from bitq.quant.waves import both_ends

# Published name → bitq's.
NAMES = {"linear.": "fc.", ".shortcut.0.": ".downsample.0.", ".shortcut.1.": ".downsample.1."}
MODELS = ("resnet20", "resnet32", "resnet44")
PUBLISHED = "give a checkpoint that Ring Quantization published, and its --model"


@dataclass(frozen=True)
class Published:
    """The contents of a checkpoint, under the names of bitq."""

    state: dict[str, Tensor]
    ring_size: int | None  # none: an FP32 network
    wave: str = "triangle"
    on_rings: frozenset[str] = frozenset()  # layers whose weights are positions

    @property
    def classes(self) -> int:
        """Number of outputs of the last layer."""
        return len(self.state["fc.bias"]) if "fc.bias" in self.state else 10


def import_published(source: Path, target: Path, model: str, ring_size: int | None, snap: bool) -> Exported:
    """Write the checkpoint as a model file: soft as it was published, or snapped to its ring and packed."""
    found = read_published(source)
    if ring_size is not None and ring_size != found.ring_size:
        raise UsageError(
            f"--ring-size {ring_size} was given, but the ring in {source} has {found.ring_size} points; leave it out."
        )
    if snap and found.ring_size is None:
        raise UsageError(f"{source} holds an FP32 network, which has no ring to snap to; leave --snap out.")
    network, method, settings = _network(source, model, found, snap)
    spec = published_spec(source, model, found.classes, "cifar10")
    return export(network, spec | {"method": method, "settings": settings, "keep": ["last"]}, target)


def read_published(path: Path) -> Published:
    """Read the tensors under the names of bitq, with the ring that they are positions on."""
    state = read_state(path)
    rings = {name: value for name, value in state.items() if name.endswith("ring_template")}
    ours = {_our_name(name): value for name, value in state.items() if name not in rings}
    on_rings = frozenset(_our_name(name).removesuffix(".ring_template") for name in rings)
    if not rings:
        return Published(ours, None)
    sizes = {value.numel() for value in rings.values()}
    size = max(sizes)
    for wave in WAVES:
        template = torch.tensor(both_ends(size, wave)) if size >= 2 else torch.zeros(0)
        if all(
            value.shape == template.shape and torch.allclose(value.float(), template, atol=1e-5)
            for value in rings.values()
        ):
            return Published(ours, size, wave, on_rings)
    raise DataError(
        f"{path}: its rings of {size} points are neither a triangle nor a sine sampled with both ends; {PUBLISHED}."
    )


def _our_name(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name.removesuffix("positions") + "weight" if name.endswith(".positions") else name


def _network(source: Path, name: str, found: Published, snap: bool) -> tuple[nn.Module, str, dict[str, Any]]:
    if name not in MODELS:
        raise UsageError(
            f"--model {name} was given; allowed for checkpoints of Ring Quantization: {', '.join(MODELS)}."
        )
    network = models.build(name, found.classes)
    method, settings = "fp32", {}
    if found.ring_size:
        method, settings = "ring_legacy", {"ring_size": found.ring_size, "wave": found.wave, "snap": snap}
        convert(network, method, settings, keep=("fc",))
    check_names(source, name, network, found.state)
    for layer in sorted(quantized_layers(network).keys() ^ found.on_rings):
        has, lacks = ("a ring", "none") if layer in found.on_rings else ("no ring", "one")
        raise DataError(
            f"{source} does not hold a published {name}: {layer} has {has}, where it should have {lacks}; {PUBLISHED}."
        )
    positions = frozenset(f"{layer}.weight" for layer in found.on_rings)
    load_tensors(source, network, found.state, flat=positions)
    for key in sorted(positions):
        if not bool(((found.state[key] >= 0) & (found.state[key] <= 1)).all()):
            raise DataError(f"{source}: {key} holds positions beyond its ring, which goes from 0 to 1; {PUBLISHED}.")
    return network.eval(), method, settings
