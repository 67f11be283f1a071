"""The published ATQ, arithmetic unchanged: ternary weights without a gradient under a mask of full-precision ones."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitq.quant.base import Codes, Quantizer, Residual, check_share, ternary_codes, where_above
from bitq.quant.sparsity import linear, sparsity_at
from bitq.quant.thresholds import kth_smallest

START_SPARSITY, UNTIL = 0.05, 0.7
FACTOR = 0.05  # of E|w|: the threshold where the quantile would be the smallest weight


class AtqLegacy(Quantizer):
    """ŵ = α·T·(1 - m) + w·m, m = the `rho` largest |w| at the start, never chosen anew; T by a quantile of |w|.

    dw = g·m: the ternary weights have no gradient, and coupled weight decay erases them. α starts at 1 and decays too.
    It is the original's "residual precision boosting" layer, with its progressive sparsity. Shipped as codes, and the
    weights of the mask as a residual in fp32 on top of a zero. `zeroed` leaves out the ternary term: for a run of
    zero epochs that starts from a trained one.

    >>> w = torch.tensor([1.0, -0.5, 0.1, -0.3, 0.2], requires_grad=True)
    >>> atq = AtqLegacy(w, rho=0.2)                     # m holds the first weight; Δ = 0.2, the second smallest size
    >>> atq(w).tolist()
    [1.0, -1.0, 0.0, -1.0, 0.0]
    >>> atq(w).sum().backward(); w.grad.tolist(), atq.alpha.grad.item()
    ([1.0, 0.0, 0.0, 0.0, 0.0], -2.0)
    """

    levels = 3
    decay_scalars = True
    of_evaluation = ("zeroed",)
    positions: Tensor

    def __init__(self, weight: Tensor, rho: float = 0.05, sparsity: float = 0.3, zeroed: bool = False) -> None:
        super().__init__(weight)
        check_share("atq_legacy rho", rho)
        check_share("atq_legacy sparsity", sparsity)
        self.rho, self.sparsity, self.zeroed = rho, sparsity, zeroed
        self.alpha = nn.Parameter(weight.new_ones(()))
        masked = weight.detach().abs().flatten().topk(int(rho * weight.numel())).indices.sort().values
        self.register_buffer("positions", masked)

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self(weight), weight.new_ones(())

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _LegacyFunction.apply(weight, self.alpha, self._signs(weight.detach()), self.positions)
        return quantized

    def codes(self, weight: Tensor) -> Codes:
        weight = weight.detach()
        codes = ternary_codes(self._signs(weight), self.alpha)
        return Codes(codes.index, codes.values, codes.scale, masked_weights(weight, self.positions))

    def latent_from_codes(self, codes: Codes) -> Tensor:
        """Take the mask from the places of the residual, and the weights outside it from the codes."""
        if codes.residual:
            self.positions.copy_(codes.residual.position)
        self.alpha.data.copy_(codes.scale)
        return codes.decode()

    def _signs(self, weight: Tensor) -> Tensor:
        """Return T outside the mask and zero in it."""
        if self.zeroed:
            return torch.zeros_like(weight)
        size = weight.abs()
        signs = weight.sign().mul_(where_above(size, self._threshold(size.flatten())))
        return signs.flatten().index_fill(0, self.positions, 0.0).view(weight.shape)

    def _threshold(self, size: Tensor) -> Tensor:
        place = int(sparsity_at(linear, START_SPARSITY, self.sparsity, UNTIL, self.progress) * len(size))
        if place == 0:
            return FACTOR * size.mean()
        if place >= len(size):
            return size.amax() + 1
        return kth_smallest(size[None], place + 1)[0, 0]  # sorted[place]

    @property
    def host_state(self) -> tuple[Any, ...]:
        return (sparsity_at(linear, START_SPARSITY, self.sparsity, UNTIL, self.progress),)

    def extra_repr(self) -> str:
        return f"rho={self.rho}, sparsity={self.sparsity}" + (", zeroed" if self.zeroed else "")


def masked_weights(weight: Tensor, positions: Tensor) -> Residual | None:
    """Keep the weights of the mask as they are."""
    if not len(positions):
        return None
    return Residual(positions, weight.flatten()[positions].float(), weight.new_ones(()))


class _LegacyFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, alpha: Tensor, signs: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(signs, positions)
        residual = masked_weights(weight, positions)
        return residual.added_to(signs * alpha) if residual else signs * alpha

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        signs, positions = ctx.saved_tensors  # type: ignore[attr-defined]
        inside = torch.zeros_like(grad).flatten().index_fill(0, positions, 1.0).view(grad.shape)
        return grad * inside, (grad * signs).sum(), None, None
