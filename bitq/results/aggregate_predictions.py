"""The predictions of all runs as one table, read after the other tables are written: they are most of all bytes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bitq.errors import DataError
from bitq.io import read_bytes, sha256
from bitq.results.columns import PREDICTED, from_repeated, from_values, schema
from bitq.results.forked import run_forked
from bitq.results.predictions import PREDICTIONS, read_labels


class Shipped(NamedTuple):
    """A run that shipped a file, and the digests under which its predictions and labels are known."""

    path: str  # relative to the results folder
    id: str
    hash: str
    predictions_sha256: str
    labels_sha256: str


def prediction_tables(root: Path, parts: Sequence[Sequence[Shipped]]) -> list[pa.Table]:
    """Read the predictions of each part, checked against their digests."""
    return list(run_forked([partial(_table, root, part) for part in parts]))


def _table(root: Path, runs: Sequence[Shipped]) -> pa.Table:
    """Make one row for each run; each label file is held once."""
    labels = {digest: read_labels(root, digest) for digest in dict.fromkeys(run.labels_sha256 for run in runs)}
    place = {digest: number for number, digest in enumerate(labels)}
    id_, hash_, labels_, predictions = PREDICTED
    arrays = [
        from_values(id_, [run.id for run in runs]),
        from_values(hash_, [run.hash for run in runs]),
        from_repeated(
            labels_, np.array([place[run.labels_sha256] for run in runs], dtype=np.int32), list(labels.values())
        ),
        from_values(predictions, [_read(root, run) for run in runs]),
    ]
    fields = [field.with_type(values.type) for field, values in zip(schema(PREDICTED), arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _read(root: Path, run: Shipped) -> bytes:
    path = root / run.path / PREDICTIONS
    predictions = read_bytes(path)
    if sha256(predictions) != run.predictions_sha256:
        raise DataError(f"{path} is damaged or from another run; bitq verify says what else is wrong.")
    return predictions
