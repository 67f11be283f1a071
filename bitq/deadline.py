"""The time at which somebody else will end the process: a cluster's limit, or one that the user gave."""

import os
import re
import time
from datetime import datetime

from bitq.errors import UsageError

OURS, SLURM = "BITQ_DEADLINE", "SLURM_JOB_END_TIME"  # seconds since 1970; ours empty: none, whatever Slurm says
MARGIN = 120.0  # s to finish a step and to write a checkpoint, or a quarter of the time if that is less
LONGEST = 1e9  # s, which the timer of the system can count
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_to_work() -> float | None:
    """Return the seconds after which to stop so that everything is saved in time; None without a deadline."""
    left = _seconds_left()
    return None if left is None else min(max(left - min(MARGIN, left / 4), 0.0), LONGEST)


def _seconds_left() -> float | None:
    said = os.environ.get(OURS, os.environ.get(SLURM, ""))
    return float(said) - time.time() if re.fullmatch(r"\d+(\.\d+)?", said) else None


def is_near() -> bool:
    """Tell whether a deadline is so near, or past, that nothing is worth being started before it."""
    left = _seconds_left()
    return left is not None and left <= MARGIN


def set_deadline(text: str) -> None:
    """Set the deadline of this process and of all that it starts: so long from now, or a time of day with its date."""
    os.environ[OURS] = str(time.time() + _seconds(text))


def _seconds(text: str) -> float:
    """Read a duration or the time left until a moment.

    >>> _seconds("90m"), _seconds("1.5h"), _seconds("2d")
    (5400.0, 5400.0, 172800.0)
    """
    duration = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if duration:
        return float(duration[1]) * SECONDS[duration[2]]
    try:
        left = datetime.fromisoformat(text).timestamp() - time.time()
    except ValueError:
        left = 0.0
    if left <= 0 or "T" not in text:
        raise UsageError(
            f"--deadline {text!r} was given; allowed: a duration from now such as 110m, 8h or 2d, "
            "or a moment that is still to come such as 2031-05-17T18:30."
        )
    return left
