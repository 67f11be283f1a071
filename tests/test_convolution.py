"""Convolutions over one pixel: the kernel acts as one tap, the others see padding, and their gradient is zero."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from bitq.models import build
from bitq.models.convolution import Conv2d
from bitq.quant.convert import convert


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


STRIDED = """
import torch
from bitq.models.convolution import Conv2d
for _ in range(30):
    layer = Conv2d(4, 8, 1, stride=2, bias=False)
    layer(torch.randn(8, 4, 64, 64).to(memory_format=torch.channels_last)).sum().backward()
    freed = [torch.empty(size) for size in range(1, 4000, 37)]
"""


def test_the_gradient_of_a_strided_tap_stays_within_its_memory() -> None:
    """glibc aborts where a block of memory ends otherwise than it left it."""
    checked = os.environ | {"MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", STRIDED], env=checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [7, 8])
def test_a_strided_tap_computes_what_torch_computes(size: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 5, 1, stride=(2, 3), bias=True), torch.randn(2, 3, size, size)
    expected = layer(x)
    layer.__class__ = Conv2d
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("method", ["fp32", "bitnet"])
def test_every_convolution_of_a_network_is_guarded(method: str) -> None:
    model = convert(build("resnet18", 3, width=8), method)
    assert all(isinstance(layer, Conv2d) for layer in model.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("method", ["bitnet", "ttq", "lsq"])
def test_a_convolution_over_a_sequence_is_one_over_an_image_of_height_one(method: str) -> None:
    torch.manual_seed(0)
    flat, tall = nn.Conv1d(4, 6, 3, padding=1, groups=2), nn.Conv2d(4, 6, (1, 3), padding=(0, 1), groups=2)
    tall.load_state_dict({"weight": flat.weight.detach()[:, :, None], "bias": flat.bias})
    one, two = convert(nn.Sequential(flat), method), convert(nn.Sequential(tall), method)
    x = torch.randn(5, 4, 9)
    for value in (one(x), two(x[:, :, None])[:, :, 0]):
        value.square().sum().backward()
    torch.testing.assert_close(one(x), two(x[:, :, None])[:, :, 0])
    torch.testing.assert_close(flat.weight.grad, tall.weight.grad[:, :, 0])
