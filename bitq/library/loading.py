"""Read packed files: networks of the grid by themselves, others into a network that the user builds."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from bitq.deploy import tensorfile
from bitq.deploy.blueprint import parse
from bitq.deploy.export import NOT_SHIPPED, packed_layers, shape_and_type
from bitq.deploy.load import _packed_kinds, _stored
from bitq.deploy.load import load as load_of_grid
from bitq.errors import DataError, UsageError
from bitq.library.attention import SeparateAttention, can_be_separated, separate
from bitq.library.blueprint import KIND, OwnLayer, OwnNetwork, parse_own
from bitq.library.packing import PARTS, SPEC, canonical_names
from bitq.library.quantize import FoldedNorm, finish
from bitq.models.layers import weight_layers
from bitq.quant.activation import Int8Activation
from bitq.quant.base import Quantizer
from bitq.quant.bitnet_legacy import NormScaledActivation
from bitq.quant.cast import FORMATS, Cast
from bitq.quant.convert import quantized_layers, wrap
from bitq.quant.layers import Activation
from bitq.quant.static import StaticUint8

Tensors = dict[str, Tensor]
KINDS_OF_ACTIVATION: dict[str, Activation] = {
    kind.__name__: kind for kind in (Int8Activation, StaticUint8, NormScaledActivation)
}


def load(path: str | os.PathLike[str], into: nn.Module | None = None) -> nn.Module:
    """Load a packed network in eval mode, codes in place of latent weights.

    A network of the grid is built from its file alone. Any other needs `into`, a fresh network of the class that was
    exported (its weights do not matter), which is changed in place and returned.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> net, x = quantize(nn.Sequential(nn.Linear(8, 2)), "twn").eval(), torch.ones(1, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(net, f"{folder}/net.safetensors")
    ...     torch.equal(load(f"{folder}/net.safetensors", into=nn.Sequential(nn.Linear(8, 2)))(x), net(x))
    True
    """
    path = Path(path)
    tensors, meta = tensorfile.read(path)
    if meta.get("kind") == "model":
        if into is not None:
            raise UsageError(f"{path} holds a network of the grid, which bitq builds itself; leave `into` out.")
        model, spec = load_of_grid(path)
        setattr(model, SPEC, spec)
        return model
    if meta.get("kind") != KIND:
        raise DataError(f"{path} holds no network; give a file that bitq.export or bitq train wrote.")
    plan = parse_own(path, meta)
    if into is None:
        raise UsageError(
            f"{path} holds the weights of a {plan.network}, which only its own code can build; give a fresh one: "
            "bitq.load(path, into=model)."
        )
    return _fill(path, into, plan, tensors)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a packed file without building its network: its kind, class or name, layers and bytes.

    >>> import tempfile
    >>> from bitq.library.packing import export
    >>> from bitq.library.quantize import quantize
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(quantize(nn.Sequential(nn.Linear(8, 2)), "int4"), f"{folder}/net.safetensors")
    ...     found = describe(f"{folder}/net.safetensors")
    >>> found["kind"], found["network"], found["layers"]["0"]["method"], found["layers"]["0"]["levels"]
    ('own_network', 'torch.nn.modules.container.Sequential', 'int4', 16)
    """
    path = Path(path)
    _, meta = tensorfile.read(path)
    if meta.get("kind") == KIND:
        found = parse_own(path, meta).model_dump(mode="json")
    elif meta.get("kind") == "model":
        plan = parse(path, meta).model_dump(mode="json")
        found = {"kind": "grid_network", "network": plan["spec"]["model"], **plan["spec"], "layers": plan["layers"]}
    else:
        raise DataError(f"{path} holds no network; give a file that bitq.export or bitq train wrote.")
    return {**found, "bytes": path.stat().st_size}


@torch.no_grad()
def _fill(path: Path, model: nn.Module, plan: OwnNetwork, tensors: Tensors) -> nn.Module:
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    _restructure(path, model, plan, tensors)
    for name, record in sorted(plan.layers.items(), key=lambda each: each[1].tied_to is not None):
        layer = _layer(path, model, name, record)
        wrap(layer, _quantizer(path, model, name, plan, tensors).to(device), _activation(path, name, record))
        if record.tied_to:
            layer.weight = model.get_submodule(record.tied_to).weight
    _copy_floats(path, model.to(device), plan, tensors)
    for layer in quantized_layers(model).values():
        if layer.quantizer.levels:
            layer.weight.copy_(layer.quantizer(layer.weight))
    finish(model)
    return model.eval()


def _restructure(path: Path, model: nn.Module, plan: OwnNetwork, tensors: Tensors) -> None:
    """Give a fresh network the modules that the exported one had: separate attention, folded normalisations."""
    modules = dict(model.named_modules(remove_duplicate=False))
    packed = [name for name in plan.separated if not isinstance(modules.get(name), SeparateAttention)]
    for name in packed:
        if name not in modules or not can_be_separated(modules[name]):
            raise _other(path, name, "attention", modules.get(name))
    separate(model, packed)
    for name in plan.folded:
        if not isinstance(modules.get(name), _NormBase | FoldedNorm):
            raise _other(path, name, "a folded batch normalisation", modules.get(name))
        model.set_submodule(name, FoldedNorm())
    for name, layer in weight_layers(model).items() if plan.folded else ():
        if f"{name}.bias" in tensors and layer.bias is None:  # the shift of the normalisation behind it
            layer.bias = nn.Parameter(torch.zeros_like(tensors[f"{name}.bias"]))


def _layer(path: Path, model: nn.Module, name: str, record: OwnLayer) -> Any:
    layer = weight_layers(model).get(name)
    if layer is None or tuple(layer.weight.shape) != record.shape:  # type: ignore[arg-type]
        raise _other(path, name, f"a quantized layer of {record.shape}", layer)
    return layer


def _quantizer(path: Path, model: nn.Module, name: str, plan: OwnNetwork, tensors: Tensors) -> Quantizer:
    record = plan.layers[name]
    if record.tied_to:
        first = quantized_layers(model).get(record.tied_to)
        if first is None or tuple(first.weight.shape) != record.shape:
            raise DataError(f"{path}: {name} is tied to {record.tied_to}, which does not fit; export it again.")
        return first.quantizer
    if record.levels is None:
        if record.method not in FORMATS:
            raise DataError(f"{path}: {name} ships floats by {record.method}, no 16-bit format; export it again.")
        return Cast(torch.empty(0), record.method)
    shape = torch.Size(record.shape)
    for part, wanted in _packed_kinds(name, shape, record, tensors).items():
        found = shape_and_type(tensors[part]) if part in tensors else "nothing"
        if found != wanted:
            raise DataError(f"{path}: {part} is {found}, not {wanted}; export the network again.")
    stored = _stored(path, name, shape, record, tensors)
    stored.method = record.method  # type: ignore[assignment]  # to be named in a further file
    return stored


def _activation(path: Path, name: str, record: OwnLayer) -> Activation | None:
    if record.activation is None:
        return None
    if record.activation not in KINDS_OF_ACTIVATION:
        raise DataError(
            f"{path}: {name} has activations {record.activation!r}, which this bitq does not know; export it again."
        )
    return KINDS_OF_ACTIVATION[record.activation]


def _copy_floats(path: Path, model: nn.Module, plan: OwnNetwork, tensors: Tensors) -> None:
    """Copy everything that ships as floats, after all of it was compared."""
    given = {name: value for name, value in tensors.items() if not _is_part_of_codes(name, plan)}
    given |= {name: given[first] for name, first in plan.aliases.items() if first in given}
    wanted = _float_state(model)
    for name in [*wanted, *sorted(given.keys() - wanted.keys() - plan.aliases.keys())]:
        one, other = given.get(name), wanted.get(name)
        if one is None or other is None or one.shape != other.shape:
            raise _other(path, name, "nothing" if one is None else tuple(one.shape), other)
        if one.is_floating_point() != other.is_floating_point():
            raise _other(path, name, one.dtype, other.dtype)
    for name, value in wanted.items():
        value.copy_(given[name])


def _is_part_of_codes(name: str, plan: OwnNetwork) -> bool:
    owner, _, part = name.rpartition(".")
    return owner in plan.layers and plan.layers[owner].levels is not None and part in PARTS


def _float_state(model: nn.Module) -> Tensors:
    """List what ships as floats of a network, each tensor once."""
    packed, first = packed_layers(model), canonical_names(model)
    latent = {f"{name}.weight" for name in packed}
    scalars = tuple(f"{name}.quantizer." for name in packed)
    return {
        name: value
        for name, value in model.state_dict(keep_vars=True).items()
        if first[name] == name
        and name not in latent
        and not name.startswith(scalars)
        and not name.endswith(NOT_SHIPPED)
    }


def _other(path: Path, name: str, in_file: object, in_model: object) -> DataError:
    if isinstance(in_model, Tensor):
        in_model = tuple(in_model.shape)
    elif isinstance(in_model, nn.Module):
        shape = getattr(getattr(in_model, "weight", None), "shape", None)
        in_model = f"{type(in_model).__name__}{'' if shape is None else f' of {tuple(shape)}'}"
    return DataError(
        f"{path}: {name}: the file holds {in_file}, the given network {in_model or 'nothing'}; give a fresh network "
        "of the class and the sizes that were exported."
    )
