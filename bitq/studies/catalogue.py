"""Find the studies by their folders here, with what they ask of the runs and what they print."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bitq import studies
from bitq.stats.claims import claims
from bitq.stats.families import Family, Gap
from bitq.stats.summary import Questions

if TYPE_CHECKING:
    from bitq.report.printed import Printed


def families() -> tuple[Family, ...]:
    """List the families of contrasts of all studies, each with the name of its study."""
    return tuple(replace(family, study=name) for name, module in _modules("contrasts") for family in module.FAMILIES)


def gaps() -> tuple[Gap, ...]:
    """List the gaps of all studies, each with the name of its study."""
    found = ((name, getattr(module, "GAPS", ())) for name, module in _modules("contrasts"))
    return tuple(replace(gap, study=name) for name, of_study in found for gap in of_study)


def questions() -> Questions:
    """Collect what is asked of the runs of all studies."""
    return Questions(families(), gaps(), claims().questions)


def printed() -> "tuple[Printed, ...]":
    """Collect what each study prints."""
    asked, left = families(), gaps()
    return tuple(_printed(name, module.PRINTED, asked, left) for name, module in _modules("printed"))


def _printed(study: str, of: "Printed", asked: tuple[Family, ...], left: tuple[Gap, ...]) -> "Printed":
    """Add the name of the study, and its contrasts."""
    own = tuple(family for family in asked if family.study == study)
    return replace(of, study=study, families=own, gaps=tuple(gap for gap in left if gap.study == study))


def words() -> dict[str, str]:
    """Collect what the studies call the parts of their arms' names."""
    return {part: name for each in printed() for part, name in each.parts.items()}


def _modules(kind: str) -> Iterator[tuple[str, ModuleType]]:
    """Import one module of every study that has it."""
    names = {file.parent.name for folder in studies.__path__ for file in Path(folder).glob(f"*/{kind}.py")}
    return ((name, import_module(f"bitq.studies.{name}.{kind}")) for name in sorted(names))
