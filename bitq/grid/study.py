"""Studies and scales as YAML: what a research question consists of, and how large to ask it."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError

from bitq.errors import DataError, UsageError, one_of
from bitq.grid.run import Frozen, Norm, Precision, Stem
from bitq.io import open_for_reading
from bitq.paths import config_dir

LARGEST_FIRST = ("full", "mini", "smoke")  # scales

Overrides = dict[str, Any]  # a part of a recipe, checked when the run is built


class Arm(Frozen):
    """One way to treat a network.

    `teacher` and `start` name a parent as [study:]arm/seed, where {seed} is the run's own; the teacher may be `online`.
    """

    method: str
    settings: Overrides = {}
    keep: tuple[str, ...] = ()
    norm: Norm = "none"
    stem: Stem = "cifar"
    teacher: str | None = None
    start: str | None = None
    calibration: Overrides | None = None
    recipe: Overrides = {}
    precision: Precision | None = None  # that of the study, if not said
    tag: str = ""


class Block(Frozen):
    """The product models × datasets × arms × seeds."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]


class Phase(Frozen):
    """A titled part of a study with the number of runs that it must expand to."""

    phase: str
    title: str
    runs: int
    recipe: Overrides = {}  # what this phase changes in the study's recipe; a scale comes after it
    blocks: tuple[Block, ...]


class Deviation(Frozen):
    """A place where the protocol here differs from the published one, and why."""

    what: str
    original: str
    here: str
    why: str


class Study(Frozen):
    """A published work, or ours, as a grid of runs."""

    study: str
    title: str
    runs: int
    distilled: int
    precision: Precision = "bf16"
    recipe: Overrides = {}
    datasets: dict[str, Overrides]  # per data set: its part of the recipe
    distillation: Overrides = {}
    deviations: tuple[Deviation, ...] = ()
    phases: tuple[Phase, ...]


class Scale(Frozen):
    """How large: the data variants, the width and the parts of the recipe that it overrides; nothing else."""

    scale: str
    summary: str
    variants: dict[str, str] = {}
    width: int = 64
    widths: dict[str, int] = {}  # of models that are too narrow for it
    recipe: Overrides = {}
    skip: dict[str, tuple[str, ...]] = {}  # study: phases that this scale leaves out
    batch_runs: int = Field(default=1, ge=1)  # runs per workflow job

    def variant(self, dataset: str) -> str:
        """Which variant of a data set this scale uses."""
        return self.variants.get(dataset, "official")


Record = TypeVar("Record", bound=Frozen)


def studies() -> tuple[str, ...]:
    """Names of all studies."""
    return _names("studies")


def scales() -> tuple[str, ...]:
    """Names of all scales."""
    return _names("scales")


def by_size(names: Iterable[str]) -> list[str]:
    """Scales from large to small, those that are not ours last.

    >>> by_size(["medium", "smoke", "full"])
    ['full', 'smoke', 'medium']
    """
    return sorted(names, key=lambda name: (LARGEST_FIRST.index(name) if name in LARGEST_FIRST else 99, name))


def study(name: str) -> Study:
    """Read one study."""
    return _read(Study, "study", "studies", name)


def scale(name: str) -> Scale:
    """Read one scale."""
    return _read(Scale, "scale", "scales", name)


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (config_dir() / folder).glob("*.yaml")))


def _read(record: type[Record], kind: str, folder: str, name: str) -> Record:
    if name not in _names(folder):
        raise one_of(kind, name, _names(folder))
    parsed: Record = read_yaml(record, config_dir() / folder / f"{name}.yaml")
    return parsed


@cache
def read_yaml(record: type[Record], path: Path) -> Record:
    """A YAML file as a record; what does not fit is one sentence with the key."""
    try:
        with open_for_reading(path) as file:
            return record.model_validate(yaml.load(file, Loader=_Loader))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """A pydantic report as one sentence: which key, what was given, what is wrong with it."""
    # A key that does not exist is usually the typo behind one that is missing, so it is told first.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    # What is wrong with a whole record says so itself: its dump would bury the sentence.
    given = "" if first["type"] == "missing" or isinstance(first["input"], dict) else f" (given: {first['input']!r})"
    more = f" And {error.error_count() - 1} more." if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"there is no key {key!r} here{given}.{more}"
    return f"{key}{': ' if key else ''}{first['msg'].removeprefix('Value error, ')}{given}.{more}"


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader, with 1e-5 read as the number that it is (YAML 1.1 wants 1.0e-5)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
