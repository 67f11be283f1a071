"""One share of zeros for the whole network, dealt out among its layers by what zeros would cost each."""

from itertools import islice

import torch
from torch import Tensor

from bitq.quant.atq import Atq
from bitq.quant.convert import quantized_layers
from bitq.quant.layers import QuantLayer
from bitq.quant.thresholds import smallest, whole
from bitq.train.loop import Training, forward

BATCHES = 4  # of the first epoch, for the gradients
NEVER_ZERO = 0.05  # of each layer, its most sensitive weights: no layer is lost


def deal_budget(training: Training) -> None:
    """Give each layer its share of zeros; nothing happens to networks without a budget."""
    layers = {name: layer for name, layer in quantized_layers(training.model).items() if has_budget(layer)}
    if not layers:
        return
    budgets = {layer.quantizer.budget for layer in layers.values()}
    for budget in sorted(budgets):  # settings below a glob may give groups of layers budgets of their own
        group = [layer for layer in layers.values() if layer.quantizer.budget == budget]
        counts = zeros_of(sensitivities(training, group), budget)
        for layer, zeros in zip(group, counts, strict=True):
            layer.quantizer.share.fill_(zeros / layer.weight.numel())


def has_budget(layer: QuantLayer) -> bool:
    """Is its share of zeros still to be decided?"""
    return isinstance(layer.quantizer, Atq) and layer.quantizer.budget is not None


def sensitivities(training: Training, layers: list[QuantLayer]) -> list[Tensor]:
    """|g·w| of every weight: by how much, to first order, the loss changes when it becomes zero."""
    weights = [layer.weight for layer in layers]
    total = [torch.zeros_like(weight) for weight in weights]
    training.model.eval()  # no statistic moves, no dropout draws
    for batch in islice(training.batches.epoch(0), BATCHES):
        loss, _ = forward(training, training.model, batch)
        for part, gradient in zip(total, torch.autograd.grad(loss.total, weights), strict=True):
            part += gradient
    return [(gradient * weight.detach()).abs() for gradient, weight in zip(total, weights, strict=True)]


def zeros_of(sensitivity: list[Tensor], budget: float) -> list[int]:
    """How many zeros each layer gets so that together they are the budget and cost least.

    >>> zeros_of([torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 20.0, 30.0, 40.0])], 0.5)
    [3, 1]
    """
    rows = [layer.flatten().double() for layer in sensitivity]
    for row in rows:
        row[row.topk(max(whole(NEVER_ZERO, len(row)), 1)).indices] = torch.inf
    everything = torch.cat(rows).view(1, -1)
    chosen = smallest(everything, whole(budget, everything.shape[1]))[0]
    return [int(part.sum()) for part in chosen.split([len(row) for row in rows])]
