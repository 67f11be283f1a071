"""Eight-bit activations: one scale per sample (per token for linear layers), codes that really are integers."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class Int8Activation(nn.Module):
    """(codes, step) with x ≈ codes·step, codes = clamp(round(x·127/peak), -128, 127), gradient passed straight through.

    The peak max|x| is taken over `dims`, one per sample for images. Codes come in the dtype that the convolution
    computes in; bf16 holds every integer up to 256 exactly. Scale and code are computed in fp32 whatever comes in.

    >>> x = torch.tensor([[1.27, -0.5], [254.0, 3.0]], requires_grad=True)
    >>> codes, step = Int8Activation(dims=(1,))(x)
    >>> codes.tolist(), [round(s, 4) for s in step.flatten().tolist()]
    ([[127.0, -50.0], [127.0, 2.0]], [0.01, 2.0])
    >>> (codes * step).sum().backward(); x.grad.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """

    bias_is_scaled = False

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        peak = x.detach().abs().amax(self.dims, keepdim=True).float().clamp(min=1e-5)
        codes: Tensor = _RoundToInt8.apply(x, 127 / peak)
        return codes, peak / 127


class _RoundToInt8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.dtype = x.dtype  # type: ignore[attr-defined]
        codes = (x.float() * inverse).round_().clamp_(-128, 127)
        return codes.to(compute_dtype(x))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * inverse.to(grad.dtype)).to(ctx.dtype), None  # type: ignore[attr-defined]


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a product of this input is computed."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
