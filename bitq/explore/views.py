"""Place runs in the plots: accuracy against bytes, layer ablation, distillation, ring before and after snapping."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from bitq.report import names
from bitq.stats.cells import PLACE, RECIPE, TREATMENT
from bitq.stats.families import group_of
from bitq.studies.bitnet.places import LAYERS
from bitq.studies.ring.contrasts import RING, RING_LEGACY

Point = tuple[float, float, int]  # across, up, and the number of its series


@dataclass(frozen=True)
class Series:
    """The name and the mark of runs that belong together; colours are in page.css by number."""

    label: str
    color: int
    marker: str = "circle"
    hollow: bool = False


@dataclass(frozen=True)
class View:
    """One plot of runs: what it shows, and where each run is; a run that it does not show has no point."""

    name: str
    title: str
    about: str
    across: str
    up: str
    series: tuple[Series, ...]
    points: Sequence[Point | None]
    rows: tuple[str, ...] = ()  # names of the places 0, 1 … from the top, where it is in rows
    in_rows: bool = True

    @property
    def shown(self) -> tuple[Series, ...]:
        """The series that have a run."""
        present = {point[2] for point in self.points if point}
        return tuple(each for number, each in enumerate(self.series) if number in present)


# Methods by the beginning of their name; the first that fits.
GROUPS: Mapping[str, Series] = {
    "fp bf": Series("full precision, fp16, bf16", 0),
    "bitnet": Series("BitNet", 1, "square"),
    "ttq twn": Series("TTQ, TWN", 2, "triangle"),
    "ring": Series("Ring", 3, "diamond"),
    "atq": Series("ATQ", 4, "star"),
    "int": Series("integers", 5, "hex"),
    "": Series("LSQ, DoReFa, APoT and others", 6, "inverted_triangle"),
}
DATASETS = ("cifar10", "cifar100", "tiny_imagenet")
ABLATED = ("bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS), "fp32")
STAGES = {
    "soft, as published": f"{RING_LEGACY}-r{{}}",
    "snapped": f"{RING_LEGACY}-r{{}}_snapped",
    "snapped, new statistics": f"{RING_LEGACY}-r{{}}_recalibrated",
    "hard, on a line": f"{RING}-n{{}}_line",
    "hard, on the ring": f"{RING}-n{{}}",
}
# Columns that a distilled run and its twin without a teacher have in common.
TWINS = [
    *("group", "seed"),
    *(name for name in (*PLACE, *TREATMENT, *RECIPE) if name not in ("kd", "teacher", "temperature", "alpha", "tag")),
]


def views(runs: pd.DataFrame) -> tuple[View, ...]:
    """Place all runs in all plots."""
    return size(runs), ablation(runs), distillation(runs), ring(runs)


def size(runs: pd.DataFrame) -> View:
    """Place every run by the bytes of its file and by its accuracy."""
    groups = [_group(method) for method in runs["method"]]
    return View(
        name="size",
        title="Accuracy against bytes",
        about="Each mark is a run: the packed file as it would ship, and the accuracy measured from it. The line joins "
        "the arms of a data set that no smaller file beats, by their means over the seeds shown.",
        across="size of the packed file, KiB",
        up="test accuracy, %",
        series=tuple(GROUPS.values()),
        points=_known(runs["file_bytes"] / 1024, runs["accuracy"], groups),
        in_rows=False,
    )


def _group(method: str) -> int:
    return next(
        place
        for place, starts in enumerate(GROUPS)
        if not starts or any(method.startswith(start) for start in starts.split())
    )


def ablation(runs: pd.DataFrame) -> View:
    """Place the runs of ResNet-18 by the layer that is kept in full precision."""
    series = [(dataset, kd) for dataset in DATASETS for kd in (False, True)]
    here = (runs["study"].map(group_of) == "bitnet") & (runs["model"] == "resnet18")
    rows = {f"{arm}{'-kd' if kd else ''}": place for place, arm in enumerate(ABLATED) for kd in (False, True)}
    chosen = [
        (rows[arm], series.index((dataset, kd))) if shown and arm in rows and dataset in DATASETS else None
        for shown, arm, dataset, kd in zip(here, runs["arm"], runs["dataset"], runs["kd"], strict=True)
    ]
    return View(
        name="ablation",
        title="Layer ablation",
        about="BitNet in ResNet-18 with one layer in full precision, between all layers ternary and none. Each mark is "
        "a run, each upright bar the mean over the seeds shown; hollow marks are distilled.",
        across="test accuracy, %",
        up="",
        series=tuple(
            Series(f"{names.dataset(name)}{', distilled' if kd else ''}", 1 + DATASETS.index(name), hollow=kd)
            for name, kd in series
        ),
        points=_in_rows(runs["accuracy"], chosen, len(series)),
        rows=("all ternary", *(f"FP32 {layer}" for layer in LAYERS), "all FP32"),
    )


def distillation(runs: pd.DataFrame) -> View:
    """Place every distilled run by what it gains over its twin without a teacher."""
    datasets = list(names.DATASETS)
    gains = _gains(runs)
    arms = list(dict.fromkeys(runs.loc[gains.notna(), "arm"]))
    chosen = [
        (arms.index(arm), datasets.index(dataset)) if arm in arms and dataset in datasets else None
        for arm, dataset in zip(runs["arm"], runs["dataset"], strict=True)
    ]
    return View(
        name="distillation",
        title="Distillation",
        about="Accuracy of a distilled run minus that of the run of the same seed that differs in nothing but the "
        "teacher. Right of zero, distillation helped.",
        across="gain by distillation, points",
        up="",
        series=tuple(Series(names.dataset(name), 1 + place) for place, name in enumerate(datasets)),
        points=_in_rows(gains, chosen, len(datasets)),
        rows=tuple(map(names.arm, arms)),
    )


def _gains(runs: pd.DataFrame) -> "pd.Series[float]":
    """Subtract the twin's accuracy; none where there is no twin, or more than one."""
    keys = runs.assign(group=runs["study"].map(group_of))[TWINS].astype(str)  # a missing value equals another
    keyed = keys.assign(accuracy=runs["accuracy"], hash=runs["hash"])
    twins = keyed[~runs["kd"]].drop_duplicates(TWINS, keep=False)
    pairs = keyed[runs["kd"]].merge(twins, on=TWINS, suffixes=("", "_twin"))
    numbers = pairs.assign(gain=pairs["accuracy"] - pairs["accuracy_twin"])
    gains: pd.Series[float] = runs["hash"].map(dict(zip(numbers["hash"], numbers["gain"], strict=True)))
    return gains.astype("float64")


def ring(runs: pd.DataFrame) -> View:
    """Place the runs of Ring Quantization by how hard their levels are."""
    models = [name for name in ("resnet20", "resnet32", "resnet44") if name in set(runs["model"])]
    series = list(product(models, (4, 8)))
    rows = {arm.format(points): (row, points) for row, arm in enumerate(STAGES.values()) for points in (4, 8)}
    chosen = [
        (rows[arm][0], series.index((model, rows[arm][1]))) if arm in rows and model in models else None
        for arm, model in zip(runs["arm"], runs["model"], strict=True)
    ]
    return View(
        name="ring",
        title="Ring before and after snapping",
        about="The published network with soft weights, the same weights snapped to their ring, snapped with new "
        "statistics of its normalisations, and networks that are trained hard. Hollow marks have 8 levels.",
        across="test accuracy, %",
        up="",
        series=tuple(
            Series(f"{names.model(model)}, {points} levels", 1 + models.index(model), hollow=points == 8)
            for model, points in series
        ),
        points=_in_rows(runs["accuracy"], chosen, len(series)),
        rows=tuple(STAGES),
    )


def _known(
    across: "pd.Series[float]", up: "pd.Series[float]", series: Sequence[int | None]
) -> tuple[Point | None, ...]:
    """Make points; none where a number is missing or the run is in no series."""
    return tuple(
        None if of is None or pd.isna(x) or pd.isna(y) else (float(x), float(y), of)
        for x, y, of in zip(across, up, series, strict=True)
    )


def _in_rows(
    values: "pd.Series[float]", chosen: Sequence[tuple[int, int] | None], count: int
) -> tuple[Point | None, ...]:
    """Make points in rows from the top, the series of a row below each other."""
    heights = [None if each is None else -each[0] - 0.7 * ((each[1] + 0.5) / count - 0.5) for each in chosen]
    return _known(values, pd.Series(heights, dtype="float64"), [each and each[1] for each in chosen])
