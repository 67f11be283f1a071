"""The variance of a mean over seeds and test images, as a reference for tests."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def image_variance(per_seed_and_image: ArrayLike) -> Any:
    """Estimate what the choice of images adds to the variance of a mean; the last two axes are seeds and images.

    The variance of the images' means holds the spread of single answers too, which the spread of the seeds' means
    already counts; it is subtracted (Owen 2007, crossed random effects).
    """
    table = np.asarray(per_seed_and_image, dtype=float)
    seeds, images = table.shape[-2:]
    of_images = table.mean(-2)
    residual = table - of_images[..., None, :] - table.mean(-1, keepdims=True) + table.mean((-2, -1), keepdims=True)
    single = (residual**2).sum((-2, -1)) / (max(seeds - 1, 1) * (images - 1))
    return np.maximum(0.0, of_images.var(-1, ddof=1) - single / seeds) / images
