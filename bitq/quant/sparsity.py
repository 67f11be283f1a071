"""How the share of zeros grows over a training: pure functions of the share of the training that is done."""

from collections.abc import Callable

Schedule = Callable[[float], float]  # place on the way, 0 … 1 → share of the way that is gone


def constant(place: float) -> float:
    """Use the final share of zeros from the start."""
    return 1.0


def linear(place: float) -> float:
    """Raise the share of zeros in proportion to the progress."""
    return place


def cubic(place: float) -> float:
    """Raise the share of zeros as 1 - (1 - progress)³, fast at first (Zhu and Gupta 2017)."""
    return 1 - (1 - place) ** 3


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "cubic": cubic}


def sparsity_at(schedule: Schedule, start: float, end: float, until: float, progress: float) -> float:
    """Return the share of zeros when `progress` of the training is done; it is `end` from `until` on.

    >>> [round(sparsity_at(linear, 0.05, 0.3, 0.7, p), 4) for p in (0.0, 0.35, 0.7, 1.0)]
    [0.05, 0.175, 0.3, 0.3]
    >>> [round(sparsity_at(cubic, 0.05, 0.3, 0.7, p), 4) for p in (0.0, 0.35, 0.7, 1.0)]
    [0.05, 0.2687, 0.3, 0.3]
    >>> sparsity_at(constant, 0.05, 0.3, 0.7, 0.0)
    0.3
    """
    gone = schedule(min(progress / until, 1.0))
    return end if gone == 1 else start + (end - start) * gone
