"""Pack codes into bytes: five trits a byte for three levels, little-endian b-bit numbers for any other count."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bitq.errors import Bug, DataError, UsageError, one_of

# b-bit streams, and base 3: 3⁵ = 243 of a byte's 256 values hold five trits, 1.6 bits a weight.
BITS = {f"b{bits}": bits for bits in range(1, 9)}
PACKINGS = ("base3", *BITS)
TRITS = 5
TRIT_BYTES = 3**TRITS


def default_packing(levels: int) -> str:
    """Choose the densest packing of this many levels.

    >>> [default_packing(levels) for levels in (2, 3, 4, 5, 256)]
    ['b1', 'base3', 'b2', 'b3', 'b8']
    """
    return "base3" if levels == 3 else f"b{max(1, (levels - 1).bit_length())}"


def packed_bytes(count: int, levels: int, packing: str | None = None) -> int:
    """Compute the length of `count` packed codes.

    >>> [packed_bytes(11, 3, packing) for packing in ("base3", "b2", "b8")]
    [3, 3, 11]
    """
    packing = checked_packing(levels, packing)
    return math.ceil(count / TRITS) if packing == "base3" else math.ceil(count * BITS[packing] / 8)


def checked_packing(levels: int, packing: str | None) -> str:
    """Return `packing`, or the default one, if it can hold `levels` levels."""
    packing = packing or default_packing(levels)
    if packing not in PACKINGS:
        raise one_of("packing", packing, PACKINGS)
    if levels > levels_of(packing):
        use = default_packing(levels)
        raise UsageError(f"packing {packing!r} holds {levels_of(packing)} levels, not {levels}; use {use!r}.")
    return packing


def levels_of(packing: str) -> int:
    """Return how many levels a packing can hold; 0 if there is no such packing."""
    return 3 if packing == "base3" else 2 ** BITS[packing] if packing in BITS else 0


def pack(index: Tensor, levels: int, packing: str | None = None) -> Tensor:
    """Pack codes of any shape into a flat uint8 tensor.

    >>> pack(torch.tensor([0, 1, 2, 2, 1, 0], dtype=torch.uint8), levels=3).tolist()   # 0 + 1·3 + 2·9 + 2·27 + 1·81
    [156, 0]
    >>> pack(torch.tensor([0, 1, 2, 2, 1, 0], dtype=torch.uint8), levels=3, packing="b2").tolist()
    [164, 1]
    """
    packing = checked_packing(levels, packing)
    codes = index.detach().reshape(-1)
    if codes.dtype != torch.uint8 or _largest(codes) >= levels:
        raise Bug(f"codes must be uint8 and below {levels}, not {codes.dtype} up to {_largest(codes)}.")
    packed = _pack_trits(codes) if packing == "base3" else _pack_bits(codes, BITS[packing])
    return packed[: packed_bytes(codes.numel(), levels, packing)]


def unpack(packed: Tensor, shape: Sequence[int], levels: int, packing: str | None = None) -> Tensor:
    """Unpack codes; bytes that no `pack` call writes are a data error."""
    packing = checked_packing(levels, packing)
    count = math.prod(shape)
    expected = packed_bytes(count, levels, packing)
    if packed.dtype != torch.uint8 or packed.shape != (expected,):
        found = f"{tuple(packed.shape)} {packed.dtype}"
        raise DataError(f"{count} codes of {levels} levels in {packing} take {expected} uint8 bytes, not {found}.")
    codes = _unpack_trits(packed) if packing == "base3" else _unpack_bits(packed, BITS[packing])
    if _largest(codes) >= levels or _largest(codes[count:]) > 0:
        raise DataError(f"the packed codes hold values outside their {levels} levels.")
    return codes[:count].reshape(tuple(shape))


def _largest(codes: Tensor) -> int:
    return int(codes.max()) if codes.numel() else 0


def _rows(flat: Tensor, width: int) -> Tensor:
    """Reshape to rows of `width`, the last one filled up with zeros."""
    return torch.nn.functional.pad(flat, (0, -flat.numel() % width)).reshape(-1, width)


def _pack_trits(codes: Tensor) -> Tensor:
    trits = _rows(codes, TRITS)
    packed = trits[:, -1].clone()
    for place in reversed(range(TRITS - 1)):
        packed.mul_(3).add_(trits[:, place])
    return packed


def _unpack_trits(packed: Tensor) -> Tensor:
    if _largest(packed) >= TRIT_BYTES:
        raise DataError(f"a byte of base-3 codes is at most {TRIT_BYTES - 1}, not {_largest(packed)}.")
    places = 3 ** torch.arange(TRITS, device=packed.device)
    table = (torch.arange(TRIT_BYTES, device=packed.device)[:, None] // places % 3).to(torch.uint8)
    return table[packed.int()].reshape(-1)


def _pack_bits(codes: Tensor, bits: int) -> Tensor:
    # Eight codes fill `bits` whole bytes: assemble them in the low end of a 64-bit word.
    rows = _rows(codes, 8)
    words = torch.zeros(len(rows), dtype=torch.int64, device=codes.device)
    for place in range(8):
        words |= rows[:, place].long() << bits * place
    return words.view(torch.uint8).reshape(-1, 8)[:, :bits].reshape(-1)


def _unpack_bits(packed: Tensor, bits: int) -> Tensor:
    rows = torch.nn.functional.pad(_rows(packed, bits), (0, 8 - bits))
    words = rows.view(torch.int64).reshape(-1)
    codes = torch.empty(len(words), 8, dtype=torch.uint8, device=packed.device)
    for place in range(8):
        codes[:, place] = (words >> bits * place) & (2**bits - 1)
    return codes.reshape(-1)
