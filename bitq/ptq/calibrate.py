"""What a few training images decide about a trained network, in the order in which one thing needs the other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.deploy.evaluate import full_precision, inference
from bitq.deploy.export import lowbit_layers
from bitq.errors import UsageError
from bitq.ptq.ranges import use_observed_ranges
from bitq.ptq.rounding import gram_of, round_layer
from bitq.ptq.watch import execution_order, in_full_precision, inputs_of, mean_outputs
from bitq.quant.integer import Integer
from bitq.quant.layers import QuantEmbedding, QuantLayer
from bitq.run import Calibration


@torch.no_grad()
def calibrate(model: nn.Module, plan: Calibration, images: Sequence[Inputs]) -> None:
    """Set the ranges of the activations, then round weights and correct biases layer by layer, as data reaches them."""
    layers = lowbit_layers(model)
    validate_calibration(plan, layers)
    with inference(model), full_precision():
        if plan.activations == "static":
            use_observed_ranges(model, layers, plan.activation_range, images)
        if plan.rounding == "adaptive" or plan.bias_correction:
            adjust(model, plan, layers, images)


def validate_calibration(plan: Calibration, layers: dict[str, QuantLayer]) -> None:
    """Reject a calibration that would silently do nothing."""
    asked = plan.activations != "none" or plan.rounding == "adaptive" or plan.bias_correction
    if asked and not layers:
        raise UsageError("activations, rounding and biases are calibrated for quantized layers, but none is quantized.")
    for name, layer in layers.items():
        if plan.rounding == "adaptive" and not isinstance(layer.quantizer, Integer):
            raise UsageError(
                f"rounding=adaptive chooses among the codes of uniform integers, but {name} is quantized by "
                f"{type(layer.quantizer).__name__}; allowed methods: int2 to int8."
            )
        if plan.rounding == "adaptive" and isinstance(layer, QuantEmbedding):
            raise UsageError(
                f"rounding=adaptive is for products, and {name} only looks words up; keep it: keep {name}."
            )
        if plan.bias_correction and getattr(layer, "bias", None) is None:
            raise UsageError(
                f"bias_correction changes biases, but {name} has none; with fold=true a convolution takes over that "
                "of the normalisation behind it."
            )


def adjust(model: nn.Module, plan: Calibration, layers: dict[str, QuantLayer], images: Sequence[Inputs]) -> None:
    """Adjust each layer on the inputs that it gets from the quantized layers before it."""
    with in_full_precision(layers):
        wanted = mean_outputs(model, layers, images)
    for name in execution_order(model, layers, images):
        layer = layers[name]
        if plan.rounding == "adaptive":
            round_layer(layer, gram_of(layer, inputs_of(model, layer, images)))
        if plan.bias_correction:
            found = mean_outputs(model, {name: layer}, images)[name]
            bias: Tensor = layer.bias  # type: ignore[assignment]
            bias.add_((wanted[name] - found).to(bias.dtype))
