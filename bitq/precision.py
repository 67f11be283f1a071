"""Training in 16 bits: autocast where the processor multiplies such numbers, the same rounding in fp32 where not."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bitq.run import Precision

DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
# oneDNN's names of the instruction sets with 16-bit products; ONEDNN_MAX_CPU_ISA may forbid them.
WITH_BF16 = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "DEFAULT", "ALL", "")
PRODUCTS = {functional.conv2d, functional.linear, torch.matmul, torch.bmm}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network of this precision computes."""
    if precision == "fp32":
        return nullcontext()
    dtype = DTYPES[precision]
    if device.type != "cpu" or multiplies(dtype):
        return torch.autocast(device.type, dtype=dtype)
    return RoundedProducts(dtype)


def multiplies(dtype: torch.dtype) -> bool:
    """Tell whether this CPU has instructions for products of a 16-bit type: without them torch is nine times slower.

    No kernel of torch's for fp16 is fast on a CPU, whatever its instructions.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITH_BF16
    return dtype == torch.bfloat16 and allowed and torch.cpu._is_avx512_bf16_supported()


class RoundedProducts(TorchFunctionMode):
    """Round operands, results and gradients of every product to 16 bits, and multiply in fp32.

    A product of two such numbers is exact in fp32, and its sums are kept in fp32 as processors with 16-bit products
    keep them; what lies between the products stays in fp32, which autocast rounds too, and so do the gradients of a
    product that differentiates itself (bitq.quant.product).

    >>> x = torch.tensor([[1.0, 1 / 3]])
    >>> with RoundedProducts(torch.bfloat16):
    ...     y = functional.linear(x, torch.eye(2))
    >>> y.tolist() == x.bfloat16().float().tolist(), y.dtype
    (True, torch.float32)
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, with rounded tensors if it multiplies."""
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        rounded = [_Round.apply(value, self.dtype) if isinstance(value, Tensor) else value for value in args]
        return _Round.apply(func(*rounded, **(kwargs or {})), self.dtype)


class _Round(torch.autograd.Function):
    """Round to a 16-bit type and back; the gradient is rounded too."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtype = dtype  # type: ignore[attr-defined]
        return value.to(dtype).float()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype).float(), None  # type: ignore[attr-defined]
