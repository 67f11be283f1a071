"""Describe what the paper prints of one study."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bitq.report import names
from bitq.report.contrasts import Pivot
from bitq.report.figures import Figure
from bitq.report.query import Query
from bitq.report.table import Table
from bitq.report.values import Number
from bitq.stats.families import Family, Gap


@dataclass(frozen=True)
class Printed:
    """Tables, figures and numbers of a study, and its names for what no other study has."""

    tables: tuple[Table | Pivot, ...] = ()
    figures: tuple[Figure, ...] = ()
    numbers: Callable[[Query], Iterator[Number]] = lambda query: iter(())  # beside those that every arm has
    parts: Mapping[str, str] = field(default_factory=dict)  # of the names of its arms, as print says them
    shortened: Callable[[str], str] = str  # the name of an arm without what goes without saying in this study
    across: Literal["dataset", "model"] = "dataset"  # what stands side by side in the table of all contrasts
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # published arm → those of ours beside it
    study: str = ""  # this and its contrasts are filled in from its folder
    families: tuple[Family, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def arm(self, name: str) -> str:
        """Name an arm in print."""
        return names.arm(name, self.parts)

    def label(self, name: str) -> str:
        """Name an arm in print where the study is known."""
        return names.arm(self.shortened(name), self.parts)
