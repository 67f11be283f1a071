"""Select the runs of a statistic: exactly one arm at a time, or an error."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bitq.errors import DataError, UsageError, one_of
from bitq.stats.families import group_of

Values = NDArray[np.float64]

# Columns that identify an arm at a place of the grid; a cell has one value of each.
PLACE = ("scale", "dataset", "variant", "data_digest", "classes", "image_size", "model", "width")
SAME_DATA = PLACE[:4]
TREATMENT = (
    *("stem", "norm", "method", "settings", "keep", "tag", "calibration"),
    *("kd", "teacher", "start", "temperature", "alpha"),
)
RECIPE = ("mixup", "label_smoothing", "epochs", "batch", "lr", "weight_decay", "optimizer", "augment", "precision")
# What arms of a seed must share for their initial weights and batches to be the same draws (bitq/rng.py).
DRAWS = (*PLACE, "stem", "batch")
# Measurements that count something: the whole, and the column that holds how many it consists of.
RESOLUTION = {
    "accuracy": (100.0, "images"),
    "best_accuracy": (100.0, "images"),
    "zeros": (1.0, "packed_weights"),
    "most_zeros": (1.0, "packed_weights"),
}
# Columns that should change a result by rounding alone, mixed only on request.
HARDWARE = ("device", "machine", "mode")
# Mixed without a request, but recorded: they differ as soon as a study is completed on another day.
NOTED = ("threads", "torch", "code_sha256")


@dataclass(frozen=True)
class Cell:
    """The runs of one arm, one a seed."""

    rows: pd.DataFrame

    @cached_property
    def kinds(self) -> dict[str, tuple[Any, ...]]:
        """Different values of every column that describes a run; one each where runs are compared."""
        columns = (*PLACE, *TREATMENT, *RECIPE, *HARDWARE, *NOTED, "arm")
        return {column: tuple(distinct(self.rows, column)) for column in columns}

    @property
    def label(self) -> str:
        """Name for people: data set/model/arm."""
        return "/".join(str(self.kinds[column][0]) for column in ("dataset", "model", "arm"))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, ascending, those of diverged runs included."""
        return tuple(int(seed) for seed in self.rows["seed"])

    @cached_property
    def diverged(self) -> tuple[int, ...]:
        """Seeds whose run became non-finite: they have no accuracy, and every statistic names them."""
        return tuple(int(seed) for seed in self.rows.loc[self.rows["status"] == "diverged", "seed"])

    @cached_property
    def hashes(self) -> dict[int, str]:
        """Hashes of the runs by seed."""
        return dict(zip(self.seeds, self.rows["hash"].astype(str), strict=True))

    @cached_property
    def folders(self) -> str:
        """Folder of the arm's results, with its seeds in braces."""
        place, _, _ = str(self.rows["id"].iloc[0]).rpartition("/")
        seeds = ",".join(f"s{seed}" for seed in self.seeds)
        return f"{self.kinds['scale'][0]}/{place}/{seeds if len(self.seeds) == 1 else '{' + seeds + '}'}"

    def resolution(self, column: str) -> float:
        """Return the smallest step of a measurement: one test image, or one weight; zero of a continuous one."""
        counted = RESOLUTION.get(column)
        if counted is None:
            return 0.0
        whole, of = counted
        known = self.rows[of].dropna()
        return whole / float(known.min()) if len(known) and known.min() > 0 else 0.0

    @cached_property
    def mixed(self) -> tuple[str, ...]:
        """Columns of hardware and software in which the runs differ though their arm is the same."""
        return tuple(column for column in HARDWARE + NOTED if len(self.kinds[column]) > 1)

    def by_seed(self, column: str = "accuracy") -> dict[int, float]:
        """Return the values of the runs that have one; `diverged` is 1 for a diverged run and 0 for any other."""
        if column == "diverged":
            return {seed: float(seed in self.diverged) for seed in self.seeds}
        known = zip(self.rows["seed"].tolist(), self.rows[column].tolist(), strict=True)
        return {seed: float(value) for seed, value in known if pd.notna(value)}

    def values(self, column: str = "accuracy") -> Values:
        """Return the values of `by_seed` in the order of their seeds."""
        return np.array(list(self.by_seed(column).values()))


def read_table(parquet: Path) -> pd.DataFrame:
    """Read a table that `bitq aggregate` wrote."""
    if not parquet.exists():
        raise DataError(f"{parquet} does not exist; write it with: bitq aggregate --out {parquet.parent}.")
    try:
        return pd.read_parquet(parquet)
    except (OSError, ValueError) as error:  # pyarrow raises both
        raise DataError(f"{parquet} cannot be read ({error}); write it anew with: bitq aggregate.") from error


def read_runs(parquet: Path) -> pd.DataFrame:
    """Read the table with one row a run."""
    table = read_table(parquet)
    if "arm" not in table:
        raise DataError(
            f"{parquet} does not hold runs, but {', '.join(table.columns[:3])} …; give the runs.parquet beside it."
        )
    return table


def cell(frame: pd.DataFrame, across: Collection[str] = (), **criteria: Any) -> Cell:
    """Select the runs of one arm, e.g. `cell(runs, dataset="cifar10", model="resnet18", arm="bitnet-kd")`.

    A criterion is a value, a list of values or, for `settings`, a mapping that the settings must contain. A selection
    that would pool different arms is refused; `across` names columns of hardware that may differ.
    """
    found = find(frame, across, **criteria)
    if found is None:
        raise _nothing_found(frame, criteria)
    return found


def find(frame: pd.DataFrame, across: Collection[str] = (), **criteria: Any) -> Cell | None:
    """Select the runs of one arm as `cell` does, or return None if there are none."""
    for column in across:
        if column not in HARDWARE:
            raise one_of("column to mix", column, HARDWARE)
    rows = matching(frame, **criteria)
    if rows.empty:
        return None
    found = Cell(rows.sort_values("seed"))
    _check_pooling(found, across)
    return found


def matching(frame: pd.DataFrame, **criteria: Any) -> pd.DataFrame:
    """Select the rows that meet all criteria, of whatever arm: to count runs, not to average them."""
    met = np.ones(len(frame), dtype=bool)
    for column, wanted in criteria.items():
        met &= _matches(frame, column, wanted).to_numpy(dtype=bool)
    return frame[met]


def distinct(rows: pd.DataFrame, column: str) -> list[Any]:
    """List the different values of a column; a parent counts without its seed and the extension of its study, a device
    without its number."""
    if column not in rows.columns:
        raise DataError(f"the table of runs has no column {column!r}; write it anew with: bitq aggregate.")
    return [None if pd.isna(value) else value for value in _normalised(rows, column).unique()]


def _normalised(rows: pd.DataFrame, column: str) -> "pd.Series[Any]":
    values = rows[column]
    if column in ("teacher", "start"):
        arms = values.fillna("").str.replace(r"/s\d+$", "", regex=True)
        return arms.str.replace(r"^[^/]+", lambda study: group_of(study[0]), regex=True)
    if column == "device":
        return values.str.split(":").str[0]
    return values


def _matches(rows: pd.DataFrame, column: str, wanted: Any) -> "pd.Series[bool]":
    if column not in rows.columns:
        raise one_of("criterion", column, rows.columns)
    values = _normalised(rows, column)
    if isinstance(wanted, Mapping):
        return values.map(lambda text: wanted.items() <= json.loads(text).items()).astype(bool)
    if isinstance(wanted, Collection) and not isinstance(wanted, str):
        return values.isin(list(wanted))
    return values == wanted


def _nothing_found(frame: pd.DataFrame, criteria: Mapping[str, Any]) -> UsageError:
    """Build the error that names the first criterion no run meets."""
    for column, wanted in criteria.items():
        met = matching(frame, **{column: wanted})
        if met.empty:
            return one_of(column, wanted, distinct(frame, column))
        frame = met
    return UsageError("the table has no runs; write it with: bitq aggregate.")


def _check_pooling(of: Cell, across: Collection[str]) -> None:
    for column, values in of.kinds.items():
        if len(values) > 1 and column not in (*across, *NOTED):
            shown = ", ".join(sorted(repr(value) for value in values))
            way_out = f", or allow it with across=[{column!r}]" if column in HARDWARE else ""
            raise UsageError(f"the selection pools runs of {column} {shown}; choose one with {column}=…{way_out}.")
    seeds = of.rows["seed"]
    if seeds.duplicated().any():
        doubled = of.rows.loc[seeds.duplicated(keep=False), "id"]
        raise UsageError(f"the selection holds one seed twice ({', '.join(doubled)}); choose one with study=….")
