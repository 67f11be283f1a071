"""Kernels for products of uint8 codes and int8 weights, each equal to `bitq.infer.reference` bit by bit."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from bitq.infer.reference import Epilogue, Product, finished

INT16 = 2**15 - 1


class Kernel(Protocol):
    """One product, prepared: weights lie as the kernel wants them."""

    name: str

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Multiply; return fp32, or the codes of the layers that come next."""


MakeKernel = Callable[[Product], Kernel]


class OneDnnConvolution:
    """oneDNN's int8 convolution with the epilogue in the same pass."""

    name = "onednn"

    def __init__(self, product: Product) -> None:
        outputs, self.zero, self.borders = len(product.weight), product.zero, product.borders
        # A zero point that the kernel knew would cost it a correction at every call; padding the codes costs less.
        self.pads = bool(self.zero and any(self.borders))
        padding = [0, 0] if self.pads else list(product.padding)
        self.geometry = (list(product.stride), padding, list(product.dilation), product.groups)
        self.zeros = torch.zeros(outputs, dtype=torch.int32)
        ones = torch.ones(outputs)
        self.weight = torch.ops.onednn.qconv_prepack(product.weight, ones, 1.0, 0, *self.geometry, None)

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Multiply in one call."""
        codes = functional.pad(codes, self.borders, value=self.zero) if self.pads else codes
        y: Tensor = torch.ops.onednn.qconv2d_pointwise.default(
            codes, 1.0, 0, self.weight, epilogue.multiplier, self.zeros, epilogue.shift, *self.geometry,
            *_ending(epilogue),
        )  # fmt: skip
        return y


class OneDnnLinear:
    """oneDNN's int8 matrix product with the epilogue in the same pass."""

    name = "onednn"

    def __init__(self, product: Product) -> None:
        self.zeros = torch.zeros(len(product.weight), dtype=torch.int32)
        self.weight = torch.ops.onednn.qlinear_prepack(product.weight, None)

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Multiply in one call."""
        y: Tensor = torch.ops.onednn.qlinear_pointwise.default(
            codes, 1.0, 0, self.weight, epilogue.multiplier, self.zeros, epilogue.shift, *_ending(epilogue)
        )  # fmt: skip
        return y


class IntMatmul:
    """torch's int8 matrix product; codes less 128 are signed, and the epilogue is a pass of its own."""

    name = "int_mm"

    def __init__(self, product: Product) -> None:
        self.product = product
        self.weight = product.weight.t()
        self.correction = 128 * product.weight.int().sum(1, dtype=torch.int32)

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Multiply, then scale."""
        signed = codes.bitwise_xor(128).view(torch.int8)
        sums = torch._int_mm(signed.flatten(0, -2), self.weight).add_(self.correction)
        return finished(self.product, sums.view(*codes.shape[:-1], -1), epilogue)


class OneDnnHalves:
    """oneDNN's int8 product of weights in two parts of 7 bits each, whose pairs of products fit 16 bits.

    w = ⌊w/2⌋ + (w - ⌊w/2⌋), and neither part is above 64 in magnitude. Both are inputs of one product that sees every
    code twice, so that their sums meet in int32.
    """

    name = "onednn, halves"

    def __init__(self, product: Product) -> None:
        half = product.weight >> 1
        halves = replace(product, weight=torch.cat([half, product.weight - half], 1))
        self.inputs = 1 if product.is_convolution else -1
        self.kernel = (OneDnnConvolution if product.is_convolution else OneDnnLinear)(halves)

    def __call__(self, codes: Tensor, epilogue: Epilogue) -> Tensor:
        """Multiply in one call."""
        return self.kernel(torch.cat([codes, codes], self.inputs), epilogue)


def _ending(epilogue: Epilogue) -> tuple[float, int, torch.dtype, str, list[float], str]:
    """Return scale, zero point and type of the output, and what happens before, as oneDNN's operators take them."""
    dtype = torch.float32 if epilogue.zero is None else torch.uint8
    return 1.0, epilogue.zero or 0, dtype, "relu" if epilogue.relu else "none", [], ""


def exact_kernels(product: Product) -> list[MakeKernel]:
    """List the kernels whose sums are exact on this machine for these weights; none where there is none."""
    if not fits(product):
        return []
    kernel: MakeKernel = OneDnnConvolution if product.is_convolution else OneDnnLinear
    if saturates():
        exact = 2 * product.highest * largest_weight(product) <= INT16
        halves: list[MakeKernel] = [OneDnnHalves] if product.groups == 1 else []
        return [kernel] if exact else halves
    return [kernel] if product.is_convolution else [kernel, IntMatmul]


def fits(product: Product) -> bool:
    """Check that no sum leaves int32."""
    taps = product.weight[0].numel()
    return taps * product.highest * largest_weight(product) < 2**31


def largest_weight(product: Product) -> int:
    """Return the largest magnitude of a weight."""
    return int(product.weight.int().abs().max())


@cache
def saturates() -> bool:
    """Find out whether int8 products are summed in int16 in between, as without VNNI or AMX, where 255·127·2 is lost.

    Such machines are exact as long as twice the largest code times the largest weight fits 16 bits: up to 64 levels of
    either sign for codes to 255, all int8 for codes to 127.
    """
    weight = torch.full((16, 64, 1, 1), 127, dtype=torch.int8)
    codes = torch.full((1, 64, 4, 4), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = OneDnnConvolution(Product(weight))(codes, Epilogue(torch.ones(16)))
    return bool((y != 64 * 127 * 255).any())
