"""One share of zeros for the whole network, divided among its layers by what zeros cost each."""

from itertools import islice

import torch
from torch import Tensor

from bitq.errors import UsageError
from bitq.precision import autocast
from bitq.quant.atq import Atq
from bitq.quant.convert import quantized_layers
from bitq.quant.layers import QuantLayer
from bitq.quant.thresholds import floor_count, smallest
from bitq.train.loop import Training, hard_loss

BATCHES = 4  # of the first epoch, for the gradients
NEVER_ZERO = 0.05  # of each layer, its most sensitive weights: no layer is lost


def allocate_sparsity(training: Training) -> None:
    """Give each layer its share of zeros where the method has a budget for the whole network."""
    groups: dict[float, list[tuple[QuantLayer, Atq]]] = {}  # settings below a glob may be budgets of their own
    for layer in quantized_layers(training.model).values():
        if isinstance(layer.quantizer, Atq) and layer.quantizer.budget is not None:
            groups.setdefault(layer.quantizer.budget, []).append((layer, layer.quantizer))
    for budget, group in groups.items():
        counts = zeros_of(sensitivities(training, [layer.weight for layer, _ in group]), budget)
        for (layer, quantizer), zeros in zip(group, counts, strict=True):
            quantizer.share.fill_(zeros / layer.weight.numel())


def sensitivities(training: Training, weights: list[Tensor]) -> list[Tensor]:
    """Compute |g·w| of every weight: to first order, the change of the loss on the labels when it becomes zero."""
    total = [torch.zeros_like(weight) for weight in weights]
    training.model.eval()  # no statistic moves, no dropout draws
    for batch in islice(training.batches.epoch(0), BATCHES):
        with autocast(training.run.precision, training.machine.device):
            logits = training.model(batch.x).float()
        loss = hard_loss(training.run, logits, batch)
        for part, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            part += gradient
    return [(gradient * weight.detach()).abs() for gradient, weight in zip(total, weights, strict=True)]


def zeros_of(sensitivity: list[Tensor], budget: float) -> list[int]:
    """Return how many zeros each layer gets so that together they meet the budget and cost least.

    >>> zeros_of([torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 20.0, 30.0, 40.0])], 0.5)
    [3, 1]
    """
    rows = [layer.flatten().double() for layer in sensitivity]
    for row in rows:
        row[row.topk(max(floor_count(NEVER_ZERO, len(row)), 1)).indices] = torch.inf
    everything = torch.cat(rows).view(1, -1)
    zeros, most = floor_count(budget, everything.shape[1]), int(everything.isfinite().sum())
    if zeros > most:
        raise UsageError(
            f"budget={budget} was given, but {NEVER_ZERO:.0%} of the weights of each layer are never zero; allowed: at "
            f"most {most / everything.shape[1]:.3f} here, for example budget=0.5."
        )
    chosen = smallest(everything, zeros)[0]
    return [int(part.sum()) for part in torch.split(chosen, [len(row) for row in rows])]
