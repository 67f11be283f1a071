"""Packing: every code comes back, every foreign byte is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitq.deploy.pack import PACKINGS, default_packing, pack, packed_bytes, unpack
from bitq.errors import Bug, DataError, UsageError

ROOM = {"base3": 3, **{f"b{bits}": 2**bits for bits in range(1, 9)}}


def random_codes(count: int, levels: int, seed: int = 0) -> Tensor:
    return torch.randint(levels, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("packing", PACKINGS)
@given(count=st.integers(0, 200), levels=st.integers(2, 256), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_codes_survive_the_round_trip(packing: str, count: int, levels: int, seed: int) -> None:
    levels = min(levels, ROOM[packing])
    codes = random_codes(count, levels, seed)
    packed = pack(codes, levels, packing)
    assert packed.dtype == torch.uint8 and packed.shape == (packed_bytes(count, levels, packing),)
    assert torch.equal(unpack(packed, codes.shape, levels, packing), codes)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (5, 3, 3, 3), (0, 4)])
def test_shapes_come_back_and_layout_does_not_matter(shape: tuple[int, ...]) -> None:
    codes = random_codes(torch.Size(shape).numel(), 3).reshape(shape)
    strided = codes.to(memory_format=torch.channels_last) if len(shape) == 4 else codes
    assert torch.equal(unpack(pack(strided, 3), shape, 3), codes)


def test_bit_layout_is_the_documented_one() -> None:
    codes = random_codes(23, 4)
    packed = pack(codes, 4, "b2").tolist()
    assert [packed[i // 4] >> 2 * (i % 4) & 3 for i in range(23)] == codes.tolist()
    trits = random_codes(23, 3)
    assert [pack(trits, 3).tolist()[i // 5] // 3 ** (i % 5) % 3 for i in range(23)] == trits.tolist()


@given(signs=st.lists(st.sampled_from([-1, 0, 1]), max_size=40))
def test_two_bit_codes_are_those_of_the_published_atq(signs: list[int]) -> None:
    """Its code of a sign is t + 1; element i lies at bits 2·(i mod 4) of byte i // 4, and a last byte ends in zeros."""
    theirs = [0] * -(-len(signs) // 4)
    for place, sign in enumerate(signs):
        theirs[place // 4] |= (sign + 1) << 2 * (place % 4)
    packed = torch.tensor(theirs, dtype=torch.uint8)
    assert (unpack(packed, (len(signs),), 3, "b2").int() - 1).tolist() == signs
    assert torch.equal(pack(torch.tensor(signs, dtype=torch.int8).add(1).to(torch.uint8), 3, "b2"), packed)


def test_three_levels_take_a_byte_for_five_weights() -> None:
    assert default_packing(3) == "base3"
    assert [packed_bytes(count, 3) for count in (0, 4, 5, 6)] == [0, 1, 1, 2]


def test_unpacking_works_in_the_middle_of_a_buffer() -> None:
    codes = random_codes(31, 256)
    inside = torch.cat([torch.zeros(3, dtype=torch.uint8), pack(codes, 256)])[3:]
    assert torch.equal(unpack(inside, (31,), 256), codes)


@pytest.mark.parametrize("byte", range(243, 256))
def test_bytes_that_are_no_five_trits_are_refused(byte: int) -> None:
    with pytest.raises(DataError, match=f"at most 242, not {byte}"):
        unpack(torch.tensor([121, byte], dtype=torch.uint8), (10,), 3)


@pytest.mark.parametrize(
    ("packed", "count", "levels", "packing"),
    [
        ([0b11], 4, 3, "b2"),  # code 3 of levels 0, 1, 2
        ([0b0100_0000], 3, 4, "b2"),  # a fourth code behind three
        ([2], 1, 2, "base3"),
        ([3], 1, 3, "base3"),  # a second trit behind one
        ([0, 0b1000], 1, 5, "b3"),  # a byte too many
        ([], 1, 3, "base3"),
    ],
)
def test_foreign_codes_are_refused(packed: list[int], count: int, levels: int, packing: str) -> None:
    with pytest.raises(DataError):
        unpack(torch.tensor(packed, dtype=torch.uint8), (count,), levels, packing)


def test_too_small_and_unknown_packings_name_the_remedy() -> None:
    with pytest.raises(UsageError, match="holds 2 levels, not 3; use 'base3'"):
        pack(random_codes(4, 3), 3, "b1")
    with pytest.raises(UsageError, match="unknown packing 'base2'.*Did you mean 'base3'"):
        pack(random_codes(4, 3), 3, "base2")


def test_codes_outside_their_levels_never_reach_a_file() -> None:
    with pytest.raises(Bug, match="below 3"):
        pack(torch.tensor([0, 3], dtype=torch.uint8), 3)
    with pytest.raises(Bug, match="uint8"):
        pack(torch.tensor([0, -1]), 3)
