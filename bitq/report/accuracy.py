"""Rows of the tables of accuracies: the packed file, last epoch, in percent."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from bitq.report.names import BITNET_DATASETS, BITNET_MODELS, LAYERS
from bitq.report.query import Query, Score
from bitq.report.sources import Record

Row = dict[str, Any]
R18 = "resnet18"
RECIPES = ("bitnet-keep_conv1", "bitnet-keep_conv1-kd")


def accuracy(query: Query) -> list[Row]:
    """Compare FP32, BitNet and TTQ, with the loss of the two ternary methods."""
    rows = [
        {"model": model, "dataset": dataset}
        | {arm: query.score(dataset, model, arm) for arm in ("fp32", "bitnet", "ttq")}
        | {"loss": query.contrast("bitnet_vs_fp32", dataset, model, "bitnet", "fp32")}
        for model, dataset in product(BITNET_MODELS, BITNET_DATASETS)
    ]
    return _there(rows)


def stem_effect(query: Query) -> list[Row]:
    """Compare the stem for small images with the one for ImageNet, in FP32."""
    rows = [
        {
            "dataset": dataset,
            "imagenet": query.score(dataset, R18, "fp32-imagenet_stem"),
            "cifar": query.score(dataset, R18, "fp32"),
            "gain": query.contrast("stem", dataset, R18, "fp32", "fp32-imagenet_stem"),
        }
        for dataset in BITNET_DATASETS
    ]
    return [row for row in rows if row["imagenet"]]


def layer_ablation(query: Query) -> list[Row]:
    """Tabulate the share of the gap that each layer in full precision recovers, without and with distillation."""
    return [
        row for model, dataset in product(BITNET_MODELS, BITNET_DATASETS) for row in _ablation(query, dataset, model)
    ]


def _ablation(query: Query, dataset: str, model: str) -> Iterator[Row]:
    place = {"dataset": dataset, "model": model}
    for kept in ("all", *LAYERS, "none"):
        sides = {kd or "plain": _kept(query, dataset, model, kept, kd) for kd in ("", "kd")}
        if any(side["score"] for side in sides.values()):
            yield place | {"kept": kept} | sides


def _kept(query: Query, dataset: str, model: str, kept: str, kd: str) -> Row:
    """Build one side of a row; without distilled twins (ResNet-50) the share is of the plain gap."""
    suffix = f"-{kd}" if kd else ""
    arm = {"all": "fp32", "none": "bitnet"}.get(kept, f"bitnet-keep_{kept}") + suffix
    found = None
    if kept in LAYERS:
        low, high = f"bitnet{suffix}", f"fp32{suffix}"
        twins = query.sources.arms.keys() >= {(dataset, model, low), (dataset, model, high)}
        found = query.recovery(dataset, model, arm, *((low, high) if twins else ("bitnet", "fp32")))
    # The share of a gap that may be zero is undefined.
    share, bounds = (found["share"], found["interval"]) if found and found["interval"] else (None, None)
    return {
        "score": query.score(dataset, model, arm),
        "recovery": None if share is None else 100 * share,
        "interval": bounds and [100 * bound for bound in bounds],
    }


def kd_effect(query: Query) -> list[Row]:
    """Compare float and ternary students with and without a teacher."""
    rows = [
        {
            "dataset": dataset,
            "student": student,
            "plain": query.score(dataset, R18, student),
            "kd": query.score(dataset, R18, f"{student}-kd"),
            "effect": query.contrast("kd", dataset, R18, f"{student}-kd", student),
        }
        for dataset, student in product(BITNET_DATASETS, ("fp32", "bitnet"))
    ]
    return [row for row in _there(rows) if row["kd"]]


def recipe_vs_fp32(query: Query) -> list[Row]:
    """Compare BitNet with a float first convolution to FP32, and test equivalence."""
    return _against(query, "fp32", "recipe_vs_fp32")


def recipe_vs_ttq(query: Query) -> list[Row]:
    """Compare BitNet with a float first convolution to TTQ."""
    return _against(query, "ttq", "recipe_vs_ttq")


def _against(query: Query, other: str, family: str) -> list[Row]:
    rows = [
        {
            "model": model,
            "dataset": dataset,
            "arm": arm,
            "recipe": query.score(dataset, model, arm),
            "other": query.score(dataset, model, other),
            "difference": query.contrast(family, dataset, model, arm, other),
        }
        for model, dataset, arm in product(BITNET_MODELS, BITNET_DATASETS, RECIPES)
    ]
    return [row for row in rows if row["recipe"]]


def _there(rows: list[Row]) -> list[Row]:
    """Keep rows with at least one score."""
    return [row for row in rows if any(isinstance(value, Score) for value in row.values())]


def tests(query: Query, families: Iterable[str]) -> list[tuple[Record, list[Record]]]:
    """Return the families that have contrasts, each with all statistics of its contrasts."""
    found = [(query.sources.families.get(family), list(query.family(family))) for family in families]
    return [(family, contrasts) for family, contrasts in found if family and contrasts]
