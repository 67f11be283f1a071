"""Rows, drawings and numbers of the study on precision."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bitq.io import read_json
from bitq.report import draw
from bitq.report.query import Query
from bitq.report.style import BLACK
from bitq.report.tex import number, scientific, small_percent
from bitq.report.values import Number, count, measure
from bitq.stats.cells import Cell
from bitq.stats.inference import mean

Row = dict[str, Any]
PLACE = DATASET, MODEL = "cifar100", "vgg11"
TRAINED = {"fp32": "FP32", "fp32-trained_bf16": "bf16", "fp32-trained_fp16": "fp16, loss scaling"}
CASTS = {"fp16": "fp16", "bf16": "bf16"}
# Group in print → arm → its name there.
BITS: dict[str, dict[str, str]] = {
    "After training, weights": {f"int{bits}-ptq": f"int{bits}, MSE range" for bits in (8, 7, 6, 5, 4, 3, 2)},
    "… with the range of the largest weight": {f"int{bits}-ptq_minmax": f"int{bits}, minmax" for bits in (8, 4, 3, 2)},
    "… with the range of all but the tails": {f"int{bits}-ptq_percentile": f"int{bits}, percentile" for bits in (8, 4)},
    "… with one step for all channels": {f"int{bits}-ptq_tensor": f"int{bits}, per tensor" for bits in (8, 4)},
    "… with corrected biases": {f"int{bits}-ptq_bias": f"int{bits}" for bits in (4, 3, 2)},
    "… and weights rounded for the outputs": {f"int{bits}-ptq_adaptive": f"int{bits}" for bits in (4, 3, 2)},
    "After training, weights and 8-bit activations": {
        "int8-ptq_a8_static": "W8A8, static, minmax",
        "int8-ptq_a8_adaptive": "W8A8, static, rounded for the outputs",
        "int8-ptq_a8_dynamic": "W8A8, dynamic",
        "int4-ptq_a8_adaptive": "W4A8, static, rounded for the outputs",
    },
    "Trained on with quantized weights": {f"lsq-w{bits}": f"LSQ, {bits} bits" for bits in (8, 4, 3, 2)}
    | {f"dorefa-w{bits}": f"DoReFa, {bits} bits" for bits in (4, 2)}
    | {f"lsq-w{bits}a8": f"LSQ, W{bits}A8" for bits in (8, 4)},
    "Trained on in full precision": {"fp32-trained_on": "FP32"},
}
LINEAR = {
    "int8-keep_conv-linear_ptq": "int8, linear layers only",
    "int8-ptq_minmax": "int8, all layers",
    "int4-keep_conv-linear_ptq": "int4, linear layers only",
    "int4-ptq_minmax": "int4, all layers",
}
# Trained arm → the one after training in as many bits, which it should match.
MATCHES = {f"lsq-w{bits}": f"int{bits}-ptq" for bits in (8, 4, 3, 2)}
# Lines of the figure over bits per weight.
CURVES = {
    "after training": ("int2-ptq", "int3-ptq", "int4-ptq", "int5-ptq", "int6-ptq", "int7-ptq", "int8-ptq", "fp16"),
    "rounded for the outputs": ("int2-ptq_adaptive", "int3-ptq_adaptive", "int4-ptq_adaptive"),
    "trained on (LSQ)": ("lsq-w2", "lsq-w3", "lsq-w4", "lsq-w8"),
    "trained on (DoReFa)": ("dorefa-w2", "dorefa-w4"),
}
PARTS = ("codes", "values_scales", "float_parameters", "buffers", "header")
# Files under other engines. Running those needs torch, so the measurements are kept beside this module;
# python -m bitq.verbs.remeasure backends RESULTS writes them anew.
BACKENDS = Path(__file__).with_name("backends.json")
ENGINES = (
    ("int8-ptq_minmax", "torchao"),
    ("int4-ptq_minmax", "torchao"),
    ("int2-ptq_minmax", "torchao"),
    ("int8-keep_conv-linear_ptq", "torchao"),
    ("int8-ptq_a8_static", "pt2e"),
    ("int4-ptq_a8_adaptive", "pt2e"),
)


# --- tables -----------------------------------------------------------------------------------------------------------


def training(query: Query) -> list[Row]:
    """Tabulate training in 32 and 16 bits on equal batches: accuracy, skipped steps, loss scale, time, memory."""
    rows = []
    for arm, label in TRAINED.items():
        row, of = _scored(query, arm, label, "fp32"), query.cell(*PLACE, arm)
        if of:
            curves = query.curves(*PLACE, arm)
            rows.append(
                row
                | {
                    "diverged": len(of.diverged),
                    "lost": _mean(curves, "skipped_share"),
                    "scale": _last(curves, "loss_scale"),
                    "seconds": mean(of.values("wall_seconds")),
                    "images_per_second": mean(of.values("images_per_second")),
                    "peak": _peak(of.rows["peak_memory_bytes"]),
                }
            )
    return rows


def _peak(memory: "pd.Series[float]") -> float | None:
    """Average peak memory in MiB over the runs that recorded it."""
    known = memory.dropna()
    return None if known.empty else float(known.mean()) / 2**20


def _mean(curves: pd.DataFrame, column: str) -> float | None:
    values = curves[column].dropna()
    return None if values.empty else float(values.mean())


def _last(curves: pd.DataFrame, column: str) -> float | None:
    values = curves[curves["epoch"] == curves["epoch"].max()][column].dropna()
    return None if values.empty else float(values.median())


def casts(query: Query) -> list[Row]:
    """Tabulate casts to 16 bits: accuracy, bytes, and values beyond the range of the format."""
    rows = []
    for arm, label in CASTS.items():
        of = query.cell(*PLACE, arm)
        if of:
            inputs = sum(of.values("cast_inputs"))
            counts = {
                what: sum(of.values(f"cast_{what}")) / inputs if inputs else None
                for what in ("overflowed", "underflowed", "subnormal")
            }
            rows.append(_scored(query, arm, label, "fp32") | counts)
    return rows


def bits(query: Query) -> list[Row]:
    """Tabulate all layers in 8 to 2 bits, quantized after training and trained on."""
    rows = [
        {"group": group} | _scored(query, arm, label, "fp32")
        for group, arms in BITS.items()
        for arm, label in arms.items()
    ]
    return [row for row in rows if row["score"]]


def linear(query: Query) -> list[Row]:
    """Tabulate the original's linear layers only, and all layers in as many bits."""
    rows = [_scored(query, arm, label, "fp32") for arm, label in LINEAR.items()]
    return [row for row in rows if row["score"]]


def components(query: Query) -> list[Row]:
    """Tabulate the bytes of each file by component."""
    arms = {"fp32": "FP32"} | CASTS | BITS["After training, weights"] | LINEAR
    rows = [_scored(query, arm, label, None) for arm, label in arms.items() if arm != "int8-ptq_minmax"]
    return [row for row in rows if row["score"]]


def backends(query: Query) -> list[Row]:
    """Tabulate the same files under torchao, without measurements of files that are not the ones shown."""
    labels = {arm: label for arms in (*BITS.values(), LINEAR) for arm, label in arms.items()}
    runs = query.sources.runs
    shipped = dict(zip(runs["hash"], runs["file_sha256"], strict=True))
    measured = read_json(BACKENDS) if BACKENDS.exists() else []
    found = [row for row in measured if row.get("hash") in shipped and row["file_sha256"] == shipped[row["hash"]]]
    query.hashes.update(row["hash"] for row in found)
    return [query.read(row) | {"label": labels[row["arm"]]} for row in found]


def _scored(query: Query, arm: str, label: str, other: str | None) -> Row:
    of = query.cell(*PLACE, arm)
    row = {
        "arm": arm,
        "label": label,
        "score": query.score(*PLACE, arm),
        "difference": query.difference(*PLACE, arm, other) if other and other != arm else None,
        "packed": _share(of, "packed_multiplications"),
        "integer": _share(of, "integer_multiplications"),
        "epochs": epochs_to_match(query, arm),
    }
    columns = ("file_bytes", "compression", "coverage", "bits_per_packed_weight", "bits_per_parameter")
    return row | {
        column: mean(of.values(column)) if of else None for column in (*columns, *map("bytes_{}".format, PARTS))
    }


def _share(of: Cell | None, column: str) -> float | None:
    part, whole = (mean(of.values(name)) if of else None for name in (column, "multiplications"))
    return None if part is None or not whole else part / whole


def epochs_to_match(query: Query, arm: str) -> int | None:
    """Count the epochs until mean test accuracy reaches that of quantization after training; 0: never."""
    wanted = query.score(*PLACE, MATCHES[arm]) if arm in MATCHES else None
    curves = query.curves(*PLACE, arm)
    if wanted is None or wanted.mean is None or curves.empty:
        return None
    accuracies = curves.groupby("epoch")["test_accuracy"].mean()
    reached = accuracies[accuracies >= wanted.mean]
    return 0 if reached.empty else 1 + int(reached.index[0])


# --- figures ----------------------------------------------------------------------------------------------------------


def loss_scaling(query: Query, figure: Figure) -> None:
    """Draw the loss scale of training in fp16 and the steps it skipped, a line for each seed."""
    curves = query.curves(*PLACE, "fp32-trained_fp16")
    panels = figure.subplots(1, 2)
    for axes, column, unit in zip(panels, ("loss_scale", "skipped_share"), (1, 100), strict=True):
        by_seed = {f"seed {seed}": [unit * value for value in rows[column]] for seed, rows in curves.groupby("seed")}
        draw.curves(axes, by_seed)
    panels[0].set_yscale("log", base=2)
    panels[0].set_ylabel("loss scale at the end of the epoch")
    panels[1].set_ylim(0, None)
    panels[1].set_ylabel("steps left out, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def accuracy_against_bits(query: Query, figure: Figure) -> None:
    """Draw accuracy over the bits of a weight, and over the bytes of the file."""
    panels = figure.subplots(1, 2, sharey=True)
    for (label, arms), mark in zip(CURVES.items(), draw.MARKS[1:], strict=False):
        scores = {arm: score for arm in arms if (score := query.score(*PLACE, arm)) and score.mean is not None}
        for axes, place in zip(panels, (_bits, _bytes), strict=True):
            at = {arm: x for arm in scores if (x := place(query, arm)) is not None}
            means = [scores[arm].mean for arm in at]
            axes.plot(list(at.values()), means, color=mark.color, ls=mark.line, marker=mark.marker, ms=4, label=label)
            for arm, x in at.items():
                seeds = list(scores[arm].by_seed.values())
                axes.plot([x] * len(seeds), seeds, ".", color=mark.color, ms=2.5, mew=0)
    full = query.score(*PLACE, "fp32")
    for axes, label in zip(panels, ("bits a weight, scales included", "KiB on disk"), strict=True):
        if full and full.mean is not None:
            axes.axhline(full.mean, color=BLACK, lw=0.8)
            axes.annotate(
                "FP32", (0, full.mean), (3, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                backgroundcolor="white", bbox={"pad": 0.5, "fc": "white", "ec": "none"},
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(x=0.08)
        axes.set_xlabel(label)
    panels[0].set_xticks([2, 3, 4, 5, 6, 8, 16], ["2", "3", "4", "5", "6", "8", "16"])
    panels[0].minorticks_off()
    panels[0].set_xlim(1.8, 18)
    panels[0].set_ylabel(draw.PERCENT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)


def _bits(query: Query, arm: str) -> float | None:
    of = query.cell(*PLACE, arm)
    return 16.0 if arm in CASTS else mean(of.values("bits_per_packed_weight")) if of else None


def _bytes(query: Query, arm: str) -> float | None:
    of = query.cell(*PLACE, arm)
    size = mean(of.values("file_bytes")) if of else None
    return None if size is None else size / 1024


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers(query: Query) -> Iterator[Number]:
    """Yield quantized shares, values beyond the range of fp16, skipped steps, epochs until a match."""
    for arm in ("int4-keep_conv-linear_ptq", "int4-ptq_minmax", "int8-ptq_a8_static"):
        of = query.cell(*PLACE, arm)
        weights = mean(of.values("coverage")) if of else None
        for key, share in (("weights", weights), ("mults", _share(of, "packed_multiplications"))):
            yield _share_of_all(f"{key}.precision.{arm}", share)
    for row in casts(query):
        for what in ("overflowed", "underflowed", "subnormal"):
            key, share = f"{what}.precision.{row['arm']}", row[what]
            yield measure(key, None if share is None else 100 * share, small_percent(share), percent=True)
    for row in training(query):
        yield count(f"seconds.precision.{row['arm']}", row["seconds"])
    lost = next((row["lost"] for row in training(query) if row["arm"] == "fp32-trained_fp16"), None)
    yield _share_of_all("lost.precision", lost)
    for arm in MATCHES:
        epochs = epochs_to_match(query, arm)
        yield Number(f"match.precision.{arm}", "never" if epochs == 0 else number(epochs, 0))
    rows = [row for row in backends(query) if row["backend"] == "pt2e"]
    same = min((row["same_predictions"] for row in rows), default=None)
    yield _share_of_all("same.precision.pt2e", same)
    worst = max((row["largest_difference"] for row in backends(query) if row["backend"] == "torchao"), default=None)
    yield measure("difference.precision.torchao", worst, scientific(worst))


def _share_of_all(key: str, share: float | None) -> Number:
    hundredths = None if share is None else 100 * share
    return measure(key, hundredths, number(hundredths, 1), percent=True)
