"""Studies and scales as YAML: what a research question consists of, and how large to ask it."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from bitq.errors import one_of
from bitq.paths import config_dir
from bitq.records import Frozen, Record, read_yaml
from bitq.run import Norm, Precision, Stem

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
