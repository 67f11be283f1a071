"""Decode PNG and JPEG images to arrays."""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bitq.errors import DataError

MAX_SIDE = 1024  # pixels; a tiny file can claim to be a gigapixel image


def decode_images(named: Iterable[tuple[str, bytes]], count: int, channels: int) -> NDArray[np.uint8]:
    """Decode `count` PNG or JPEG files, named for error messages, to (N, H, W, C) in colour or grey."""
    images = np.empty((0, 0, 0, channels), np.uint8)
    for index, (name, blob) in enumerate(named):
        image = decode_image(name, blob, channels)
        if index == 0:
            images = np.empty((count, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise DataError(f"{name} has shape {image.shape}, the first image {images.shape[1:]}; all must agree.")
        images[index] = image
    return images


def decode_image(name: str, blob: bytes, channels: int) -> NDArray[np.uint8]:
    """Decode one PNG or JPEG file to (H, W, C)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob), formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_SIDE:
                raise DataError(f"{name} is {image.width}×{image.height} pixels; at most {MAX_SIDE} a side are read.")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a whole PNG or JPEG image; get the file again.") from error
    return pixels.reshape(*pixels.shape[:2], channels)
