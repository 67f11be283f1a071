"""Turn variances over seeds and over test images into critical values and half-widths; every argument may be an array.

The variance of a mean over seeds has few degrees of freedom, that over thousands of images practically infinitely many.
Several samples of seeds are combined by Welch and Satterthwaite; seeds and images by Cochran and Cox, whose critical
value is the mean of Student's and the normal one, weighted with the two variances.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


def satterthwaite(variances: ArrayLike, freedom: ArrayLike) -> Array:
    """Compute the degrees of freedom of a sum of variances of means; the last axis is summed.

    >>> satterthwaite([0.3], [2.0]), satterthwaite([0.3, 0.3], [2.0, 2.0])
    (array(2.), array(4.))
    """
    parts, degrees = np.asarray(variances, dtype=float), np.asarray(freedom, dtype=float)
    total, weighted = parts.sum(-1), (parts**2 / degrees).sum(-1)
    # A sum of zeros keeps the degrees of its smallest part: no interval becomes shorter by it.
    smallest = np.broadcast_to(degrees.min(-1), total.shape)
    found: Array = np.divide(total**2, weighted, out=smallest.astype(float).copy(), where=weighted > 0)
    return found


def critical_value(level: float, seeds: ArrayLike, freedom: ArrayLike, images: ArrayLike = 0.0) -> Array:
    """Compute the two-sided critical value of a mean with one variance over seeds and one over images."""
    over_seeds, over_images = np.asarray(seeds, dtype=float), np.asarray(images, dtype=float)
    student, normal = stats.t.ppf((1 + level) / 2, freedom), stats.norm.ppf((1 + level) / 2)
    total = over_seeds + over_images
    share = np.divide(over_seeds, total, out=np.ones_like(total), where=total > 0)
    found: Array = share * student + (1 - share) * normal
    return found


def half_width(level: float, variances: ArrayLike, freedom: ArrayLike, images: ArrayLike = 0.0) -> Array:
    """Compute half of an interval from the variances of the means of independent samples of seeds, and of the images.

    >>> from scipy.stats import t
    >>> bool(np.isclose(half_width(0.95, [0.01 / 3], [2.0]), t.ppf(0.975, 2) * (0.01 / 3) ** 0.5))
    True
    """
    seeds = np.asarray(variances, dtype=float).sum(-1)
    found: Array = critical_value(level, seeds, satterthwaite(variances, freedom), images) * np.sqrt(seeds + images)
    return found
