"""Draw the figures of the study on adaptive ternary quantization."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bitq.report import draw, names
from bitq.report.query import Query
from bitq.studies.atq.contrasts import ATQ, LEGACY

MODEL, FIRST, DATASETS = "atq_cnn", "fashion_mnist", ("fashion_mnist", "mnist")
TRAINED_LEGACY, ZEROED = f"{LEGACY}-online_kd", f"{LEGACY}-zeroed"
HEADLINE = ("fp32", ATQ, "atq", TRAINED_LEGACY, ZEROED)
FEWEST = 3  # epochs that make a curve


def accuracy_comparison(query: Query, figure: Canvas) -> None:
    """Draw the headline arms with every seed."""
    there = [dataset for dataset in DATASETS if any(query.score(dataset, MODEL, arm) for arm in HEADLINE)]
    arms = [arm for arm in HEADLINE if any(query.score(dataset, MODEL, arm) for dataset in there)]
    panels = figure.subplots(1, max(len(there), 1), sharey=True, squeeze=False)[0]
    words = {"fp32": "FP32", ATQ: "ATQ", "atq": "all\nlayers", TRAINED_LEGACY: "legacy", ZEROED: "legacy,\nzeroed"}
    for axes, dataset in zip(panels, there, strict=False):
        scores = {words[arm]: query.score(dataset, MODEL, arm) for arm in arms}
        draw.dots(axes, {name: list(score.by_seed.values()) if score else [] for name, score in scores.items()})
        axes.set_title(names.dataset(dataset))
    panels[0].set_ylabel(draw.PERCENT)


def curves(query: Query, figure: Canvas) -> None:
    """Draw the share of zeros, and the test accuracy, at the end of each epoch."""
    if query.curves(FIRST, MODEL, ATQ)["epoch"].nunique() < FEWEST:
        return
    zeros, accuracy = figure.subplots(1, 2)
    _curves(zeros, query, "zeros", (f"{ATQ}-constant", ATQ, f"{ATQ}-cubic", f"{ATQ}-zeros70"))
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
    return f"{query.sources.prints.label(arm)} (n = {score.n if score else 0})"


def _mean_curve(query: Query, arm: str, column: str) -> list[float]:
    """Average a curve over the seeds, epoch by epoch."""
    curves: pd.DataFrame = query.curves(FIRST, MODEL, arm)
    return [] if curves.empty else [float(value) for value in curves.groupby("epoch")[column].mean()]
