"""The columns of {runs,curves,layers,predictions}.parquet: their order, their types, where each value stands."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bitq.errors import DataError
from bitq.records import Frozen
from bitq.results.rehearsal import Rehearsal
from bitq.results.schema import PARTS

# A tuple is a list of whole numbers.
ARROW = {
    str: pa.string(),
    bytes: pa.binary(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    tuple: pa.list_(pa.int64()),
}
CENSUS = "bitq"  # key of the census in a table's metadata


@dataclass(frozen=True)
class Column:
    """`source` is the place in a run's four records; "" where `aggregate` computes the value from several."""

    name: str
    kind: type
    source: str = ""
    nullable: bool = False


RUNS = (
    Column("id", str, "results.id"),
    Column("hash", str, "results.hash"),
    Column("study", str, "config.study"),
    Column("phase", str, "config.phase"),
    Column("scale", str, "config.scale"),
    Column("dataset", str, "config.data.dataset"),
    Column("variant", str, "config.data.variant"),
    Column("data_digest", str, "config.data.digest"),
    Column("classes", int, "config.data.classes"),
    Column("image_size", int, "config.data.image_size"),
    Column("model", str, "config.model"),
    Column("width", int, "config.width"),
    Column("stem", str, "config.stem"),
    Column("norm", str, "config.norm"),
    Column("method", str, "config.method"),
    Column("settings", str),  # canonical JSON
    Column("keep", str),  # joined by +; "" if every layer is quantized
    Column("arm", str, "config.arm"),
    Column("tag", str, "config.tag"),
    Column("kd", bool),
    Column("teacher", str, "config.distillation.teacher.id", nullable=True),
    Column("teacher_hash", str, "config.distillation.teacher.hash", nullable=True),
    Column("start", str, "config.start.id", nullable=True),
    Column("calibration", str),  # canonical JSON; "" if there is none
    Column("temperature", float, "config.distillation.temperature", nullable=True),
    Column("alpha", float, "config.distillation.alpha", nullable=True),
    Column("mixup", float, "config.recipe.mixup"),
    Column("label_smoothing", float, "config.recipe.label_smoothing"),
    Column("epochs", int, "config.recipe.epochs"),
    Column("batch", int, "config.recipe.batch"),
    Column("lr", float, "config.recipe.lr"),
    Column("weight_decay", float, "config.recipe.weight_decay"),
    Column("optimizer", str, "config.recipe.optimizer"),
    Column("augment", str, "config.recipe.augment"),
    Column("precision", str, "config.precision"),
    Column("seed", int, "config.seed"),
    Column("status", str, "results.status"),
    # Percent: of the packed file that was read back, last epoch, fp32. Null for a diverged run, which ships nothing.
    Column("accuracy", float, "results.packed.accuracy", nullable=True),
    Column("best_accuracy", float, "results.best_accuracy", nullable=True),  # best epoch on test, training precision
    Column("best_epoch", int, "results.best_epoch", nullable=True),  # from 0
    Column("collapsed", bool, "results.collapsed", nullable=True),
    Column("correct", int, "results.packed.correct", nullable=True),
    Column("images", int, "results.packed.images", nullable=True),
    Column("file_bytes", int, "results.packed.file_bytes", nullable=True),
    Column("file_sha256", str, "results.packed.sha256", nullable=True),
    Column("float_bytes", int, "results.packed.float_bytes", nullable=True),
    Column("compression", float, "results.packed.compression", nullable=True),
    Column("bits_per_packed_weight", float, "results.packed.audit.bits_per_packed_weight", nullable=True),
    Column("bits_per_parameter", float, "results.packed.audit.bits_per_parameter", nullable=True),
    Column("coverage", float, "results.packed.audit.coverage", nullable=True),
    Column("zeros", float, nullable=True),  # share of zeros among the packed weights
    Column("packed_weights", int, "results.packed.audit.packed_weights", nullable=True),
    Column("float_weights", int, "results.packed.audit.float_weights", nullable=True),
    # The parts of file_bytes.
    *(Column(f"bytes_{part}", int, nullable=True) for part in PARTS),
    # Of one image, in convolutions and linear layers: all, those with a code for a weight, those of two integers.
    Column("multiplications", int, "results.packed.coverage.multiplications", nullable=True),
    Column("packed_multiplications", int, "results.packed.coverage.packed_multiplications", nullable=True),
    Column("integer_multiplications", int, "results.packed.coverage.integer_multiplications", nullable=True),
    # What became of the inputs of layers in 16-bit floats, on all test images.
    Column("cast_inputs", int, nullable=True),
    Column("cast_overflowed", int, nullable=True),
    Column("cast_underflowed", int, nullable=True),
    Column("cast_subnormal", int, nullable=True),
    Column("wall_seconds", float, "env.wall_seconds"),
    Column("images_per_second", float, "env.images_per_second", nullable=True),
    Column("peak_memory_bytes", int, "env.peak_memory_bytes", nullable=True),
    Column("attempts", int, "env.attempts"),
    Column("device", str, "env.device"),
    Column("machine", str, "env.machine"),
    Column("threads", int, "env.threads"),
    Column("mode", str, "env.mode"),
    Column("torch", str),
    Column("code_sha256", str, "env.code_sha256"),
)

CURVES = (
    Column("id", str, "results.id"),
    Column("hash", str, "results.hash"),
    Column("epoch", int),  # from 0
    Column("lr", float, "history.lr"),
    Column("train_loss", float, "history.train_loss"),
    Column("train_accuracy", float, "history.train_accuracy"),
    Column("hard_loss", float, "history.hard_loss", nullable=True),
    Column("soft_loss", float, "history.soft_loss", nullable=True),
    Column("test_loss", float, "history.test_loss"),
    Column("test_accuracy", float, "history.test_accuracy"),
    Column("validation_accuracy", float, "history.validation_accuracy", nullable=True),
    Column("zeros", float, "history.zeros", nullable=True),
    Column("loss_scale", float, "history.loss_scale", nullable=True),
    Column("skipped_share", float, "history.skipped_share", nullable=True),
    Column("teacher_loss", float, "history.teacher_loss", nullable=True),
)

# One row for every layer of the packed file that ships as codes, in the order of the network.
LAYERS = (
    Column("id", str, "results.id"),
    Column("hash", str, "results.hash"),
    Column("layer", str, "name"),
    Column("levels", int, "levels"),
    Column("codes_used", int, "codes_used"),
    Column("values_per_scale", int, "values_per_scale"),
    Column("histogram", tuple, "histogram"),  # weights of each code, of the smallest value first
    Column("signs", tuple, "signs"),  # of their values
    Column("residual", int, "residual"),
    Column("weights", int, "weights"),
    Column("bits_per_weight", float, "bits_per_weight"),
    Column("zeros", float, "zeros"),
)


# One row for every run that shipped a file; byte i of both is of test image i, correctly classified where they agree.
PREDICTED = (
    Column("id", str, "results.id"),
    Column("hash", str, "results.hash"),
    Column("labels", bytes),
    Column("predictions", bytes),
)


class Census(Frozen):
    """How much of the grid a table shows: what a caption has to say. It travels in the metadata of all tables."""

    expected: int
    present: int
    missing: int
    scales: dict[str, tuple[str, ...]]  # study: the scales at which it is shown
    root: str  # digest over the files that were read, the same as in the verdict
    packed: int = 0  # runs that ship a file
    remeasured: int = 0  # of these, whose file was evaluated again and confirmed their results
    rehearsal: Rehearsal | None = None  # of failures, if the folder of results holds one


def schema(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([pa.field(column.name, ARROW[column.kind], column.nullable) for column in columns])


def read_census(table: Path) -> Census:
    """Read the census in a table's metadata."""
    metadata = pq.read_schema(table).metadata or {}
    if CENSUS.encode() not in metadata:
        raise DataError(f"{table} was not written by bitq aggregate; run that to write it.")
    return Census.model_validate_json(metadata[CENSUS.encode()])


# Arrays are made from buffers: pa.array() imports pandas, which takes longer than a whole aggregation.


def from_values(column: Column, values: Sequence[Any]) -> pa.Array:
    """Make a column from Python values, None where there is none."""
    present = np.array([value is not None for value in values], dtype=bool)
    if column.kind is tuple:
        return _from_lists(values)
    if column.kind not in (str, bytes):
        return from_numbers(column, np.array([value or 0 for value in values], dtype=column.kind), present)
    texts = [value if isinstance(value, bytes) else (value or "").encode() for value in values]
    return _array(column, present, pa.py_buffer(_ends(texts)), pa.py_buffer(b"".join(texts)))


def from_repeated(column: Column, value_of_row: npt.NDArray[np.int32], values: Sequence[Any]) -> pa.Array:
    """Make a column that holds each of `values` once, and for each row the number of its value."""
    rows = pa.Array.from_buffers(pa.int32(), len(value_of_row), [None, pa.py_buffer(value_of_row)])
    return pa.DictionaryArray.from_arrays(rows, from_values(column, values))


def _from_lists(values: Sequence[tuple[int, ...]]) -> pa.Array:
    numbers = np.fromiter(chain.from_iterable(values), dtype=np.int64)
    ends = pa.Array.from_buffers(pa.int32(), len(values) + 1, [None, pa.py_buffer(_ends(values))])
    return pa.ListArray.from_arrays(
        ends, pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
    )


def _ends(values: Sequence[Sized]) -> npt.NDArray[np.int32]:
    return np.cumsum([0, *map(len, values)], dtype=np.int32)


def from_numbers(column: Column, values: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> pa.Array:
    """Make a column from numbers, of which those that are not `present` are zero."""
    if not np.isfinite(values).all():
        raise DataError(f"column {column.name} would hold a number that is not finite; bitq verify says of which run.")
    return _array(column, present, _bits(values) if column.kind is bool else pa.py_buffer(values))


def _array(column: Column, present: npt.NDArray[np.bool_], *buffers: pa.Buffer) -> pa.Array:
    complete = bool(present.all())
    if not complete and not column.nullable:
        raise DataError(f"column {column.name} would lack a value; bitq verify says of which run.")
    return pa.Array.from_buffers(ARROW[column.kind], len(present), [None if complete else _bits(present), *buffers])


def _bits(flags: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
