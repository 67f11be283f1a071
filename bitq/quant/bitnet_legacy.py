"""The published BitNet-in-ResNet code, arithmetic unchanged, so that its difference from `bitnet` can be measured."""

import torch
from torch import Tensor

from bitq.quant.base import Codes, Quantizer, straight_through, ternary_codes

EPS = 1e-5  # the original adds it to the divisor, not to the scale


class BitnetLegacy(Quantizer):
    """ŵ = β·T as in `bitnet`, but dT/dw = 1 and β stays in the graph: dŵ/dw = β·I + T·sign(w)ᵀ/n.

    >>> w = torch.tensor([1.5, -0.25, 0.25, -2.0], requires_grad=True)   # β = 1, n = 4
    >>> w_hat = BitnetLegacy(w)(w)
    >>> w_hat.tolist()
    [1.0, 0.0, 0.0, -1.0]
    >>> w_hat.backward(torch.tensor([4.0, 0.0, 0.0, 0.0])); w.grad.tolist()   # 4·β on itself, +4·T₀·sign(w)/4 on all
    [5.0, -1.0, 1.0, -1.0]
    """

    levels = 3

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.abs().mean()
        return straight_through(_signs(weight, scale), weight), scale

    def codes(self, weight: Tensor) -> Codes:
        scale = weight.detach().abs().mean()
        return ternary_codes(_signs(weight, scale), scale)


def _signs(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / (scale + EPS)).round().clamp(-1, 1).detach()


class NormScaledActivation(torch.nn.Module):
    """What the original does to a layer's input: normalise each sample, scale its peak to 128, clamp. It never rounds.

    Returns (codes, step) with x ≈ codes·step. Codes are not integers: these activations are not 8-bit.

    >>> codes, step = NormScaledActivation(dims=(1,))(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    >>> [round(c, 2) for c in codes[0].tolist()]
    [-128.0, -42.67, 42.67, 128.0]
    """

    bias_is_scaled = True  # y = (conv(codes, T) + b)·step·β: the original's bias is shrunk about a thousandfold

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.nn.functional.layer_norm(x, x.shape[1:])
        peak = x.abs().amax(dim=tuple(range(1, x.dim())), keepdim=True).clamp(min=EPS)
        return (x * (128 / peak)).clamp(-128 + EPS, 128 - EPS), peak / 128
