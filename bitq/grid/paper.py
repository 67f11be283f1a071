"""Select the runs that the paper shows: config/paper.yaml maps each of its studies to a scale."""

from typing import Annotated

from pydantic import Field

from bitq.grid.expand import expand
from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.run import Run


class Config(Frozen):
    """config/paper.yaml: which runs the paper shows, what it is called, what its first page says of its numbers."""

    studies: Annotated[dict[str, str], Field(min_length=1)]  # study: scale
    growing: bool  # runs may be missing, and the paper says how many
    title: str
    subtitles: dict[str, str]  # by scale
    notices: dict[str, str]  # by scale
    images: dict[str, str]  # by scale: what the networks were trained on, as sentences say it
    source_date_epoch: int


def config() -> Config:
    """Read config/paper.yaml."""
    found: Config = read_yaml(Config, config_dir() / "paper.yaml")
    return found


def paper_runs() -> tuple[Run, ...]:
    """List all runs that the paper rests on."""
    return tuple(run for name, scale in config().studies.items() for run in expand(name, scale))
