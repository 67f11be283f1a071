"""Augmentation: exact pixel moves, boxes of the promised size, torchvision's operations and constants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from bitq.data.augment import (
    OPERATIONS,
    Normalise,
    crop_and_flip,
    erase,
    erasing_boxes,
    rand_augment,
)


def pixels(count: int, size: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (count, size, size, channels), dtype=torch.uint8, generator=generator)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(4, 9), st.sampled_from([1, 3]), st.integers(0, 4), st.integers(0, 999))
def test_crop_and_flip_move_pixels_exactly(count: int, size: int, channels: int, pad: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, offsets, flip = pixels(count, size, channels), rng.integers(0, 2 * pad + 1, (2, count)), rng.random(count) < 0.5
    moved = crop_and_flip(x, torch.from_numpy(offsets), torch.from_numpy(flip), pad)
    for image, top, left, mirrored, result in zip(x.numpy(), *offsets, flip, moved.numpy(), strict=True):
        expected = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))[top : top + size, left : left + size]
        np.testing.assert_array_equal(result, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize(
    ("normalisation", "mean", "std"),
    [("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ("half", [0.5] * 3, [0.5] * 3)],
)
def test_normalisation_is_that_of_torchvision(normalisation: str, mean: list[float], std: list[float]) -> None:
    x = pixels(3, 8)
    theirs = v2.functional.normalize(v2.functional.to_dtype(x.permute(0, 3, 1, 2), scale=True), mean, std)
    torch.testing.assert_close(Normalise(normalisation, 3, 8, "cpu")(x).permute(0, 3, 1, 2), theirs, rtol=0, atol=1e-6)
    grey = Normalise(normalisation, 1, 8, "cpu")(x[..., :1])
    expected = (x[..., :1] / 255 - sum(mean) / 3) / (sum(std) / 3)
    torch.testing.assert_close(grey, expected, rtol=0, atol=1e-6)


def test_half_of_the_images_lose_a_box_of_the_promised_area_and_ratio() -> None:
    top, left, height, width = erasing_boxes(4000, 32, torch.Generator().manual_seed(1)).T
    erased = height > 0
    assert 0.46 < erased.float().mean() < 0.54
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 32).all() and (left + width <= 32).all()
    area, ratio = (height * width)[erased] / 32**2, (height / width)[erased]
    # The sides are rounded to whole pixels.
    assert 0.01 < area.min() < 0.03 and 0.31 < area.max() < 0.36
    assert 0.2 < ratio.min() < 0.35 and 3.0 < ratio.max() < 4.5
    assert abs(area.mean() - 0.175) < 0.015


def test_erasing_sets_the_box_and_nothing_else_to_zero() -> None:
    x = torch.rand(3, 8, 8, 3) + 1
    result = erase(x, torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0], [0, 7, 8, 1]]))
    expected = x.clone()
    expected[0, 1:4, 2:6] = 0
    expected[2, :, 7] = 0
    assert torch.equal(result, expected)


# torchvision's names in the order of OPERATIONS; its RandAugment at magnitude 9 of 31 bins.
NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("kind", range(len(OPERATIONS)), ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_operation_is_that_of_torchvision(kind: int, sign: int, channels: int) -> None:
    transform = v2.RandAugment(num_ops=2, magnitude=9)
    magnitudes, signed = transform._AUGMENTATION_SPACE[NAMES[kind]]
    values = magnitudes(31, 32, 32)
    magnitude = 0.0 if values is None else float(values[9]) * (sign if signed else 1)
    x = pixels(4, 32, channels).permute(0, 3, 1, 2)
    theirs = transform._apply_image_or_video_transform(
        x, NAMES[kind], magnitude, interpolation=transform.interpolation, fill=transform._fill
    )
    ours = rand_augment(x.permute(0, 2, 3, 1), torch.tensor([[kind, 0]] * 4), torch.tensor([[sign, 1]] * 4))
    assert torch.equal(ours, theirs.permute(0, 2, 3, 1))


def test_each_image_gets_its_own_operations_in_their_order() -> None:
    x = pixels(40, 16)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, len(OPERATIONS), (40, 2), generator=generator)
    signs = torch.randint(0, 2, (40, 2), generator=generator) * 2 - 1
    together = rand_augment(x, kinds, signs)
    for index in range(40):
        image = x[index : index + 1].permute(0, 3, 1, 2)
        for kind, sign in zip(kinds[index], signs[index], strict=True):
            image = OPERATIONS[kind](image, int(sign))
        assert torch.equal(together[index], image[0].permute(1, 2, 0))
