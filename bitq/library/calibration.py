"""Post-training quantization with data of one's own."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.deploy.export import lowbit_layers
from bitq.errors import UsageError
from bitq.library.bypass import evaluating
from bitq.ptq.calibrate import calibrate as calibrate_layers
from bitq.ptq.watch import execution_order
from bitq.quant.base import Quantizer
from bitq.quant.layers import QuantLayer
from bitq.quant.static import StaticUint8
from bitq.records import explain
from bitq.run import Calibration

Batch = Tensor | tuple[Inputs, Any] | list[Any]


def calibrate(
    model: nn.Module,
    data: Iterable[Batch],
    *,
    batches: int = 8,
    activation_range: Literal["minmax", "percentile", "mse"] = "minmax",
    rounding: Literal["nearest", "adaptive"] = "nearest",
    bias_correction: bool = False,
) -> None:
    """Set the ranges of static activations on some batches, and round weights and correct biases on them if asked.

    `data` yields batches of inputs, or pairs whose first is the inputs, as a DataLoader does; the first `batches` of
    them are used. A pair's inputs may be two tensors, which the network gets as one tuple. `activation_range` chooses
    what a range spans: all, all but the tails, or what leaves the smallest squared error. `rounding="adaptive"` (for
    int2 to int8) rounds so that the outputs change least; `bias_correction` takes the mean shift of every output
    channel back.

    >>> import torch
    >>> from bitq.library.quantize import quantize
    >>> net = quantize(nn.Sequential(nn.Linear(8, 4)).eval(), "int8", activations="static")
    >>> calibrate(net, [torch.linspace(-1, 1.55, 8).expand(2, 8)])
    >>> round(net[0].activation.scale.item(), 4), net[0].activation.zero.item()   # codes 0 … 255 from -1 to 1.55
    (0.01, 100)
    """
    layers = lowbit_layers(model)
    if not layers:
        raise UsageError("this network has no quantized layer; call bitq.quantize(model, method) first.")
    if batches < 1:
        raise UsageError(f"batches={batches} was given; give 1 or more.")
    is_static = any(isinstance(layer.activation, StaticUint8) for layer in layers.values())
    if not is_static and rounding == "nearest" and not bias_correction:
        raise UsageError(
            "nothing would be calibrated: quantize with activations='static', or ask for rounding='adaptive' or "
            "bias_correction=True."
        )
    plan = _plan(
        activations="static" if is_static else "none",
        activation_range=activation_range if is_static else "minmax",
        rounding=rounding,
        bias_correction=bias_correction,
    )
    seen = [_inputs(batch) for batch in islice(data, batches)]
    if not seen:
        raise UsageError("data yields no batch; give batches of inputs, or a DataLoader.")
    _check_layers(model, layers, seen)
    calibrate_layers(model, plan, seen)


def _plan(**options: Any) -> Calibration:
    try:
        return Calibration(**options)
    except ValidationError as error:
        raise UsageError(explain(error)) from None


def _inputs(batch: Any) -> Inputs:
    inputs: Any = next(iter(batch), None) if isinstance(batch, tuple | list) else batch
    if isinstance(inputs, Tensor):
        return inputs
    found = type(inputs).__name__
    if isinstance(inputs, tuple | list):
        if len(inputs) == 2 and all(isinstance(each, Tensor) for each in inputs):
            return inputs[0], inputs[1]
        found = f"{found} of {len(inputs)}"
    raise UsageError(
        f"a batch begins with {found}; give tensors, or pairs of inputs and labels, whose inputs are a tensor or two."
    )


def _check_layers(model: nn.Module, layers: dict[str, QuantLayer], seen: list[Inputs]) -> None:
    """Refuse latents that are no weights, and layers that no input reaches."""
    for path, layer in layers.items():
        if type(layer.quantizer).latent is not Quantizer.latent:
            raise UsageError(
                f"{path} is quantized by {type(layer.quantizer).__name__}, which trains something else than the float "
                "weight; calibrate networks quantized by another method, such as int8."
            )
    with evaluating(model):
        reached = execution_order(model, layers, seen)
    if missed := [path for path in layers if path not in reached]:
        raise UsageError(f"no input reaches {missed[0]} in eval mode; keep it when you quantize: keep={missed!r}.")
