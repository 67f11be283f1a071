"""Describe a network besides its code: its geometry, and the layers that each keep mode means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from bitq.errors import UsageError, one_of

STEMS = ("cifar", "imagenet")

Patterns = tuple[str, ...]


@dataclass(frozen=True)
class Geometry:
    """The sizes that decide a network's shapes."""

    classes: int
    width: int  # channels of the first stage; all others are in proportion
    stem: str = "cifar"
    channels: int = 3
    image_size: int = 32
    words: int = 0  # of the sentence beside each image; 0: there is none
    vocabulary: int = 0  # tokens

    @classmethod
    def of(cls, data: Any, width: int, stem: str) -> "Geometry":
        """Make the geometry of a network that sees such data."""
        return cls(data.classes, width, stem, data.channels, data.image_size, data.words, data.vocabulary)

    def __post_init__(self) -> None:
        if self.stem not in STEMS:
            raise one_of("stem", self.stem, STEMS)
        for size in fields(self):
            value = getattr(self, size.name)
            if size.type is int and value < (0 if size.name in ("words", "vocabulary") else 1):
                raise UsageError(f"{size.name} {value} makes no network; give {size.name} of 1 or more.")


@dataclass(frozen=True)
class Adapter:
    """One network: how to build it, what its keep modes mean, how small an image may be."""

    network: Callable[[Geometry], nn.Module]
    keep: Mapping[str, Patterns]
    smallest_image: Mapping[str, int]  # by stem, pixels
    one_stem: bool = False  # is its published stem the only one?
    reads: bool = False  # does it take sentences beside the images?


def keep_modes(first: str, stages: tuple[Patterns, ...], head: str, last: str) -> dict[str, Patterns]:
    """Name the keep modes of a network from its first layer, its stages, its classifier and its last layer.

    >>> keep_modes("conv1", (("layer1.*",),), head="fc", last="fc")["stem"]
    ('conv1',)
    """
    return (
        dict.fromkeys(("first", "conv1", "conv_stem", "stem"), (first,))
        | {f"layer{number}": patterns for number, patterns in enumerate(stages, 1)}
        | {"fc": (head,), "head": (head,), "last": (last,)}
    )
