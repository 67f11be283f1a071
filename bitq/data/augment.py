"""Augment whole batches on the device; random choices and generators are arguments, so nothing here draws by itself.

Images are uint8, (B, H, W, C), until `Normalise` makes them float32.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of red, green, blue
NORMALISATIONS = {
    "imagenet": IMAGENET,
    "half": ((0.5,) * 3, (0.5,) * 3),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "fashion_mnist": ((0.2860,) * 3, (0.3530,) * 3),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
}

ERASE_SHARE = 0.5  # of the images
ERASE_AREA = (0.02, 0.33)  # of an image
ERASE_RATIO = (0.3, 3.3)  # height to width
ERASE_ATTEMPTS = 10  # to find a box that fits

ROUNDS = 2  # RandAugment's operations per image
MAGNITUDE, BINS = 9, 31  # RandAugment's strength, in steps from none to full


class Normalise:
    """Map uint8 to float32 by (x / 255 - mean) / std; a grey image takes the average of the three constants."""

    def __init__(self, normalisation: str, channels: int, size: int, device: torch.device | str) -> None:
        mean, std = torch.tensor(NORMALISATIONS[normalisation], dtype=torch.float64, device=device)
        if channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        # One row of pixels as a vector: the innermost loop is then long enough to be fast.
        self.scale = (1 / (255 * std)).repeat(size).float()
        self.shift = (-mean / std).repeat(size).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise images, keeping their layout (B, H, W, C)."""
        return torch.addcmul(self.shift, x.flatten(2).float(), self.scale).view(x.shape)


def crop_and_flip(x: Tensor, offsets: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Crop each zero-padded image at `offsets` (2, B: top, left) to its old size, then mirror those with `flip`."""
    count, height, width, channels = x.shape
    padded = functional.pad(x, (0, 0, pad, pad, pad, pad))
    column = torch.arange(width, device=x.device)
    top, left = offsets[:, :, None]
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.where(flip[:, None], width - 1 - column, column)
    images = torch.arange(count, device=x.device)[:, None, None] * padded.shape[1]
    pixels = (images + rows[:, :, None]) * padded.shape[2] + columns[:, None, :]
    return padded.view(-1, channels).index_select(0, pixels.flatten()).view(x.shape)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate each image by its angle in degrees about its centre; nearest pixel, black corners."""
    turn = torch.deg2rad(angles.to(x.device))
    zero = torch.zeros_like(turn)
    rows = [torch.stack([turn.cos(), -turn.sin(), zero], 1), torch.stack([turn.sin(), turn.cos(), zero], 1)]
    images = x.permute(0, 3, 1, 2)
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    turned = functional.grid_sample(images.float(), grid, mode="nearest", align_corners=False)
    return turned.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def erasing_boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw boxes to erase at random, (count, 4) of top, left, height, width; half of them are empty."""
    area = size**2 * _uniform(*ERASE_AREA, (count, ERASE_ATTEMPTS), generator)
    ratio = _uniform(math.log(ERASE_RATIO[0]), math.log(ERASE_RATIO[1]), (count, ERASE_ATTEMPTS), generator).exp()
    sides = torch.stack([(area * ratio).sqrt().round(), (area / ratio).sqrt().round()], dim=2)
    fits = (sides < size).all(2)
    sides = sides[torch.arange(count), fits.int().argmax(1)]  # of the first attempt that fits
    corner = (torch.rand(count, 2, generator=generator) * (size - sides + 1)).floor()
    erased = fits.any(1) & (torch.rand(count, generator=generator) < ERASE_SHARE)
    return torch.cat([corner, sides * erased[:, None]], dim=1).long()


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def erase(x: Tensor, boxes: Tensor) -> Tensor:
    """Set the boxes to zero."""
    top, left, height, width = boxes.T[:, :, None]
    row, column = torch.arange(x.shape[1], device=x.device), torch.arange(x.shape[2], device=x.device)
    inside = ((row >= top) & (row < top + height))[:, :, None] & ((column >= left) & (column < left + width))[:, None]
    return x.masked_fill(inside[..., None], 0)


Groups = list[list[tuple[int, Tensor]]]  # for each round the kinds of work, 2·operation + [sign > 0], and who gets each


def group(operations: Tensor, signs: Tensor, batch: int, device: torch.device) -> list[Groups]:
    """Find for each batch the images of equal work, from operations and signs (N, ROUNDS) on the host.

    All of them are sent to the device in one copy.
    """
    work = torch.split(operations * 2 + (signs > 0), batch)
    order = torch.cat([part.argsort(dim=0, stable=True) for part in work]).T.contiguous().to(device)
    places = torch.split(order, batch, dim=1)
    return [
        [_groups_of(kinds, members) for kinds, members in zip(part.T, here, strict=True)]
        for part, here in zip(work, places, strict=True)
    ]


def _groups_of(kinds: Tensor, members: Tensor) -> list[tuple[int, Tensor]]:
    found, counts = kinds.unique(return_counts=True)  # type: ignore[no-untyped-call]
    return list(zip(found.tolist(), torch.split(members, counts.tolist()), strict=True))


def rand_augment(x: Tensor, operations: Tensor, signs: Tensor) -> Tensor:
    """Apply RandAugment: the operations (B, ROUNDS) of each image in turn, stronger or weaker by its sign of ±1."""
    return apply_groups(x, group(operations, signs, len(x), x.device)[0])


def apply_groups(x: Tensor, groups: Groups) -> Tensor:
    """Apply one round after the other; images with equal work are done together."""
    x = x.permute(0, 3, 1, 2).clone()
    for kinds in groups:
        for kind, members in kinds:
            x[members] = OPERATIONS[kind // 2](x[members], 1 if kind % 2 else -1)
    return x.permute(0, 2, 3, 1).contiguous()


def _torchvision(name: str, **settings: Any) -> Tensor:
    """Call a function of torchvision, imported at first use since only these recipes need it."""
    import torchvision.transforms.v2.functional as transforms

    result: Tensor = getattr(transforms, name)(**settings)
    return result


def _shear(x: Tensor, degrees: list[float]) -> Tensor:
    return _torchvision("affine", inpt=x, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])


def _translate(x: Tensor, right: int, down: int) -> Tensor:
    return _torchvision("affine", inpt=x, angle=0.0, translate=[right, down], scale=1.0, shear=[0.0, 0.0])


def _strength(full: float) -> float:
    # In fp32, as torchvision's table has it: some operations truncate to whole grey levels.
    return float(torch.linspace(0.0, full, BINS)[MAGNITUDE])


SHEAR = math.degrees(math.atan(_strength(0.3)))
SHIFT = _strength(150 / 331)  # of the side
TURN = _strength(30.0)  # degrees
ENHANCE = _strength(0.9)
BITS = 8 - round(_strength(4.0))
THRESHOLD = 255 * (1 - _strength(1.0))

OPERATIONS: tuple[Callable[[Tensor, int], Tensor], ...] = (
    lambda x, sign: x,
    lambda x, sign: _shear(x, [sign * SHEAR, 0.0]),
    lambda x, sign: _shear(x, [0.0, sign * SHEAR]),
    lambda x, sign: _translate(x, sign * int(SHIFT * x.shape[3]), 0),
    lambda x, sign: _translate(x, 0, sign * int(SHIFT * x.shape[2])),
    lambda x, sign: _torchvision("rotate", inpt=x, angle=sign * TURN),
    lambda x, sign: _torchvision("adjust_brightness", inpt=x, brightness_factor=1 + sign * ENHANCE),
    lambda x, sign: _torchvision("adjust_saturation", inpt=x, saturation_factor=1 + sign * ENHANCE),
    lambda x, sign: _torchvision("adjust_contrast", inpt=x, contrast_factor=1 + sign * ENHANCE),
    lambda x, sign: _torchvision("adjust_sharpness", inpt=x, sharpness_factor=1 + sign * ENHANCE),
    lambda x, sign: _torchvision("posterize", inpt=x, bits=BITS),
    lambda x, sign: _torchvision("solarize", inpt=x, threshold=THRESHOLD),
    lambda x, sign: _torchvision("autocontrast", inpt=x),
    lambda x, sign: _torchvision("equalize", inpt=x),
)
