"""Synthetic tables of runs: real runs of the grid (or described by hand) with invented measurements."""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import pyarrow as pa

from bitq.catalogue import published_width
from bitq.io import canonical_json
from bitq.results.columns import RUNS, schema
from bitq.run import Data, Distillation, Parent, Recipe, Run

SEEDS = (42, 123, 456)
Row = dict[str, Any]

MEASURED: Row = {
    "status": "done", "accuracy": 50.0, "best_accuracy": 51.0, "best_epoch": 1, "collapsed": False, "correct": 5000,
    "images": 10000, "file_bytes": 2_000_000, "file_sha256": "f11e", "float_bytes": 40_000_000, "compression": 20.0,
    "bits_per_packed_weight": 1.6, "bits_per_parameter": 1.7, "coverage": 1.0, "zeros": 0.4,
    "packed_weights": 11_164_352, "float_weights": 0, "bytes_codes": 1_900_000, "bytes_values_scales": 1000,
    "bytes_residuals": 0, "bytes_float_parameters": 60_000, "bytes_buffers": 30_000, "bytes_header": 9_000,
    "wall_seconds": 60.0,
    "peak_memory_bytes": 2**29,
    "images_per_second": 1000.0, "attempts": 1, "device": "cpu", "machine": "x86_64 AVX512", "threads": 1,
    "mode": "exact", "torch": "2.15", "code_sha256": "c0de",
}  # fmt: skip
SHIPPED = [column.name for column in RUNS if column.source.startswith("results.packed") or column.nullable]


def row(run: Run, **measured: Any) -> Row:
    """One row of runs.parquet; `measured` may change any column, also one of the configuration."""
    kd, start = run.distillation, run.start
    teacher = kd.teacher if kd else None
    recipe = run.recipe.model_dump(include={name for name in Recipe.model_fields} & {column.name for column in RUNS})
    described = {
        "id": run.id, "hash": run.hash, "study": run.study, "phase": run.phase, "scale": run.scale,
        "dataset": run.data.dataset, "variant": run.data.variant, "data_digest": run.data.digest,
        "classes": run.data.classes, "image_size": run.data.image_size, "model": run.model, "width": run.width,
        "stem": run.stem, "norm": run.norm, "method": run.method, "settings": canonical_json(run.settings),
        "keep": "+".join(run.keep), "arm": run.arm, "tag": run.tag, "kd": kd is not None,
        "teacher": teacher.id if teacher else None, "teacher_hash": teacher.hash if teacher else None,
        "start": start.id if start else None, "temperature": kd.temperature if kd else None,
        "alpha": kd.alpha if kd else None, "precision": run.precision, "seed": run.seed,
        "calibration": canonical_json(run.calibration.model_dump()) if run.calibration else "",
    }  # fmt: skip
    return MEASURED | described | recipe | measured


def diverged(run: Run) -> Row:
    """The row of a run that went non-finite: nothing was shipped."""
    return row(run) | dict.fromkeys(SHIPPED) | {"status": "diverged", "teacher": None}


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows with the types of the real table."""
    return pa.Table.from_pylist(list(rows), schema=schema(RUNS)).to_pandas()


def frame(runs: Iterable[Run], accuracy: Callable[[Run], float]) -> pd.DataFrame:
    """Runs with invented accuracies."""
    return table(row(run, accuracy=accuracy(run), best_accuracy=accuracy(run) + 0.2) for run in runs)


def run(arm: str = "fp32", seed: int = 42, dataset: str = "cifar10", model: str = "resnet18", **changes: Any) -> Run:
    """A run by the name of its arm, e.g. `bitnet-keep_conv1-kd`; `changes` are fields of Run."""
    method, *parts = arm.split("-")
    described: Row = {"study": "bitnet", "phase": "1", "scale": "full", "model": model, "seed": seed, "method": method}
    described["width"] = published_width(model)
    described["data"] = Data(
        dataset=dataset, variant="official", digest=f"digest of {dataset}", classes=10, image_size=32
    )
    teacher = Parent(id=f"bitnet/{dataset}/{model}/fp32/s42", hash="7eac4e7")
    for part in parts:
        if part.startswith("keep_"):
            described["keep"] = tuple(part.removeprefix("keep_").split("+"))
        elif part == "norm":
            described["norm"] = "layer"
        elif part == "imagenet_stem":
            described["stem"] = "imagenet"
        elif part == "kd":
            described["distillation"] = Distillation(teacher=teacher)
        else:
            described["tag"] = part
    return Run(**(described | changes))
