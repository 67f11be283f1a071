"""The values of a ring: one period of a wave, sampled a quarter step off its trough or as the published code does."""

import math
from fractions import Fraction


def quarter_step(levels: int, wave: str = "triangle", phase: float = 0.25) -> list[float]:
    """Sample one period of a wave at (k + phase)/N, k = 0 … N-1, from its trough; a learned wave starts as a triangle.

    >>> quarter_step(3), quarter_step(4, phase=0)
    ([-0.6666666666666666, 0.6666666666666666, 0.0], [-1.0, 0.0, 1.0, 0.0])
    """
    along = [(k + Fraction(phase)) / levels for k in range(levels)]
    if wave == "sine":
        return [-math.cos(2 * math.pi * u) for u in along]
    return [float(1 - 4 * abs(u - Fraction(1, 2))) for u in along]


def both_ends(size: int, wave: str = "triangle") -> list[float]:
    """Sample one period at k/(R-1), as published: the last value is the first again, and nearly all others come twice.

    >>> [round(value, 3) for value in both_ends(4)]
    [-1.0, 0.333, 0.333, -1.0]
    """
    along = [k / (size - 1) for k in range(size)]
    if wave == "sin":
        return [math.sin(2 * math.pi * u) for u in along]
    return [2 * abs(2 * (u - math.floor(u + 0.5))) - 1 for u in along]
