"""Pack a sparse residual into bytes: the gaps between its positions, and its values in int8 or fp32."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bitq.errors import DataError
from bitq.quant.base import Residual

RESIDUAL = ("residual_gaps", "residual_values", "residual_scale")
FAR = 255  # a gap byte that only skips positions


def pack_residual(residual: Residual) -> dict[str, Tensor]:
    """Pack a residual into the three tensors that ship.

    A position is stored as its distance to the end of the one before; a distance of 255 or more as 255s and the rest.

    >>> far = Residual(torch.tensor([3, 4, 300]), torch.tensor([1, -2, 3], dtype=torch.int8), torch.tensor(0.5))
    >>> pack_residual(far)["residual_gaps"].tolist()   # 3 to the first, 0 to the next, 295 = 255 + 40 to the last
    [3, 0, 255, 40]
    """
    before = torch.cat([residual.position.new_tensor([-1]), residual.position[:-1]])
    gaps = residual.position - before - 1
    count = gaps // FAR + 1  # bytes of each
    packed = torch.full((int(count.sum()),), FAR, dtype=torch.uint8, device=gaps.device)
    packed[count.cumsum(0) - 1] = (gaps % FAR).to(torch.uint8)
    return dict(zip(RESIDUAL, (packed, residual.value, residual.scale), strict=True))


def unpack_residual(parts: Mapping[str, Tensor], weights: int) -> Residual:
    """Unpack the residual of a tensor of `weights` weights; bytes that `pack_residual` never writes are a data error.

    >>> far = Residual(torch.tensor([3, 4, 300]), torch.tensor([1, -2, 3], dtype=torch.int8), torch.tensor(0.5))
    >>> unpack_residual(pack_residual(far), weights=301).position.tolist()
    [3, 4, 300]
    """
    gaps, values, scale = (parts[name] for name in RESIDUAL)
    steps = gaps.long() + (gaps < FAR)  # a byte below 255 lands on a position
    position = (steps.cumsum(0) - 1)[gaps < FAR]
    residual = Residual(position, values, scale)
    if not is_valid(residual, weights) or int(gaps[-1]) == FAR:
        raise DataError(f"the residual does not say where its {len(values)} values lie among {weights} weights")
    return residual


def is_valid(residual: Residual, weights: int) -> bool:
    """Check that the positions ascend within the tensor, one for each value, and that values are int8 or fp32."""
    position, value, scale = residual.position, residual.value, residual.scale
    shaped = position.dim() == 1 and len(position) > 0 and value.shape == position.shape and scale.shape == ()
    typed = value.dtype in (torch.int8, torch.float32) and scale.dtype == torch.float32
    if not shaped or not typed:
        return False
    return bool((position.diff() > 0).all()) and 0 <= int(position[0]) <= int(position[-1]) < weights
