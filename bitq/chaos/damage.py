"""Damage files as a failing disk would: a flipped bit, a lost end, nothing left."""

import os
import random
from collections.abc import Callable
from pathlib import Path


def flip_bit(path: Path, draw: random.Random) -> None:
    """Flip one bit in place."""
    with open(path, "r+b") as file:
        position = draw.randrange(os.fstat(file.fileno()).st_size)
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << draw.randrange(8)]))


def truncate(path: Path, draw: random.Random) -> None:
    """Cut off the end."""
    os.truncate(path, draw.randrange(1, path.stat().st_size))


def empty(path: Path, draw: random.Random) -> None:
    """Leave nothing of the content."""
    os.truncate(path, 0)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flipped": flip_bit,
    "truncated": truncate,
    "emptied": empty,
}
