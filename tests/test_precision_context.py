"""Sixteen bits on any processor: native products where there are some, the same rounding elsewhere, never slow ones."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq import models
from bitq.precision import DTYPES, RoundedProducts, autocast, multiplies
from bitq.run import Precision

CPU = torch.device("cpu")


def gradients(context, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    model = models.drawn("resnet18", models.Geometry(classes=10, width=8), seed=1).train()
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with context:
        logits = model(x).float()
    functional.cross_entropy(logits, torch.arange(16) % 10).backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference over the norm, of all gradients together."""
    difference = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (difference / sum(float(value.square().sum()) for value in one.values())) ** 0.5


@pytest.mark.parametrize("precision", DTYPES)
def test_the_same_rounding_with_fp32_products_is_four_times_as_close_to_autocast_as_fp32(
    precision: Precision,
) -> None:
    dtype = DTYPES[precision]
    logits, exact = gradients(nullcontext(), dtype)
    native_logits, native = gradients(torch.autocast("cpu", dtype), dtype)
    rounded_logits, rounded = gradients(RoundedProducts(dtype), dtype)
    bound = 2 * torch.finfo(dtype).eps
    assert (native_logits - rounded_logits).norm() <= bound * logits.norm()
    assert distance(native, rounded) <= 0.25 * distance(exact, native)
    assert 0.8 * distance(exact, native) <= distance(exact, rounded) <= 1.2 * distance(exact, native)


def test_a_product_of_rounded_operands_is_that_of_autocast() -> None:
    layer, x = nn.Linear(64, 32), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        native = layer(x).float()
    with RoundedProducts(torch.bfloat16):
        rounded = layer(x)
    # Sums in another order may fall on the other side of one rounding.
    assert torch.allclose(native, rounded, rtol=2 * torch.finfo(torch.bfloat16).eps, atol=1e-6)


@pytest.mark.parametrize("cap", ["SSE41", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_no_slow_kernel_is_reached_where_the_processor_has_no_16_bit_products(
    cap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert isinstance(autocast("bf16", CPU), RoundedProducts)


def test_autocast_is_for_processors_and_devices_that_multiply_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert isinstance(autocast("bf16", CPU), torch.autocast)
    assert isinstance(autocast("fp16", CPU), RoundedProducts)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not multiplies(torch.bfloat16) and isinstance(autocast("bf16", CPU), RoundedProducts)
    assert isinstance(autocast("fp32", CPU), nullcontext)
