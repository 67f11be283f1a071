"""Write what another implementation has to reproduce: inputs, integer activations and sums of each layer, logits."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.deploy.evaluate import full_precision, inference
from bitq.interop.c_layers import is_integer
from bitq.interop.calls import example_for
from bitq.io import write_atomic
from bitq.quant.convert import quantized_layers
from bitq.quant.layers import QuantProduct

IMAGES = 4
NO_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can hold


def export_conformance(model: nn.Module, spec: Mapping[str, Any], path: Path, images: int = IMAGES) -> dict[str, Any]:
    """Write the conformance set of a network as .npz and return its arrays."""
    arrays = conformance(model, spec, images)
    write_atomic(path, npz(arrays))
    return arrays


def conformance(model: nn.Module, spec: Mapping[str, Any], images: int = IMAGES) -> dict[str, Any]:
    """Compute the arrays: images (and tokens), logits, and of each layer of integers LAYER.codes and LAYER.sums.

    Codes are those of the layer's input, less the zero point where it has one, and sums their exact products with the
    levels, before any scale. A layer whose inputs are floats has no integers to compare.
    """
    x = example_for(spec, images, seed=2)
    parts = dict(zip(("images", "tokens"), (x,) if isinstance(x, Tensor) else x, strict=False))
    found: dict[str, Any] = {name: part.numpy() for name, part in parts.items()}
    with inference(model), full_precision(), _noting_integers(model, found):
        found["logits"] = model(x).float().numpy()
    return found


@contextmanager
def _noting_integers(model: nn.Module, found: dict[str, Any]) -> Iterator[None]:
    hooks = []
    for name, layer in quantized_layers(model).items():
        if is_integer(layer):
            hooks.append(layer.register_forward_pre_hook(_note(name, found)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _note(name: str, found: dict[str, Any]) -> Any:
    def note(layer: QuantProduct, inputs: tuple[Tensor, ...]) -> None:
        codes, sums = integers(layer, inputs[0])
        found[f"{name}.codes"], found[f"{name}.sums"] = codes.numpy(), sums.numpy()

    return note


def integers(layer: QuantProduct, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of a layer's input as int16, and the sums of their products with the levels as int32."""
    x = layer.quantizer.transform_input(x)
    if layer.norm:
        x = functional.layer_norm(x, x.shape[1:])
    assert layer.activation is not None
    codes, _ = layer.activation(x)
    unscaled, _ = layer.quantizer.factors(layer.weight)
    sums = layer.product(codes.double(), unscaled.double())  # exact: far below 2⁵³
    return codes.to(torch.int16), sums.to(torch.int32)


def npz(arrays: Mapping[str, Any]) -> bytes:
    """Write arrays as .npz without pickle, the same bytes every time."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", NO_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content.getvalue())
    return archive.getvalue()
