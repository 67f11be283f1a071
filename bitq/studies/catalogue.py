"""Collect the families of contrasts and the gaps of every study that has a folder here."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from bitq.stats.claims import claims
from bitq.stats.families import Family, Gap
from bitq.stats.summary import Questions

# In the order of print; a study that is not listed follows by name.
ORDER = ("bitnet", "atq", "precision", "multimodal", "ring")


@cache
def names() -> tuple[str, ...]:
    """List the studies that define contrasts."""
    found = sorted(path.parent.name for path in Path(__file__).parent.glob("*/contrasts.py"))
    return tuple(sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)))


@cache
def families() -> tuple[Family, ...]:
    """List the families of all studies, each with the name of its study."""
    return tuple(replace(family, study=name) for name, module in _modules() for family in module.FAMILIES)


@cache
def gaps() -> tuple[Gap, ...]:
    """List the gaps of all studies, each with the name of its study."""
    return tuple(replace(gap, study=name) for name, module in _modules() for gap in getattr(module, "GAPS", ()))


@cache
def questions() -> Questions:
    """Collect what is asked of the runs of all studies."""
    return Questions(families(), gaps(), claims().questions)


def _modules() -> Iterator[tuple[str, ModuleType]]:
    return ((name, import_module(f"bitq.studies.{name}.contrasts")) for name in names())
