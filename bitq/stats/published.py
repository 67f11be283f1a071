"""The figures that other works published: config/published.yaml as records."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import model_validator

from bitq.errors import DataError
from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml

# Statuses of figures that may test a work's own claims, the most reliable first.
TRUSTED = ("clean", "derived", "formula", "printed")


class Figure(Frozen):
    """One published number, its source, and its reliability (`status`, explained in the file)."""

    id: str
    work: str
    source: str
    status: str
    quantity: str
    value: int | float | str | None = None
    range: tuple[float, float] | None = None
    unit: str = ""
    sd: float | None = None
    n: int | None = None
    dataset: str = ""
    model: str = ""
    arm: str = ""
    era: str = "current"
    note: str = ""

    @property
    def shown(self) -> int | float | str | list[float] | None:
        """Number, or the two ends of its range."""
        return self.value if self.range is None else list(self.range)


class Block(Frozen):
    """Figures of one source, with the fields that they share."""

    work: str
    source: str
    status: str
    era: str = "current"
    dataset: str = ""
    model: str = ""
    arm: str = ""
    quantity: str = ""
    unit: str = ""
    n: int | None = None
    note: str = ""
    figures: tuple[dict[str, Any], ...]

    def each(self) -> Iterable[Figure]:
        """Yield the figures, completed by the shared fields."""
        shared = self.model_dump(exclude={"figures"}, exclude_defaults=True)
        return (Figure(**{**shared, **figure}) for figure in self.figures)


class Work(Frozen):
    """A published work."""

    title: str
    repository: str
    version: str
    metric: str


class File(Frozen):
    """The contents of config/published.yaml."""

    statuses: dict[str, str]
    eras: dict[str, str]
    works: dict[str, Work]
    blocks: tuple[Block, ...]

    @model_validator(mode="after")
    def _known(self) -> "File":
        explained = {*self.statuses, *self.eras, *self.works}
        for block in self.blocks:
            for name in (block.status, block.era, block.work):
                if name not in explained:
                    raise ValueError(f"the block of {block.source!r} says {name!r}, which is explained nowhere")
        return self


class Published(Frozen):
    """All figures by id, with the meaning of their statuses."""

    statuses: dict[str, str]
    works: dict[str, Work]
    figures: dict[str, Figure]

    def own_means(self, work: str) -> Mapping[tuple[str, str, str, str], float]:
        """Return a work's own means by (data set, model, arm, quantity), without pooled, typed-in or old figures."""
        trusted = [
            figure
            for figure in self.figures.values()
            if figure.work == work and figure.status in TRUSTED and figure.arm
        ]
        found: dict[tuple[str, str, str, str], float] = {}
        for figure in sorted(trusted, key=lambda figure: TRUSTED.index(figure.status)):
            if isinstance(figure.value, int | float):
                found.setdefault((figure.dataset, figure.model, figure.arm, figure.quantity), figure.value)
        return found


def published() -> Published:
    """Read config/published.yaml."""
    return _read(config_dir() / "published.yaml")


@cache
def _read(path: Path) -> Published:
    file: File = read_yaml(File, path)
    figures = [figure for block in file.blocks for figure in block.each()]
    by_id = {figure.id: figure for figure in figures}
    if len(by_id) < len(figures):
        raise DataError(f"{path} gives one id to two figures; make every id unique.")
    return Published(statuses=file.statuses, works=file.works, figures=by_id)
