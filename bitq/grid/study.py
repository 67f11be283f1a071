"""Read studies and scales from YAML: what a research question consists of, and how large to ask it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import Field, PositiveInt, field_validator, model_validator

from bitq.catalogue import PUBLISHED_WIDTH, published_width
from bitq.errors import UsageError, one_of
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
    distillation: Overrides = {}  # what it changes in the study's
    start: str | None = None
    calibration: Overrides | None = None
    recipe: Overrides = {}
    precision: Precision | None = None  # that of the scale or the study, if not said
    tag: str = ""

    @model_validator(mode="after")
    def _makes_sense(self) -> "Arm":
        if self.distillation and self.teacher is None:
            raise ValueError(f"distillation {self.distillation} changes nothing without a teacher; name one")
        return self


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
    runs: int  # with the seeds that its blocks list
    recipe: Overrides = {}  # what this phase changes in the study's recipe; a scale comes after it
    blocks: tuple[Block, ...]

    @property
    def listed(self) -> int:
        """Count the runs that its blocks list."""
        return sum(len(b.arms) * len(b.models) * len(b.datasets) * len(b.seeds) for b in self.blocks)


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
    # A scale that chooses the number of seeds takes the first of these, more of them for the headline arms.
    seeds: tuple[int, ...] = ()
    headline: dict[str, tuple[str, ...]] = {}  # by network, as in the ids of runs
    deviations: tuple[Deviation, ...] = ()
    phases: tuple[Phase, ...]


class SeedCounts(Frozen):
    """How many seeds the headline arms of a study get, and how many all others."""

    headline: int = Field(ge=1)
    others: int = Field(ge=1)


class Override(Frozen):
    """What a scale changes for the data sets, networks and phases that it names; for all where it names none."""

    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    variant: str | None = None
    width: int | None = Field(default=None, ge=1)
    recipe: Overrides = {}

    def concerns(self, dataset: str, model: str, phase: str) -> bool:
        """Tell whether it changes this network on this data set in this phase of a study."""
        named = ((self.datasets, dataset), (self.models, model), (self.phases, phase))
        return all(not names or name in names for names, name in named)


class Size(NamedTuple):
    """How large a scale makes a network on a data set."""

    variant: str
    width: int
    recipe: Overrides


class Scale(Frozen):
    """The size of runs: the data variants, the widths and the parts of the recipe that it overrides; nothing else."""

    scale: str
    summary: str
    variants: dict[str, str] = {}
    widths: dict[str, PositiveInt] = {}  # channels of a network's first stage, where they are not the published ones
    recipe: Overrides = {}
    overrides: tuple[Override, ...] = ()  # after all of these, from top to bottom
    precision: Precision | None = None  # that of the study, if not said
    seeds: SeedCounts | None = None  # of studies that list theirs; those of the blocks, if not said
    skip: dict[str, tuple[str, ...]] = {}  # study: phases that this scale leaves out
    batch_runs: int = Field(default=1, ge=1)  # runs per workflow job

    @field_validator("widths")
    @classmethod
    def _of_networks(cls, widths: dict[str, int]) -> dict[str, int]:
        for model in widths:
            if model not in PUBLISHED_WIDTH:
                raise ValueError(f"there is no network {model!r}; allowed: {', '.join(PUBLISHED_WIDTH)}")
        return widths

    def size(self, dataset: str, model: str, phase: str) -> Size:
        """Merge what the scale says of all runs with its overrides for a network on a data set; the last one wins."""
        variant, recipe = self.variants.get(dataset, "official"), self.recipe
        width = self.widths.get(model) or published_width(model)
        for each in self.overrides:
            if each.concerns(dataset, model, phase):
                variant, width, recipe = each.variant or variant, each.width or width, {**recipe, **each.recipe}
        return Size(variant, width, recipe)

    def seeds_of(self, study: Study) -> SeedCounts | None:
        """Return how many seeds it chooses; none where the seeds are those of the blocks."""
        return self.seeds if study.seeds else None


def studies() -> tuple[str, ...]:
    """Name all studies."""
    return _names("studies")


def scales() -> tuple[str, ...]:
    """Name all scales."""
    return _names("scales")


def by_size(names: Iterable[str]) -> list[str]:
    """Sort scales from large to small, those that are not ours last.

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
    names = tuple(sorted(path.stem for path in (config_dir() / folder).glob("*.yaml")))
    if not names:
        raise UsageError(
            f"{config_dir() / folder} holds no .yaml file; call bitq from a checkout installed in editable form, or "
            "let $BITQ_CONFIG name a folder with studies/ and scales/."
        )
    return names


def _read(record: type[Record], kind: str, folder: str, name: str) -> Record:
    if name not in _names(folder):
        raise one_of(kind, name, _names(folder))
    parsed: Record = read_yaml(record, config_dir() / folder / f"{name}.yaml")
    return parsed
