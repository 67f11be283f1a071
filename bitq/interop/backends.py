"""Run a packed network under other engines: torchao, its PT2E flow, ONNX Runtime, and bitq's own integer kernels.

An independent engine confirms what the codes mean. What it leaves in floating point is counted on the tensors that
result, not taken from what was asked for.
"""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs, cut
from bitq.deploy.audit import evaluation_weight
from bitq.deploy.coverage import multiplications
from bitq.deploy.export import packed_layers
from bitq.errors import UsageError, one_of
from bitq.models.layers import weight_layers
from bitq.quant.convert import QUANTIZED, quantized_layers
from bitq.quant.layers import QuantLayer
from bitq.quant.static import StaticUint8

STATIC = "--method int8 --epochs 0 --start RUN --calibration activations=static"
EXAMPLES = 2  # images that a network is traced with: with one, the batch would be taken for a constant


@dataclass(frozen=True)
class Ported:
    """A network under another engine, and what of it that engine really quantized."""

    model: Callable[[Any], Tensor]
    layers: tuple[str, ...]  # names of the layers whose weights it holds as integers
    weights: float  # their share of the weights of convolutions and linear layers
    multiplications: float  # their share of the multiplications of one image


def ported(model: nn.Module, backend: str, example: Inputs) -> Ported:
    """Convert the network for the engine of that name; `example` is a batch as the network takes it."""
    if backend not in BACKENDS:
        raise one_of("backend", backend, BACKENDS)
    if backend != "onnxruntime" and not isinstance(example, Tensor):
        raise UsageError(
            f"backend {backend} takes networks with images alone, not with sentences beside them; leave --backend out."
        )
    if backend in OF_TORCHAO:
        require_torchao(backend)
    with torch.no_grad():
        network, layers = BACKENDS[backend](model.eval(), cut(example, 0, EXAMPLES))
    counts = multiplications(model, example)
    sizes = {name: model.get_parameter(f"{name}.weight").numel() for name in weight_layers(model)}
    return Ported(
        network,
        tuple(layers),
        sum(sizes[name] for name in layers) / sum(sizes.values()),
        sum(counts.get(name, 0) for name in layers) / sum(counts.values()),
    )


def require_torchao(backend: str) -> None:
    """Check that torchao is installed, or say how to get it."""
    # Its CUDA extensions are not used here, and it warns where they do not load.
    os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
    try:
        import torchao  # noqa: F401
    except ImportError as error:
        raise UsageError(f"backend {backend} needs torchao; install it with: pip install 'bitq[train]'.") from error


# --- torchao: integer weights -------------------------------------------------------------------------------------


def torchao_weights(model: nn.Module, _: Tensor) -> tuple[nn.Module, list[str]]:
    """Convert convolutions and linear layers with codes of 2 to 8 bits to torchao's tensors; activations stay fp32."""
    from torchao.quantization import quantize_

    plain = without_quantizers(model)
    for name, layer in packed_layers(model).items():
        bits = integer_bits(layer)
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.activation is not None or bits is None:
            continue
        weights = weight_only(bits, isinstance(layer, nn.Conv2d))
        quantize_(plain, weights, filter_fn=lambda _, found, name=name: found == name)
        _use_codes(plain.get_submodule(name), layer)
    return plain, [name for name, layer in weight_layers(plain).items() if _holds_integers(layer.weight)]


def weight_only(bits: int, convolution: bool) -> Any:
    """Choose torchao's configuration of integer weights; the one for int8 alone knows no convolutions."""
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, PerRow

    if bits == 8 and not convolution:
        return Int8WeightOnlyConfig(granularity=PerRow())
    return IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerAxis(0))


def _use_codes(target: nn.Module, layer: QuantLayer) -> None:
    """Replace the codes and steps that torchao derived from rounded weights by those that ship."""
    weight: Any = target.weight
    if _holds_integers(weight):  # torchao skips some layers without a warning
        integers, steps = integers_of(layer)
        weight.qdata.copy_(integers)
        # Convolutions have a step for each tap of a channel's kernel.
        weight.scale.copy_(steps.reshape(-1, *[1] * (weight.scale.dim() - 1)).expand(weight.scale.shape))


def _holds_integers(weight: Any) -> bool:
    return bool(getattr(weight, "qdata", weight).dtype == torch.int8)


# --- PT2E: whole networks with static activations -----------------------------------------------------------------


def pt2e(model: nn.Module, example: Tensor) -> tuple[Callable[[Tensor], Tensor], list[str]]:
    """Convert the whole network with torchao's PT2E flow for x86: uint8 activations a tensor, int8 weights a channel.

    Its observers get the scales and zero points that ship, so that both engines round alike.
    """
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    layers = packed_layers(model)
    check_pt2e_supported(model, layers)
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(without_quantizers(model), (example,), dynamic_shapes=({0: batch},)).module()
    prepared = prepare_pt2e(exported, products_for_x86())
    prepared(example)
    for node in list(prepared.graph.nodes):
        layer = layers.get(layer_of(node))
        if layer is not None:
            assert isinstance(layer.activation, StaticUint8)
            _, steps = integers_of(layer)
            _set_scale(prepared, node.args[0], layer.activation.scale, layer.activation.zero.int())
            _set_scale(prepared, node.args[1], steps, torch.zeros_like(steps, dtype=torch.int))
    converted = convert_pt2e(prepared)
    move_exported_model_to_eval(converted)
    return converted, [layer_of(node) for node in converted.graph.nodes if layer_of(node) and _is_integer(node)]


def products_for_x86() -> Any:
    """Build a quantizer for x86 that quantizes the factors of products alone.

    torchao's own also rounds the inputs of sums and poolings, for which no scale ships.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, Quantizer
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config()

    class Products(Quantizer):  # type: ignore[misc]
        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            for node in filter(layer_of, model.graph.nodes):
                factors = {node.args[0]: config.input_activation, node.args[1]: config.weight}
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    factors, allow_implicit_sharing=False, _annotated=True
                )
            return model

        def validate(self, model: torch.fx.GraphModule) -> None:
            """Accept every model: nothing but the products is annotated."""

    return Products()


def check_pt2e_supported(model: nn.Module, layers: Mapping[str, QuantLayer]) -> None:
    """Reject activations that are not static uint8, weights that are no integers, and batch normalisation.

    PT2E folds any normalisation into the weights, under the steps that ship without it: the two engines would then
    compute different networks.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise UsageError(
            "backend pt2e folds batch normalisation into the weights, but this file was quantized without that; "
            f"quantize with {STATIC} --calibration fold=true."
        )
    if not layers:
        raise UsageError(
            "backend pt2e computes with codes, but no layer of this network ships any; leave --backend out."
        )
    for name, layer in layers.items():
        if not isinstance(layer.activation, StaticUint8) or integer_bits(layer) is None:
            raise UsageError(
                f"backend pt2e computes with static uint8 activations and integer weights, but {name} has not both; "
                f"quantize with {STATIC} --calibration fold=true."
            )


PRODUCTS = ("conv2d", "linear")


def layer_of(node: Any) -> str:
    """Return the name of the layer whose product a node of an exported graph is; "" for all other nodes."""
    if node.op != "call_function" or getattr(node.target, "_opname", "") not in PRODUCTS:
        return ""
    path, _ = list(node.meta["nn_module_stack"].values())[-1]
    return str(path).removeprefix("L['self'].").replace("slice(None, None, None)", "")


def _set_scale(prepared: nn.Module, observed: Any, scale: Tensor, zero: Tensor) -> None:
    observer: Any = prepared.get_submodule(observed.target)
    observer.calculate_qparams = lambda: (scale.detach().reshape(-1), zero.reshape(-1))


def _is_integer(node: Any) -> bool:
    """Check that both factors of the product come out of integers."""
    return all("dequantize" in str(factor.target) for factor in node.args[:2])


# --- ONNX Runtime: whole networks -------------------------------------------------------------------------------


def onnx_runtime(model: nn.Module, example: Inputs) -> tuple[Callable[[Inputs], Tensor], list[str]]:
    """Run the graph that `bitq export --format onnx` writes; its weights are integers, most of its sums are floats."""
    from bitq.interop.onnx_export import onnx_bytes, session

    return session(onnx_bytes(model, example)), list(packed_layers(model))


# --- bitq's own kernels -------------------------------------------------------------------------------------------


def own_kernels(model: nn.Module, example: Tensor) -> tuple[Callable[[Tensor], Tensor], list[str]]:
    """Convert the network for bitq's integer kernels on the CPU."""
    from bitq.infer.fast import accelerated

    quick = accelerated(model, example)
    return quick, [name for name, kernel in quick.kernels.items() if kernel != "float"]


# --- shared by all ------------------------------------------------------------------------------------------------


def without_quantizers(model: nn.Module) -> nn.Module:
    """Copy the network with plain layers that hold the weights as inference uses them."""
    plain = copy.deepcopy(model)
    for name, layer in quantized_layers(plain).items():
        if layer.norm:
            raise UsageError(
                f"--backend was given, but {name} holds a normalisation that only bitq computes; leave --backend out."
            )
        weight = evaluation_weight(layer)
        layer.__class__ = next(kind for kind, quantized in QUANTIZED.items() if isinstance(layer, quantized))
        del layer.quantizer, layer.activation
        layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return plain.eval()


def integer_bits(layer: QuantLayer) -> int | None:
    """Return b if the layer's values are the integers from -2^(b-1) to 2^(b-1) - 1, else None."""
    values = layer.quantizer.codes(layer.weight).values
    bits = (len(values) - 1).bit_length()
    half = 2 ** (bits - 1)
    return bits if torch.equal(values.cpu(), torch.arange(-half, half, dtype=torch.float32)) else None


def integers_of(layer: QuantLayer) -> tuple[Tensor, Tensor]:
    """Return the codes as int8, and one step for each output channel."""
    codes = layer.quantizer.codes(layer.weight)
    integers = codes.values[codes.index.int()].to(torch.int8)
    return integers, codes.scale.reshape(-1).expand(len(integers))


OF_TORCHAO = ("torchao", "pt2e")
BACKENDS: dict[str, Callable[[nn.Module, Any], tuple[Callable[[Any], Tensor], list[str]]]] = {
    "torchao": torchao_weights,
    "pt2e": pt2e,
    "onnxruntime": onnx_runtime,
    "fast": own_kernels,
}
