"""Encode the table of runs, their configurations, curves and packed layers as compact JSON values."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bitq.errors import DataError
from bitq.grid.commands import command
from bitq.grid.select import grid
from bitq.io import canonical_json
from bitq.run import Run

Json = dict[str, Any]
EPOCHS_SHOWN = 75  # of a longer curve, evenly spaced with the first and the last one
SHARE = 65535  # a share of 1; shares of codes are rounded to 16 bits


def encode(values: Sequence[Any]) -> Json:
    """Encode a column: each different value once if values repeat, and otherwise as a list.

    >>> encode(["a", "b", "a", "a"]), encode([1, 2])
    ({'values': ['a', 'b'], 'of': [0, 1, 0, 0]}, {'list': [1, 2]})
    """
    keys = [canonical_json(value) for value in values]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    if 2 * len(places) > len(keys):
        return {"list": list(values)}
    distinct = dict(zip(keys, values, strict=True))
    return {"values": list(distinct.values()), "of": [places[key] for key in keys]}


def run_columns(runs: pd.DataFrame) -> Json:
    """Encode every column of the table of runs."""
    return {str(name): encode(plain(runs[name])) for name in runs.columns}


def plain(values: "pd.Series[Any]") -> list[Any]:
    """Convert a column to Python values, None where there is none, whole numbers without a point."""
    known = values.dropna()
    found = values.astype(object).where(values.notna(), None).tolist()
    whole = pd.api.types.is_float_dtype(values) and bool((known % 1 == 0).all())
    return [int(value) if whole and value is not None else value for value in found]


def configurations(runs: pd.DataFrame) -> Json:
    """Encode the resolved configuration of every run by field, and the command that trains it."""
    configs = [dict(_fields(run.model_dump(mode="json"))) for run in _runs_of(runs)]
    names = dict.fromkeys(name for config in configs for name in config)
    fields = {name: encode([config.get(name) for config in configs]) for name in names}
    return {"fields": fields, "commands": [command(run) for run in _runs_of(runs)]}


def _runs_of(runs: pd.DataFrame) -> list[Run]:
    """Find the runs of a table in the grid."""
    planned = {run.hash: run for scale in sorted(runs["scale"].unique()) for run in grid(str(scale))}
    for name in runs.loc[~runs["hash"].isin(planned.keys()), "id"]:
        raise DataError(f"{name} is in the table of runs but not in the grid as it is now; call bitq aggregate again.")
    return [planned[digest] for digest in runs["hash"]]


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested records by their dotted path."""
    if isinstance(value, Mapping) and value and path != "settings":
        for name, inner in value.items():
            yield from _fields(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path, value


def learning_curves(runs: pd.DataFrame, curves: pd.DataFrame) -> Json:
    """Encode accuracy and loss by the number of epochs trained, of all runs end to end."""
    rows = _in_order(runs, curves)
    kept = [_spaced(len(of)) for of in rows]
    epochs = [1 + of["epoch"].to_numpy()[keep] for of, keep in zip(rows, kept, strict=True)]
    return {"epochs": encode([each.tolist() for each in epochs])} | {
        name: _base64(np.concatenate([of[name].to_numpy()[keep] for of, keep in zip(rows, kept, strict=True)]), "<f4")
        for name in ("test_accuracy", "train_loss")
    }


def _spaced(count: int) -> npt.NDArray[np.int64]:
    """Choose evenly spaced epochs.

    >>> _spaced(3).tolist(), len(_spaced(300)), int(_spaced(300)[-1])
    ([0, 1, 2], 75, 299)
    """
    return np.unique(np.linspace(0, count - 1, min(count, EPOCHS_SHOWN)).round().astype(np.int64))


def packed_layers(runs: pd.DataFrame, layers: pd.DataFrame) -> Json:
    """Encode the packed layers of all runs end to end: their sizes, and the share of weights of each code."""
    rows = _in_order(runs, layers)
    ordered = pd.concat(rows) if len(layers) else layers
    shares = [np.asarray(of, dtype=np.float64) / max(sum(of), 1) for of in ordered["histogram"]]
    scaled = np.concatenate([*shares, np.zeros(0)]) * SHARE
    return {
        "counts": [len(of) for of in rows],
        "signs": encode([[int(sign) for sign in of] for of in ordered["signs"]]),
        **{name: encode(plain(ordered[name])) for name in ("layer", "weights", "bits_per_weight", "codes_used")},
        "shares": _base64(scaled.round(), "<u2"),
    }


def _in_order(runs: pd.DataFrame, table: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a table by run, in the order of the runs; a run may have no rows."""
    of_run = {str(digest): rows for digest, rows in table.groupby("hash", sort=False)}
    return [of_run.get(digest, table.iloc[:0]) for digest in runs["hash"]]


def _base64(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
