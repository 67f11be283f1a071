"""Quantize a network that the user built, in place."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.nn import functional

from bitq.errors import UsageError
from bitq.library.attention import can_be_separated, leave_fast_paths, separate
from bitq.library.bypass import check_at_first_call
from bitq.library.rules import check_globs, check_rules, is_kept
from bitq.library.training import project_before_each_call
from bitq.library.undo import unchanged_if_refused
from bitq.models.fold import fold as fold_norms
from bitq.models.fold import foldable
from bitq.models.layers import WeightLayer, weight_layers
from bitq.quant.cast import Cast
from bitq.quant.convert import convert, quantized_layers, wrap
from bitq.quant.fp32 import Fp32
from bitq.quant.layers import Activation, QuantEmbedding, QuantLayer
from bitq.quant.registry import method as method_named
from bitq.quant.static import activation_named

Network = TypeVar("Network", bound=nn.Module)
Activations = Literal["none", "dynamic", "static"]


class FoldedNorm(nn.Identity):
    """Where a batch normalisation was that is now part of the layer before it."""


class PaddedEmbedding(QuantEmbedding):
    """A quantized table of word vectors, one row of which stands for padding and gets no gradient."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Look the tokens up."""
        return functional.embedding(tokens, self.quantizer(self.weight), self.padding_idx)


def quantize(
    model: Network,
    method: str,
    *,
    keep: str | Collection[str] = (),
    activations: Activations | None = None,
    settings: Mapping[str, Any] | None = None,
    fold: bool = False,
) -> Network:
    """Quantize every Conv1d, Conv2d, Linear and Embedding of a network in place, and return it.

    `keep` names what stays in full precision: globs on the dotted names of modules, with all that lies below them.
    `activations` decides about the layers' inputs: "none", "dynamic" (int8, one scale per sample or token), "static"
    (uint8, one range per layer, set by `calibrate`); left out, the method decides. `settings` are the method's own,
    such as {"bits": 3}; below a glob they are those of the layers that it matches. `fold` makes batch normalisation
    part of the layer before it, which is for trained networks.

    The float weights are where training starts. Attention of `torch.nn` is cut into linear layers. Make the optimizer
    afterwards. A call that is refused leaves the network as it was.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> print(quantize(net, "bitnet", keep="3")[0])
    QuantConv2d(
      1, 4, kernel_size=(3, 3), stride=(1, 1)
      (quantizer): Bitnet()
      (activation): Int8Activation()
    )
    >>> quantize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 4, 3)), "bitnet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    bitq.errors.UsageError: 1: ConvTranspose2d is a module type without a rule ...
    """
    chosen = method_named(method)
    globs = [keep] if isinstance(keep, str) else list(keep)
    activation = chosen.activation if activations is None else activation_named(activations)
    _check_method(settings or {})
    if chosen.weight is Fp32 and activation is not None:
        raise UsageError(
            f"method {method} quantizes nothing, but activations={activations!r} was given; leave it out, or give int8 "
            "or another method."
        )
    _check_unquantized(quantized_layers(model), globs)
    check_rules(model, globs)
    with unchanged_if_refused(model):
        if fold:
            _fold(model)
        _separate(model, globs)
        check_globs(model, globs)
        _convert(model, method, settings, globs, activation)
    return model


def finish(model: nn.Module) -> None:
    """Make a converted network safe in a loop of one's own: no fast path, projected latents, layers that are called."""
    leave_fast_paths(model)
    for layer in quantized_layers(model).values():
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            layer.__class__ = PaddedEmbedding
    project_before_each_call(model)
    check_at_first_call(model)


def attentions(model: nn.Module) -> list[str]:
    """Name the attentions that can be cut into linear layers."""
    return [path for path, module in model.named_modules(remove_duplicate=False) if can_be_separated(module)]


def kept_layers(model: nn.Module, globs: list[str]) -> set[str]:
    """Name the layers with weights that stay in full precision."""
    quantized = quantized_layers(model)
    return {path for path in weight_layers(model) if path in quantized or is_kept(path, globs)}


def tied_layers(model: nn.Module, globs: list[str]) -> dict[str, str]:
    """Find for each layer that shares its weight with an earlier one the first of them.

    >>> net = nn.ModuleDict({"words": nn.Embedding(10, 4), "head": nn.Linear(4, 10)})
    >>> net["head"].weight = net["words"].weight
    >>> tied_layers(net, [])
    {'head': 'words'}
    """
    owners: dict[Tensor, list[str]] = defaultdict(list)
    for path, module in model.named_modules():
        for name, value in module.named_parameters(recurse=False, remove_duplicate=False):
            is_weight = isinstance(module, WeightLayer) and name == "weight"
            owners[value].append(path if is_weight else f"{path}.{name}")
    layers, kept = weight_layers(model), kept_layers(model, globs)
    tied: dict[str, str] = {}
    for first, *others in owners.values():
        alike = [path in layers and path not in kept for path in (first, *others)]
        if any(alike) and not all(alike):
            raise UsageError(
                f"{first} and {others[0]} share one weight, but only one of them would be quantized; keep both, "
                f"keep={[first, others[0]]!r}, or give them weights of their own."
            )
        tied |= dict.fromkeys(others, first) if all(alike) else {}
    return tied


def tie(layer: WeightLayer, first: QuantLayer, activation: Activation | None) -> None:
    """Quantize a layer that shares the weight of a quantized one by the very same quantizer."""
    latent = first.weight.detach().clone()
    wrap(layer, first.quantizer, activation)
    first.weight.data.copy_(latent)  # it was a latent already


def _separate(model: nn.Module, globs: list[str]) -> None:
    packed = [path for path in attentions(model) if not is_kept(path, globs)]
    _check_untied(model, packed)
    separate(model, packed)


def _convert(
    model: nn.Module, method: str, settings: Mapping[str, Any] | None, globs: list[str], activation: Activation | None
) -> None:
    before, tied = quantized_layers(model), tied_layers(model, globs)
    convert(model, method, settings, kept_layers(model, globs) | tied.keys(), False, activation)
    if method_named(method).weight is Fp32:
        return
    _check_ships(method, model)
    for path, first in tied.items():
        tie(model.get_submodule(path), model.get_submodule(first), activation)  # type: ignore[arg-type]
    for path, layer in quantized_layers(model).items():
        if activation is None and path not in before:
            layer.activation = None
    finish(model)


def _fold(model: nn.Module) -> None:
    norms = [norm for _, norm in foldable(model)]
    if not norms:
        raise UsageError("fold=True was given, but no batch normalisation follows a convolution alone; leave it out.")
    fold_norms(model)
    for norm in norms:
        model.set_submodule(norm, FoldedNorm())


def _check_method(settings: Mapping[str, Any]) -> None:
    own = [settings, *(value for value in settings.values() if isinstance(value, Mapping))]
    if any(each.get("budget") is not None for each in own):
        raise UsageError(
            "budget is one share of zeros for the whole network, which bitq train divides; give sparsity here."
        )
    if any(each.get("boost_by") == "gradient" for each in own):
        raise UsageError(
            "boost_by=gradient reads the gradient right after a step, before it is set to zero, as bitq train does; "
            "give boost_by=distance here."
        )


def _check_unquantized(layers: Collection[str], globs: list[str]) -> None:
    for path in layers:
        if not is_kept(path, globs):
            raise UsageError(
                f"{path} is quantized already; quantize a float network, or keep that layer: keep=[{path!r}]."
            )


def _check_untied(model: nn.Module, packed: list[str]) -> None:
    """Refuse attentions that share a weight with another module: cut in three, it would not be shared any more."""
    owners = Counter(value for module in model.modules() for value in module.parameters(recurse=False))
    for path in packed:
        if any(owners[value] > 1 for value in model.get_submodule(path).parameters()):
            raise UsageError(
                f"{path} shares a weight with another module, and its projections would be cut apart; keep it, "
                f"keep=[{path!r}], or give it weights of its own."
            )


def _check_ships(method: str, model: nn.Module) -> None:
    for path, layer in quantized_layers(model).items():
        if layer.quantizer.levels is None and not isinstance(layer.quantizer, Cast | Fp32):
            raise UsageError(
                f"{path}: {method} ships neither codes nor 16-bit floats as it is set; it is for bitq train, which "
                "measures the published code; use another method."
            )
