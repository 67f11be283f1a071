"""All runs as typed tables: one row for each run, each epoch, each packed layer, and each run's predictions."""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from bitq.errors import DataError, UsageError
from bitq.io import canonical_json, read_bytes, write_atomic
from bitq.results.aggregate_predictions import Shipped, prediction_tables
from bitq.results.columns import (
    CENSUS,
    CURVES,
    LAYERS,
    RUNS,
    Census,
    Column,
    from_numbers,
    from_repeated,
    from_values,
    schema,
)
from bitq.results.folder import MODEL, folder_of
from bitq.results.forked import run_forked
from bitq.results.manifest import RESULTS, Files, entry, label_files, root_digest, shipped_files, under
from bitq.results.rehearsal import NAME as REHEARSAL
from bitq.results.rehearsal import read_rehearsal
from bitq.results.remeasured import read_remeasured
from bitq.results.schema import PARTS, Env, History, Packed, Results, parse
from bitq.run import Run

# A spreadsheet opens this many lines. A longer CSV is for nobody's eye, and the Parquet file holds all of it.
CSV_LINES = 2**20
# Runs that are read in a row. Their tables are row groups of the files, which have the same bytes on any machine.
PART = 500
# Columns whose values repeat: names, and the labels that runs share.
REPEATED = {column.name for column in (*RUNS, *CURVES, *LAYERS) if column.kind is str} | {"labels"}

REMEDY = "bitq verify says what else is wrong."


@dataclass(frozen=True)
class Stored:
    """The records of a run as they were read, with the digests of their files."""

    config: Run
    results: Results
    history: History
    env: Env
    files: Files


def aggregate(root: Path, runs: Sequence[Run], out: Path, verified: str | None = None) -> Census:
    """Write what is there of `runs` to `out` as {runs,curves,layers,predictions}.parquet, the first two as CSV too.

    Only what `verify` found complete makes sense here: nothing is written of results with another root than `verified`.
    """
    if not runs:
        raise UsageError("no run was selected, so there is nothing to aggregate; name a study and a scale that it has.")
    ordered = sorted({run.path: run for run in runs}.values(), key=row_order)
    starts = range(0, len(ordered), PART)
    parts = list(run_forked([partial(collect, root, ordered[start : start + PART]) for start in starts]))
    present = sum(part.runs.num_rows for part in parts)
    files = {path: file for part in parts for path, file in part.files.items()}
    census = census_of(runs, present, root_digest(files)).model_copy(update=further_records(root, files))
    if verified not in (None, census.root):
        raise DataError(f"the results in {root} have changed since they were verified; call bitq verify again.")
    write(out / "runs.parquet", [part.runs for part in parts], census)
    write(out / "curves.parquet", [part.curves.arrow() for part in parts], census)
    write(out / "layers.parquet", [part.layers for part in parts], census)
    (out / "predictions.parquet").unlink(missing_ok=True)  # of older results, should this one fail
    predictions = prediction_tables(root, [part.shipped for part in parts])
    write(out / "predictions.parquet", predictions, census, compression="zstd")
    return census


@dataclass(frozen=True)
class Part:
    """Some runs as tables, the largest one still in its most compact form, and the files that they were read from."""

    runs: pa.Table
    curves: "_Curves"
    layers: pa.Table
    shipped: list[Shipped]
    files: Files


def collect(root: Path, runs: Sequence[Run]) -> Part:
    """Read what is there of these runs."""
    table, curves, layers, shipped, files = _Rows(), _Curves(), _Layers(), list[Shipped](), Files()
    for run in runs:
        if stored := load(root, run):
            table.add(stored)
            curves.add(stored)
            layers.add(stored)
            if packed := stored.results.packed:
                shipped.append(Shipped(run.path, run.id, run.hash, packed.predictions_sha256, packed.labels_sha256))
            files |= under(run.path, stored.files) | label_files(stored.results)
    return Part(table.arrow(), curves, layers.arrow(), shipped, files)


def row_order(run: Run) -> tuple[str, str, str, str, str, int]:
    """Return what rows are sorted by."""
    return run.scale, run.study, run.data.dataset, run.model, run.arm, run.seed


def census_of(runs: Sequence[Run], present: int, root: str) -> Census:
    """Count how many of the expected runs a table shows, and at which scales."""
    expected = len({run.path for run in runs})
    studies = sorted({run.study for run in runs})
    scales = {study: tuple(sorted({run.scale for run in runs if run.study == study})) for study in studies}
    return Census(expected=expected, present=present, missing=expected - present, scales=scales, root=root)


def further_records(root: Path, files: Files) -> dict[str, Any]:
    """Collect what lies beside the runs: which were measured again, and what a rehearsal of failures found."""
    packed = [path.removesuffix(f"/{MODEL}") for path in files if path.endswith(f"/{MODEL}")]
    record, rehearsal = read_remeasured(root), root / REHEARSAL
    return {
        "packed": len(packed),
        "remeasured": sum(record.confirms(path, files) for path in packed),
        "rehearsal": read_rehearsal(rehearsal) if rehearsal.exists() else None,
    }


def load(root: Path, run: Run) -> Stored | None:
    """Read a run without the costly checks; None if it is missing."""
    folder = folder_of(run, root)
    if not (folder / RESULTS).exists():
        return None
    data = {name: read_bytes(folder / name) for name in ("config.json", "env.json", "history.json", RESULTS)}
    files = {name: entry(content) for name, content in data.items()}
    results = parse(Results, data[RESULTS], folder / RESULTS, REMEDY)
    expected = (run.hash, files["config.json"].sha256, files["history.json"].sha256)
    if (results.hash, results.config_sha256, results.history_sha256) != expected:
        raise DataError(f"{folder} does not hold {run.id} as it was trained; bitq verify says what is wrong.")
    history = parse(History, data["history.json"], folder / "history.json", REMEDY)
    env = parse(Env, data["env.json"], folder / "env.json", REMEDY)
    return Stored(run, results, history, env, files | shipped_files(results))


def write(path: Path, parts: Sequence[pa.Table], census: Census, compression: str = "snappy") -> None:
    """Write a table as Parquet, and beside it as CSV if that can hold it and is short enough to look at."""
    _write(path, lambda sink: _write_parquet(sink, parts, census, compression))
    csv, table = path.with_suffix(".csv"), pa.concat_tables(parts)
    if table.num_rows < CSV_LINES and not any(map(_is_no_cell, table.schema.types)):
        _write(csv, lambda sink: pyarrow.csv.write_csv(table, sink))
    else:
        csv.unlink(missing_ok=True)


def _is_no_cell(kind: pa.DataType) -> bool:
    """Has a cell of CSV no text for such a value?"""
    return bool(pa.types.is_list(kind) or pa.types.is_binary(kind))


def _write_parquet(sink: pa.BufferOutputStream, parts: Sequence[pa.Table], census: Census, compression: str) -> None:
    # Without Arrow's copy of the schema, a column of names that is held as a dictionary reads back as plain text.
    # Names repeat, numbers hardly do: looking for equal ones would take longer than all the rest.
    repeated = [field.name for field in parts[0].schema if field.name in REPEATED]
    with pq.ParquetWriter(
        sink, parts[0].schema, store_schema=False, use_dictionary=repeated, compression=compression
    ) as writer:
        for part in parts:
            writer.write_table(part)
        writer.add_key_value_metadata({CENSUS: census.model_dump_json()})


def _write(path: Path, fill: Callable[[pa.BufferOutputStream], None]) -> None:
    sink = pa.BufferOutputStream()
    fill(sink)
    write_atomic(path, memoryview(sink.getvalue()))


class _Rows:
    """The table of runs while it grows."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []

    def add(self, run: Stored) -> None:
        self.rows.append([value(run) for value in VALUES])

    def arrow(self) -> pa.Table:
        by_column = zip(*self.rows, strict=True) if self.rows else ([] for _ in RUNS)
        arrays = [from_values(column, values) for column, values in zip(RUNS, by_column, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema(RUNS))


class _Curves:
    """The table of epochs while it grows: the names of a run once, its curves end to end."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {"id": [], "hash": []}
        self.lengths: list[int] = []
        self.numbers = {column.name: array("d") for column in CURVES if column.kind is float}
        self.measured: dict[str, list[bool]] = {name: [] for name in self.numbers}

    def add(self, run: Stored) -> None:
        self.names["id"].append(run.results.id)
        self.names["hash"].append(run.results.hash)
        self.lengths.append(len(run.history.test_accuracy))
        for name, numbers in self.numbers.items():
            curve = getattr(run.history, name)
            numbers.fromlist(list(curve))
            self.measured[name].append(bool(curve))

    def arrow(self) -> pa.Table:
        arrays = [self._column(column, np.array(self.lengths, dtype=np.int64)) for column in CURVES]
        fields = [field.with_type(values.type) for field, values in zip(schema(CURVES), arrays, strict=True)]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _column(self, column: Column, lengths: npt.NDArray[np.int64]) -> pa.Array:
        rows = lengths.sum()
        if column.kind is str:
            run_of_row = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
            return from_repeated(column, run_of_row, self.names[column.name])
        if column.name == "epoch":
            starts = np.cumsum(lengths) - lengths
            return from_numbers(column, np.arange(rows) - np.repeat(starts, lengths), np.ones(rows, dtype=bool))
        measured = np.repeat(np.array(self.measured[column.name], dtype=bool), lengths)
        numbers = np.zeros(rows)
        numbers[measured] = self.numbers[column.name]
        return from_numbers(column, numbers, measured)


class _Layers:
    """The table of packed layers while it grows."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {column.name: [] for column in LAYERS}

    def add(self, run: Stored) -> None:
        layers = run.results.packed.audit.layers if run.results.packed else ()
        self.columns["id"] += [run.results.id] * len(layers)
        self.columns["hash"] += [run.results.hash] * len(layers)
        for column in LAYERS[2:]:
            self.columns[column.name] += map(attrgetter(column.source), layers)

    def arrow(self) -> pa.Table:
        arrays = [from_values(column, self.columns[column.name]) for column in LAYERS]
        return pa.Table.from_arrays(arrays, schema=schema(LAYERS))


def _reach(path: str) -> Callable[[Stored], Any]:
    """Follow a column's source; null where it ends early (no teacher, nothing packed)."""
    names = path.split(".")

    def value(run: Stored) -> Any:
        found: Any = run
        for name in names:
            found = getattr(found, name) if found is not None else None
        return found

    return value


def _zeros(packed: Packed | None) -> float | None:
    layers = packed.audit.layers if packed else ()
    if not layers:
        return None
    # fsum: plain sums differ in their last bit between versions of Python.
    return math.fsum(layer.zeros * layer.weights for layer in layers) / sum(layer.weights for layer in layers)


def _bytes(part: str) -> Callable[[Stored], int | None]:
    return lambda run: run.results.packed.parts[part] if run.results.packed else None


def _casts(counted: str) -> Callable[[Stored], int | None]:
    def total(run: Stored) -> int | None:
        layers = run.results.packed.casts if run.results.packed else ()
        return sum(getattr(layer, counted) for layer in layers) if layers else None

    return total


COMPUTED: dict[str, Callable[[Stored], Any]] = {
    "settings": lambda run: canonical_json(run.config.settings),
    "calibration": lambda run: canonical_json(run.config.calibration.model_dump()) if run.config.calibration else "",
    "keep": lambda run: "+".join(run.config.keep),
    "kd": lambda run: run.config.distillation is not None,
    "zeros": lambda run: _zeros(run.results.packed),
    "torch": lambda run: run.env.versions["torch"],
    **{f"bytes_{part}": _bytes(part) for part in PARTS},
    "cast_inputs": _casts("inputs"),
    **{f"cast_{what}": _casts(f"inputs_{what}") for what in ("overflowed", "underflowed", "subnormal")},
}
VALUES = [
    COMPUTED.get(column.name) or (_reach(column.source) if column.nullable else attrgetter(column.source))
    for column in RUNS
]
