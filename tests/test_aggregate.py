"""The tables hold what the files hold: the same values, types and order, whoever writes them and how often."""

import csv
import os
import random
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitq.errors import DataError, UsageError
from bitq.grid.select import Selection, grid
from bitq.results import aggregate as module
from bitq.results.aggregate import COMPUTED, aggregate
from bitq.results.columns import CURVES, LAYERS, PREDICTED, RUNS, Column, read_census, schema
from bitq.results.folder import folder_of, read
from bitq.results.schema import RECORDS
from bitq.results.verify import verify
from bitq.run import Run
from tests.synthetic import pretend, pretend_all

GRID = Selection(datasets=["cifar10", "cifar100"], seeds=[42, 123]).of(grid("smoke", ["bitnet"]))
DIVERGED, MISSING = GRID[5], GRID[9]
CONTRACT = (("runs", RUNS), ("curves", CURVES), ("layers", LAYERS), ("predictions", PREDICTED))
TABLES = ("runs.parquet", "curves.parquet", "layers.parquet", "predictions.parquet", "runs.csv", "curves.csv")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs but one, of which one diverged."""
    root = tmp_path_factory.mktemp("results")
    pretend_all((run for run in GRID if run not in (DIVERGED, MISSING)), root)
    pretend(DIVERGED, root, diverged_in=1)
    return root


@pytest.fixture(scope="module")
def out(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    aggregate(root, GRID, out)
    return out


def rows(table: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(table).to_pylist()
    return found


def annotation(column: Column) -> tuple[type, bool]:
    """Type and nullability of a column's source, as the records declare them."""
    record, *names = column.source.split(".")
    kind: Any = RECORDS[record]
    nullable = False
    for name in names:
        kind = declared(kind, name)
        if type(None) in get_args(kind):
            nullable, (kind,) = True, tuple(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    if get_origin(kind) is tuple:  # a curve; one without a default is always there
        kind, nullable = get_args(kind)[0], not RECORDS[record].model_fields[names[-1]].is_required()
    return kind, nullable


def declared(record: Any, name: str) -> Any:
    if name in record.model_fields:
        return record.model_fields[name].annotation
    found = getattr(record, name)
    return get_type_hints(found.func if isinstance(found, cached_property) else found.fget)["return"]


@pytest.mark.parametrize(
    "column", [column for column in RUNS + CURVES if column.source], ids=lambda column: column.name
)
def test_columns_have_the_type_of_their_field(column: Column) -> None:
    assert (column.kind, column.nullable) == annotation(column)


def test_every_column_has_one_source() -> None:
    assert {column.name for column in RUNS if not column.source} == COMPUTED.keys()


def test_the_files_have_the_types_of_the_contract(out: Path) -> None:
    for name, columns in CONTRACT:
        assert pq.read_schema(out / f"{name}.parquet").equals(schema(columns))


def test_every_run_is_one_row_in_order(out: Path) -> None:
    found = rows(out / "runs.parquet")
    order = ("scale", "study", "dataset", "model", "arm", "seed")
    assert [tuple(row[name] for name in order) for row in found] == sorted(
        tuple(row[name] for name in order) for row in found
    )
    assert {row["id"] for row in found} == {run.id for run in GRID if run != MISSING}
    assert len(found) == len(GRID) - 1


def test_rows_hold_what_the_files_hold(root: Path, out: Path) -> None:
    found = {row["id"]: row for row in rows(out / "runs.parquet")}
    for run in GRID:
        if run == MISSING:
            continue
        row, files = found[run.id], read(folder_of(run, root))
        teacher, packed = run.distillation, files.results.packed
        assert (row["hash"], row["seed"], row["lr"]) == (run.hash, run.seed, run.recipe.lr)
        assert (row["kd"], row["teacher"]) == (teacher is not None, teacher.teacher.id if teacher else None)
        assert (row["temperature"], row["alpha"]) == ((4.0, 0.9) if teacher else (None, None))
        assert (row["keep"], row["settings"], row["torch"]) == ("+".join(run.keep), "{}", "2.15.0")
        assert row["best_accuracy"] == max(files.history.test_accuracy)
        assert row["wall_seconds"] == files.env.wall_seconds
        assert row["accuracy"] == (packed.accuracy if packed else None)
        assert row["bytes_codes"] == (packed.parts["codes"] if packed else None)
        parts = [row[column.name] for column in RUNS if column.name.startswith("bytes_")]
        assert not packed or sum(parts) == row["file_bytes"]
        if packed and packed.audit.layers:
            weights = sum(layer.weights for layer in packed.audit.layers)
            zeros = sum(layer.zeros * layer.weights for layer in packed.audit.layers)
            assert row["zeros"] == pytest.approx(zeros / weights)
        else:
            assert row["zeros"] is row["bits_per_packed_weight"] is None


def test_a_diverged_run_has_nulls_and_no_number_is_made_up(out: Path) -> None:
    row = next(row for row in rows(out / "runs.parquet") if row["id"] == DIVERGED.id)
    assert row["status"] == "diverged"
    nulls = {name for name, value in row.items() if value is None}
    assert {"accuracy", "correct", "images", "file_bytes", "coverage", "zeros", "bytes_header", "collapsed"} <= nulls
    assert nulls.isdisjoint({"best_accuracy", "epochs", "wall_seconds"})


def test_curves_hold_every_epoch(root: Path, out: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(out / "curves.parquet"):
        found.setdefault(row["id"], []).append(row)
    assert len(found[DIVERGED.id]) == 1
    for run in GRID:
        if run == MISSING:
            continue
        curves, epochs = read(folder_of(run, root)).history, found[run.id]
        assert [row["epoch"] for row in epochs] == list(range(len(curves.test_accuracy)))
        assert {row["hash"] for row in epochs} == {run.hash}
        for column in CURVES[3:]:
            values = getattr(curves, column.name) or (None,) * len(epochs)
            assert tuple(row[column.name] for row in epochs) == values


def test_layers_hold_the_audit_of_every_packed_file(root: Path, out: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(out / "layers.parquet"):
        found.setdefault(row["id"], []).append(row)
    audits = {run.id: read(folder_of(run, root)).results.packed for run in GRID if run != MISSING}
    assert found.keys() == {id for id, packed in audits.items() if packed and packed.audit.layers}
    for id, layers in found.items():
        packed = audits[id]
        assert packed
        for row, layer in zip(layers, packed.audit.layers, strict=True):
            said = {"name": row.pop("layer"), **{key: tuple(row.pop(key)) for key in ("histogram", "signs")}} | row
            assert said == layer.model_dump() | {"id": id, "hash": row["hash"]}


def test_the_tables_say_how_much_of_the_grid_they_show(root: Path, out: Path) -> None:
    census = read_census(out / "runs.parquet")
    assert (census.expected, census.present, census.missing) == (len(GRID), len(GRID) - 1, 1)
    assert census.scales == {"bitnet": ("smoke",)}
    assert census.root == verify(root, GRID, allow_missing=True).root
    assert all(read_census(out / f"{name}.parquet") == census for name, _ in CONTRACT)


def test_a_table_of_somebody_else_has_no_census(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array(["x"])}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="bitq aggregate"):
        read_census(tmp_path / "x.parquet")


def test_writing_twice_gives_equal_bytes(root: Path, out: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere, später"))
    again = [*random.Random(0).sample(GRID, len(GRID)), GRID[0]]
    aggregate(moved, again, tmp_path / "build")
    for name in TABLES:
        assert (tmp_path / "build" / name).read_bytes() == (out / name).read_bytes(), name


def test_bytes_do_not_depend_on_the_number_of_processors(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", 7)
    for processors in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: range(count))
        aggregate(root, GRID, tmp_path / str(processors))
    for name in TABLES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes(), name
    runs = rows(tmp_path / "3" / "runs.parquet")
    assert [row["seed"] for row in runs] == [run.seed for run in sorted(GRID, key=module.row_order) if run != MISSING]


def test_an_error_in_one_of_several_processes_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    copy = Path(shutil.copytree(root, tmp_path / "results"))
    (folder_of(GRID[-1], copy) / "env.json").write_text("{}")
    with pytest.raises(DataError, match="env.json"):
        aggregate(copy, GRID, tmp_path / "build")


def test_nothing_is_written_of_results_that_changed_since_they_were_verified(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have changed since they were verified"):
        aggregate(root, GRID, tmp_path / "build", "0" * 64)
    assert not (tmp_path / "build").exists()


def test_the_csv_beside_a_table_says_the_same(out: Path) -> None:
    for name in ("runs", "curves"):
        with open(out / f"{name}.csv", newline="") as file:
            read_back = list(csv.DictReader(file))
        for text, row in zip(read_back, rows(out / f"{name}.parquet"), strict=True):
            assert text.keys() == row.keys()
            assert {key for key, value in text.items() if value == ""} == {
                key for key, value in row.items() if value in (None, "")
            }
            assert all(float(text[key]) == value for key, value in row.items() if isinstance(value, float))


def test_a_csv_too_long_to_open_is_not_written_and_no_old_one_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate(root, GRID[:2], tmp_path)
    monkeypatch.setattr(module, "CSV_LINES", 10)
    aggregate(root, GRID[:6], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs.parquet",
        "runs.csv",
        "curves.parquet",
        "layers.parquet",
        "predictions.parquet",
    }


def test_no_results_give_empty_tables_of_the_right_types(tmp_path: Path) -> None:
    census = aggregate(tmp_path / "absent", GRID, tmp_path)
    assert (census.present, census.missing) == (0, len(GRID))
    for name, columns in CONTRACT:
        assert pq.read_table(tmp_path / f"{name}.parquet").schema.equals(schema(columns))
        assert rows(tmp_path / f"{name}.parquet") == []
    with pytest.raises(UsageError, match="nothing to aggregate"):
        aggregate(tmp_path, (), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "history.json", "results.json", "env.json"])
def test_files_that_do_not_belong_together_give_no_table(name: str, tmp_path: Path) -> None:
    one, other = GRID[:2]
    pretend_all((one, other), tmp_path)
    path = folder_of(one, tmp_path) / name
    if name == "env.json":  # no digest but the manifest's covers it
        path.write_text("{}")
    else:
        shutil.copy(folder_of(other, tmp_path) / name, path)
    with pytest.raises(DataError, match="bitq verify"):
        aggregate(tmp_path, (one, other), tmp_path / "build")
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_no_table_holds_a_number_that_is_none(number: str, tmp_path: Path) -> None:
    run: Run = GRID[0]
    pretend(run, tmp_path)
    path = folder_of(run, tmp_path) / "env.json"
    path.write_text(path.read_text().replace("1660.7", number))
    with pytest.raises(DataError, match="images_per_second"):
        aggregate(tmp_path, [run], tmp_path / "build")


def test_aggregating_loads_no_heavy_library(root: Path, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        from bitq.grid.select import grid
        from bitq.results.aggregate import aggregate
        aggregate(Path({str(root)!r}), grid("smoke"), Path({str(tmp_path)!r}))
        print({{"torch", "pandas", "matplotlib", "scipy"}} & set(sys.modules))"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
