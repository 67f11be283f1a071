"""One encoded image to one array."""

import io

import numpy as np
from numpy.typing import NDArray

from bitq.errors import DataError

MAX_SIDE = 1024  # pixels; a tiny file can claim to be a gigapixel image


def decode_image(blob: bytes, channels: int, where: str) -> NDArray[np.uint8]:
    """A PNG or JPEG file as (H, W, C), colour or grey as asked; `where` names it in complaints."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob), formats=("PNG", "JPEG")) as image:
            if max(image.size) > MAX_SIDE:
                raise DataError(f"{where} is {image.width}×{image.height} pixels; at most {MAX_SIDE} a side are read.")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} is not a whole PNG or JPEG image; get the file again.") from error
    return pixels.reshape(*pixels.shape[:2], channels)
