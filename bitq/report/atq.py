"""Rows, drawings and numbers of the study on adaptive ternary quantization."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bitq.report import draw, names
from bitq.report.query import Query
from bitq.report.tex import percent
from bitq.report.values import Number, measure
from bitq.stats.inference import mean
from bitq.studies.atq.contrasts import ATQ, LEGACY, RULES, THRESHOLDS

Row = dict[str, Any]
MODEL, FIRST, DATASETS = "atq_cnn", "fashion_mnist", ("fashion_mnist", "mnist")
TRAINED_LEGACY, ZEROED = f"{LEGACY}-online_kd", f"{LEGACY}-zeroed"
HEADLINE = ("fp32", ATQ, "atq", TRAINED_LEGACY, ZEROED)
CONSTANT = f"{ATQ}-constant"
# Group in print → arms, each with the arm that it differs from in one thing.
ABLATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Schedule of sparsity": ((CONSTANT, ATQ), (f"{ATQ}-cubic", ATQ)),
    "Threshold": tuple((f"{ATQ}-threshold_{rule}", CONSTANT) for rule in THRESHOLDS),
    "Scale and gradient": (*((f"{ATQ}-{rule}", ATQ) for rule in RULES[1:]), (f"{ATQ}-ttq_rules", CONSTANT)),
    "Boosting and routing": tuple(
        (f"{ATQ}-{name}", ATQ) for name in ("boosted", "boosted_gradient", "routed", "routed_boundary", "routed_inputs")
    ),
    "Budget and penalty": ((f"{ATQ}-budget50", f"{ATQ}-zeros50"), (f"{ATQ}-l1", ATQ)),
    "Distillation": ((f"{ATQ}-kd", ATQ), (f"{ATQ}-online_kd", ATQ), ("fp32-kd", "fp32")),
    "Other methods": (("twn-keep_conv", ATQ), ("ttq-keep_conv", ATQ)),
}
# Target in percent → its arm.
SPARSITIES = {share: ATQ if share == 30 else f"{ATQ}-zeros{share}" for share in (10, 30, 50, 70, 90)}
SIZED = ("fp32", ATQ, f"{ATQ}-boosted", "atq", TRAINED_LEGACY)
LAYERS = ("conv1", "conv2", "fc1", "fc2")


def label(arm: str) -> str:
    """Name an arm in print, leaving out that the convolutions stay in full precision.

    >>> label("atq-keep_conv-boosted"), label("atq")
    ('ATQ, boosted', 'ATQ, all layers')
    """
    return "ATQ, all layers" if arm == "atq" else names.arm(arm.replace("-keep_conv", ""))


# --- tables -----------------------------------------------------------------------------------------------------------


def headline(query: Query) -> list[Row]:
    """Tabulate accuracy and bytes: FP32, ATQ in the linear layers, in all layers, and the published arithmetic."""
    rows = [_scored(query, dataset, arm, "fp32") for dataset, arm in product(DATASETS, HEADLINE)]
    return [row for row in rows if row["score"]]


def ablations(query: Query) -> list[Row]:
    """Tabulate every ingredient on and off, against the arm that differs in nothing else."""
    rows = [{"group": ""} | _scored(query, FIRST, ATQ, None)]
    rows += [
        {"group": group} | _scored(query, FIRST, arm, other) for group, arms in ABLATIONS.items() for arm, other in arms
    ]
    return [_in_short(row) for row in rows if row["score"]]


def _in_short(row: Row) -> Row:
    """Shorten the labels of a table in which nearly all arms are of ATQ."""
    return row | {key: row[key] and row[key].removeprefix("ATQ, ") for key in ("label", "other")}


def sparsity(query: Query) -> list[Row]:
    """Tabulate the targets, the zeros in the file, and their cost in accuracy."""
    rows = [
        {"target": target / 100} | _scored(query, FIRST, arm, None if arm == ATQ else ATQ)
        for target, arm in SPARSITIES.items()
    ]
    return [row for row in rows if row["score"]]


def sizes(query: Query) -> list[Row]:
    """Tabulate the bytes of each file by component."""
    rows = [_scored(query, FIRST, arm, None) for arm in SIZED]
    return [row for row in rows if row["score"]]


def _scored(query: Query, dataset: str, arm: str, other: str | None) -> Row:
    """Return accuracy, difference and file of an arm."""
    columns = ("file_bytes", "compression", "zeros", "bits_per_packed_weight", "coverage")
    parts = tuple(f"bytes_{part}" for part in ("codes", "values_scales", "residuals", "float_parameters", "buffers"))
    of, score = query.cell(dataset, MODEL, arm), query.score(dataset, MODEL, arm)
    difference = query.difference(dataset, MODEL, arm, other) if other and other != arm else None
    return {
        "dataset": dataset,
        "arm": arm,
        "label": label(arm),
        "other": other and label(other),
        "score": score,
        "difference": difference,
        "n": difference["n"] if difference else score and score.n,
    } | {column: mean(of.values(column)) if of else None for column in (*columns, *parts, "bytes_header")}


# --- figures ----------------------------------------------------------------------------------------------------------


def accuracy_comparison(query: Query, figure: Figure) -> None:
    """Draw the headline arms with every seed."""
    panels = figure.subplots(1, len(DATASETS), sharey=True)
    words = {"fp32": "FP32", ATQ: "ATQ", "atq": "all\nlayers", TRAINED_LEGACY: "legacy", ZEROED: "legacy,\nzeroed"}
    for axes, dataset in zip(panels, DATASETS, strict=True):
        scores = {words[arm]: query.score(dataset, MODEL, arm) for arm in HEADLINE}
        draw.dots(axes, {name: list(score.by_seed.values()) if score else [] for name, score in scores.items()})
        axes.set_title(names.dataset(dataset))
    panels[0].set_ylabel(draw.PERCENT)


def curves(query: Query, figure: Figure) -> None:
    """Draw the share of zeros, and the test accuracy, at the end of each epoch."""
    zeros, accuracy = figure.subplots(1, 2)
    _curves(zeros, query, "zeros", (CONSTANT, ATQ, f"{ATQ}-cubic", f"{ATQ}-zeros70"))
    zeros.set_ylabel("zero weights, %")
    _curves(accuracy, query, "test_accuracy", ("fp32", ATQ, "atq", TRAINED_LEGACY))
    accuracy.set_ylabel(draw.PERCENT)


def _curves(axes: Axes, query: Query, column: str, arms: Sequence[str]) -> None:
    factor = 100 if column == "zeros" else 1
    means = {_counted(query, arm): _mean_curve(query, arm, column) for arm in arms}
    draw.curves(axes, {name: [factor * value for value in curve] for name, curve in means.items() if curve})
    axes.set_ylim(0, 104)
    if any(means.values()):
        axes.legend(fontsize=6.5, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _counted(query: Query, arm: str) -> str:
    """Name an arm with its number of seeds, since not all have the same."""
    score = query.score(FIRST, MODEL, arm)
    return f"{label(arm)} (n = {score.n if score else 0})"


def _mean_curve(query: Query, arm: str, column: str) -> list[float]:
    """Average a curve over the seeds, epoch by epoch."""
    curves: pd.DataFrame = query.curves(FIRST, MODEL, arm)
    return [] if curves.empty else [float(value) for value in curves.groupby("epoch")[column].mean()]


def ternary_distribution(query: Query, figure: Figure) -> None:
    """Draw the shares of the codes in each layer: ATQ in all layers, and the published arithmetic."""
    panels = figure.subplots(1, 2)
    for axes, arm in zip(panels, ("atq", TRAINED_LEGACY), strict=True):
        draw.codes(axes, _histograms(query, arm))
        axes.set_title(label(arm))
    draw.code_legend(figure)


def _histograms(query: Query, arm: str) -> dict[str, draw.Histogram]:
    """Sum the histogram of each layer over the seeds."""
    found = {name: rows for name, rows in query.layers(FIRST, MODEL, arm).groupby("layer")}
    return {name: _added(found[name]) for name in LAYERS if name in found}


def _added(rows: pd.DataFrame) -> draw.Histogram:
    counts = [float(sum(of_code)) for of_code in zip(*rows["histogram"], strict=True)]
    return list(zip(rows["signs"].iloc[0], counts, strict=True))


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers(query: Query) -> Iterator[Number]:
    """Yield the share of a file that is its residual."""
    for key, arm in (("mask share", TRAINED_LEGACY), ("residual share", f"{ATQ}-boosted")):
        cell = query.cell(FIRST, MODEL, arm)
        residual, whole = (mean(cell.values(of)) if cell else None for of in ("bytes_residuals", "file_bytes"))
        share = None if residual is None or not whole else residual / whole
        yield measure(f"atq.{key}", None if share is None else 100 * share, percent(share), percent=True)
