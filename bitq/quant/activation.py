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
        peak = peak_over(self.dims, x.detach())
        codes: Tensor = _RoundToInt8.apply(x, peak)
        return codes, peak / 127

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (codes, step) without a gradient; the codes are the caller's to overwrite."""
        peak = peak_over(self.dims, x)
        return rounded_to_int8(x, peak), peak / 127


def peak_over(dims: tuple[int, ...], x: Tensor) -> Tensor:
    """Return max|x| over `dims` in fp32, at least 1e-5."""
    # Two reductions read x twice; |x| would have to be written too, which takes twice as long as both.
    largest, smallest = x.amax(dims, keepdim=True), x.amin(dims, keepdim=True)
    return torch.maximum(largest, -smallest).float().clamp_(min=1e-5)


def rounded_to_int8(x: Tensor, peak: Tensor) -> Tensor:
    """Return round(x·127/peak) in the dtype of the product; as no |x| exceeds the peak, no code needs a clamp."""
    return (x.float() * (127 / peak)).round_().to(compute_dtype(x))


class _RoundToInt8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, peak: Tensor) -> Tensor:
        ctx.save_for_backward(peak)
        ctx.dtype = x.dtype  # type: ignore[attr-defined]
        return rounded_to_int8(x, peak)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (peak,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grad * (127 / peak).to(grad.dtype)).to(ctx.dtype), None  # type: ignore[attr-defined]


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a product of this input is computed."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
