"""The figures that other works published: config/published.yaml as records."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from bitq.errors import DataError
from bitq.io import read_json
from bitq.paths import config_dir, measured_dir
from bitq.records import Frozen, read_yaml

# Statuses of figures that may test a work's own claims, the most reliable first.
TRUSTED = ("clean", "derived", "formula", "printed")
MEASURED, ORIGINALS = "measured", "originals.json"
Unit = Literal[
    "",
    "%",
    "points",
    "% of the gap",
    "% of parameters",
    "% of weights",
    "x",
    "millions",
    "KB",
    "MB",
    "MiB",
    "GB",
    "hours",
    "GPU hours",
    "weeks",
]


class Figure(Frozen):
    """One published number, its source, and its reliability (`status`, explained in the file)."""

    id: str
    work: str
    source: str  # file, section, line or table of the work
    status: str
    quantity: str
    value: int | float | str | None = None
    range: tuple[float, float] | None = None
    unit: Unit = ""
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
    figures: tuple[Figure, ...]

    @model_validator(mode="after")
    def _known(self) -> "File":
        for figure in self.figures:
            for name, explained in ((figure.status, self.statuses), (figure.era, self.eras), (figure.work, self.works)):
                if name not in explained:
                    raise ValueError(f"the figure {figure.id!r} says {name!r}, which is explained nowhere")
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
    """Read config/published.yaml, and what was measured on the originals' files."""
    return _read(config_dir() / "published.yaml", measured_dir() / ORIGINALS)


@cache
def _read(path: Path, originals: Path) -> Published:
    file: File = read_yaml(File, path)
    figures = [*file.figures, *measured(originals)]
    by_id = {figure.id: figure for figure in figures}
    if len(by_id) < len(figures):
        raise DataError(f"{path} gives one id to two figures; make every id unique.")
    return Published(statuses=file.statuses, works=file.works, figures=by_id)


def measured(path: Path) -> list[Figure]:
    """Read the figures that were counted or measured on the originals' files, each with the command that does it."""
    records: list[dict[str, Any]] = read_json(path) if path.exists() else []
    return [
        Figure(**{name: value for name, value in record.items() if name != "command"}, status=MEASURED)
        for record in records
    ]
