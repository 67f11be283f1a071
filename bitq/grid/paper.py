"""Which runs the paper shows: config/paper.yaml maps each of its studies to a scale."""

import yaml

from bitq.errors import UsageError
from bitq.grid.expand import expand
from bitq.grid.run import Run
from bitq.paths import config_dir


def paper_scales() -> dict[str, str]:
    """The scale of each study that the paper shows."""
    path = config_dir() / "paper.yaml"
    studies = yaml.safe_load(path.read_text(encoding="utf-8")).get("studies")
    if not isinstance(studies, dict) or not studies:
        raise UsageError(f"{path} has no `studies:`; write for example studies: {{bitnet: smoke}}.")
    return {str(name): str(scale) for name, scale in studies.items()}


def paper_runs() -> tuple[Run, ...]:
    """All runs that the paper rests on."""
    return tuple(run for name, scale in paper_scales().items() for run in expand(name, scale))
