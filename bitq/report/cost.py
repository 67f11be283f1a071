"""Rows of the tables of bytes and speed: sizes on disk, parameters, multiply-accumulates, measured images a second."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from bitq.io import read_json
from bitq.report.names import BITNET_DATASETS, BITNET_MODELS, LAYERS
from bitq.report.query import Query
from bitq.run import Run
from bitq.stats.cells import Cell
from bitq.stats.inference import mean

Row = dict[str, Any]
SIZED = ("fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS), "ttq")
# Multiply-accumulates of one image, and parameters, of each network of the grid. Counting needs torch, so the counts
# are kept beside this module; python -m bitq.verbs.remeasure costs writes them anew.
COSTS = Path(__file__).with_name("costs.json")
GEOMETRY = ("model", "width", "stem", "dataset", "classes", "image_size")


def model_size(query: Query) -> list[Row]:
    """Tabulate the bytes on disk of every treatment of a network, on the first data set that has runs of it."""
    rows: list[Row | None] = []
    for model in BITNET_MODELS:
        sizes = ([_size(query, dataset, model, arm) for arm in SIZED] for dataset in BITNET_DATASETS)
        rows += next(filter(any, sizes), [])
    return [row for row in rows if row]


def _size(query: Query, dataset: str, model: str, arm: str) -> Row | None:
    of = query.cell(dataset, model, arm)
    if of is None:
        return None
    columns = ("file_bytes", "compression", "coverage", "bits_per_packed_weight", "bits_per_parameter", "zeros")
    return {"model": model, "dataset": dataset, "arm": arm, "parameters": parameters(of)} | {
        column: mean(of.values(column)) for column in columns
    }


def efficiency(query: Query) -> list[Row]:
    """Tabulate parameters, multiply-accumulates, bytes and speed of training."""
    rows = []
    for model, dataset in product(BITNET_MODELS, BITNET_DATASETS):
        cells = {arm: query.cell(dataset, model, arm) for arm in ("fp32", "bitnet", "ttq")}
        there = [of for of in cells.values() if of]
        if there:
            row = {"model": model, "dataset": dataset, "parameters": parameters(there[0]), "macs": macs(there[0])}
            rows.append(row | {arm: _speed(of) for arm, of in cells.items()})
    return rows


def _speed(of: Cell | None) -> Row | None:
    if of is None:
        return None
    return {"bytes": mean(of.values("file_bytes")), "images_per_second": mean(of.values("images_per_second"))}


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
    """Read the committed counts."""
    counted: dict[str, dict[str, int]] = read_json(COSTS)
    return counted


def cost_of(run: Run) -> dict[str, int]:
    """Return the committed counts of a run's network."""
    return costs()[key_of(run)]


def counted(run: Run) -> bool:
    """Return whether a run's network is listed."""
    return key_of(run) in costs()


def key_of(run: Run) -> str:
    """Return the key under which a run's network is listed."""
    return _key(run.data.model_dump() | run.model_dump(include={"model", "width", "stem"}))


def _key(geometry: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={geometry[name]}" for name in GEOMETRY)
