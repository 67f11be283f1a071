"""Look up the counted parameters and multiply-accumulates of networks: one record for plan, jobs and paper."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from bitq.io import read_json
from bitq.paths import measured_dir
from bitq.run import Run

# Of one image, for each network of the grid. Counting needs torch: python -m bitq.verbs.remeasure costs
FILE = "costs.json"
GEOMETRY = ("model", "width", "stem", "dataset", "classes", "image_size")


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


def estimated_macs(run: Run) -> float:
    """Return the multiply-accumulates of a run's network; of an unlisted one, those of its like in proportion."""
    if counted(run):
        return cost_of(run)["macs"]
    alike = {key: cost["macs"] for key, cost in costs().items() if key.startswith(f"model={run.model} ")}
    if not alike:
        return max(cost["macs"] for cost in costs().values())
    key, macs = max(alike.items(), key=lambda each: each[1])
    known = dict(part.split("=") for part in key.split())
    size = run.data.image_size / int(known["image_size"]) * run.width / int(known["width"])
    return macs * size**2


def key_of(run: Run) -> str:
    """Return the key under which a run's network is listed."""
    return key(run.data.model_dump() | run.model_dump(include={"model", "width", "stem"}))


def key(geometry: Mapping[str, Any]) -> str:
    """Return the key of a network by its geometry."""
    return " ".join(f"{name}={geometry[name]}" for name in GEOMETRY)
