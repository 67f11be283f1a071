"""Over one pixel a kernel is one tap: what the others see is padding, and their gradient is zero."""

import pytest
import torch
from torch import Tensor, nn

from bitq.models import build
from bitq.quant.convert import convert
from bitq.quant.convolution import Conv2d


def weight_gradient(convolution: type[nn.Conv2d], dtype: torch.dtype) -> Tensor:
    """With a heap full of large numbers, so that a gradient that nobody wrote shows."""
    torch.manual_seed(0)
    layer = convolution(32, 64, 3, stride=2, padding=1, bias=False)
    x = torch.randn(32, 32, 1, 1)
    junk = [torch.full((size,), 1e28) for size in (64 * 32 * 9, 64 * 32 * 16, 300_000) * 3]
    del junk
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_taps_that_see_only_padding_get_no_gradient(dtype: torch.dtype) -> None:
    for _ in range(10):
        gradient = weight_gradient(Conv2d, dtype)
        assert gradient[:, :, 1, 1].abs().min() > 0
        gradient[:, :, 1, 1] = 0
        assert not gradient.any()


def test_it_computes_what_torch_computes() -> None:
    torch.testing.assert_close(weight_gradient(Conv2d, torch.float32), weight_gradient(nn.Conv2d, torch.float32))


@pytest.mark.parametrize("method", ["fp32", "bitnet"])
def test_every_convolution_of_a_network_is_guarded(method: str) -> None:
    model = convert(build("resnet18", 3, width=8), method)
    assert all(isinstance(layer, Conv2d) for layer in model.modules() if isinstance(layer, nn.Conv2d))
