"""Print the measurements of packed files of the study on precision under other engines."""

from typing import Any

from bitq.io import read_json
from bitq.paths import measured_dir
from bitq.report.columns import Column
from bitq.report.query import Query
from bitq.report.table import ANYWHERE, Table
from bitq.report.tex import number, percent, scientific
from bitq.studies.precision.arms import BITS, LINEAR

FILE = "backends.json"  # python -m bitq.verbs.remeasure backends RESULTS writes it anew
ENGINES = (
    ("int8-ptq_minmax", "torchao"),
    ("int4-ptq_minmax", "torchao"),
    ("int2-ptq_minmax", "torchao"),
    ("int8-keep_conv-linear_ptq", "torchao"),
    ("int8-ptq_a8_static", "pt2e"),
    ("int4-ptq_a8_adaptive", "pt2e"),
    ("int8-ptq_a8_static", "fast"),
    ("int4-ptq_a8_adaptive", "fast"),
    ("int8-ptq_a8_dynamic", "fast"),
)


def measured(query: Query) -> list[dict[str, Any]]:
    """List the measurements of the files that are shown, without those of other files of the same arms."""
    labels = {arm: label for arms in (*BITS.values(), LINEAR) for arm, label in arms.items()}
    runs = query.sources.runs
    shipped = dict(zip(runs["hash"], runs["file_sha256"], strict=True))
    path = measured_dir() / FILE
    records = read_json(path) if path.exists() else []
    found = [row for row in records if row.get("hash") in shipped and row["file_sha256"] == shipped[row["hash"]]]
    query.hashes.update(row["hash"] for row in found)
    return [query.track(row) | {"label": labels[row["arm"]]} for row in found]


TABLE = Table(
    "precision_backends",
    measured,
    (
        Column("File", lambda row, _: row["label"], "l"),
        Column("Engine", lambda row, _: row["backend"], "l"),
        Column("weights", lambda row, _: percent(row["weights"]), over=r"integers, \%"),
        Column("multipl.", lambda row, _: percent(row["multiplications"]), over=r"integers, \%"),
        Column("bitq", lambda row, _: number(row["ours"]), over=r"accuracy, \%"),
        Column("engine", lambda row, _: number(row["accuracy"]), over=r"accuracy, \%"),
        Column(r"answer, \%", lambda row, _: percent(row["same_predictions"]), over="same"),
        Column("difference", lambda row, _: scientific(row["largest_difference"]), over="largest"),
    ),
    "Packed files under torchao (integer weights), its PT2E flow for x86 (integer weights and activations), both told "
    "the codes, scales and zero points that ship, and bitq's own integer kernels (fast). Weights and multiplications "
    "that the engine computes from integers, found on its tensors, in percent; accuracy here and there; test images "
    "with the same answer, and the largest difference of a logit.<% if rows %> One file each, seed << rows | "
    "map(attribute='seed') | unique | list | listed >>, n = 1.<% endif %>",
    position=ANYWHERE,
)
