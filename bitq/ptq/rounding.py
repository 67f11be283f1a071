"""Round a layer's weights so that its outputs change least (GPTQ).

Frantar et al. 2023 (GPTQ), after Hassibi and Stork's optimal brain surgeon: the weights are rounded one input after the
other, and what the outputs lose by it is given to the weights that are still to come. With the Gram matrix H of the
inputs, the squared error of the outputs is tr(ΔHΔᵀ), and the factor U of H⁻¹ = UᵀU says how much each of them takes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from bitq.quant.integer import Integer
from bitq.quant.layers import QuantConv1d, QuantConv2d, QuantLayer

DAMPING = 0.01  # of the mean square input, added to all: inputs that are always zero have no say
BLOCK = 128  # columns whose errors are passed on together


def gram_of(layer: QuantLayer, inputs: Iterable[Tensor]) -> Tensor:
    """Sum x·xᵀ over all positions of all inputs, (groups, inputs of a group, the same)."""
    total: Tensor | None = None
    for batch in inputs:
        rows = _rows(layer, batch)
        gram = rows.transpose(1, 2) @ rows
        total = gram if total is None else total + gram
    assert total is not None
    return total


def _rows(layer: QuantLayer, x: Tensor) -> Tensor:
    """Unfold the layer's inputs to the rows that its weight multiplies, (groups, rows, inputs of a group)."""
    if not isinstance(layer, QuantConv1d | QuantConv2d):
        return x.reshape(1, -1, x.shape[-1])
    padding = layer.padding if isinstance(layer.padding, tuple) else (0,) * len(layer.kernel_size)
    sizes = (layer.kernel_size, layer.dilation, padding, layer.stride)
    if isinstance(layer, QuantConv1d):  # as an image of height one
        patches = functional.unfold(
            x[:, :, None], *((fill, *size) for fill, size in zip((1, 1, 0, 1), sizes, strict=True))
        )
    else:
        patches = functional.unfold(x, *sizes)
    images, columns, positions = patches.shape
    groups = patches.reshape(images, layer.groups, columns // layer.groups, positions)
    return groups.permute(1, 0, 3, 2).reshape(layer.groups, images * positions, -1)


def round_layer(layer: QuantLayer, gram: Tensor) -> None:
    """Round the layer's weights in place to the codes that change its outputs least."""
    quantizer = layer.quantizer
    assert isinstance(quantizer, Integer)
    groups, columns = gram.shape[:2]
    weight = layer.weight.detach().float().reshape(groups, -1, columns)
    step = quantizer.step.expand(len(layer.weight), *quantizer.step.shape[1:]).reshape(groups, -1, 1)
    codes = round_columns(weight, gram, step, quantizer.lowest, quantizer.highest)
    layer.weight.data.copy_((codes * step).reshape(layer.weight.shape))


def round_columns(weight: Tensor, gram: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
    """Round weights of (groups, outputs, inputs) to codes, column by column.

    With inputs that know nothing of each other it is rounding to the nearest:

    >>> weight = torch.tensor([[[0.4, 0.6]]])
    >>> round_columns(weight, torch.eye(2)[None], torch.ones(1, 1, 1), -2, 1).tolist()
    [[[0.0, 1.0]]]
    >>> alike = torch.ones(1, 2, 2) + 0.1 * torch.eye(2)   # both inputs are nearly the same: only the sum, 0.8, matters
    >>> round_columns(torch.tensor([[[0.4, 0.4]]]), alike, torch.ones(1, 1, 1), -2, 1).sum().item()
    1.0
    """
    weight, codes = weight.clone(), torch.empty_like(weight)
    factor = _factor(gram)
    for start in range(0, weight.shape[2], BLOCK):
        end = min(start + BLOCK, weight.shape[2])
        errors = torch.empty_like(weight[..., start:end])
        for column in range(start, end):
            now = weight[..., column : column + 1]
            code = (now / step).round().clamp(lowest, highest)
            error = (now - code * step) / factor[:, column, column, None, None]
            weight[..., column:end] -= error * factor[:, column, None, column:end]
            codes[..., column : column + 1], errors[..., column - start : column - start + 1] = code, error
        weight[..., end:] -= errors @ factor[:, start:end, end:]
    return codes


def _factor(gram: Tensor) -> Tensor:
    """Factor (H + damping)⁻¹ = Uᵀ·U with U upper triangular."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    damping = DAMPING * diagonal.mean(1).clamp(min=1e-8)
    damped = gram + torch.diag_embed(damping[:, None].expand_as(diagonal))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
