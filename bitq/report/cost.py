"""Look up the parameters and multiply-accumulates of networks."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from bitq.io import read_json
from bitq.paths import measured_dir
from bitq.run import Run
from bitq.stats.cells import Cell

# Of one image, for each network of the grid. Counting needs torch: python -m bitq.verbs.remeasure costs
FILE = "costs.json"
GEOMETRY = ("model", "width", "stem", "dataset", "classes", "image_size")


def parameters(of: Cell) -> int | None:
    """Compute the number of parameters in the file from its bits per parameter."""
    known = of.rows[of.rows["file_bytes"].notna()]
    if known.empty:
        return None
    return round(8 * float(known["file_bytes"].iloc[0]) / float(known["bits_per_parameter"].iloc[0]))


def macs(of: Cell) -> int | None:
    """Return the multiply-accumulates of one image in convolutions and linear layers; None for an unlisted network."""
    return costs().get(_key(dict(of.rows.iloc[0][list(GEOMETRY)])), {}).get("macs")


@cache
def costs() -> dict[str, dict[str, int]]:
    """Read the recorded counts."""
    counted: dict[str, dict[str, int]] = read_json(measured_dir() / FILE)
    return counted


def cost_of(run: Run) -> dict[str, int]:
    """Return the recorded counts of a run's network."""
    return costs()[key_of(run)]


def counted(run: Run) -> bool:
    """Return whether a run's network is listed."""
    return key_of(run) in costs()


def key_of(run: Run) -> str:
    """Return the key under which a run's network is listed."""
    return _key(run.data.model_dump() | run.model_dump(include={"model", "width", "stem"}))


def _key(geometry: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={geometry[name]}" for name in GEOMETRY)
