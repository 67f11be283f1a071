"""Tables of the study on BitNet: accuracies in percent of the packed file, last epoch, and the bytes of these files."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from bitq.report import names
from bitq.report.columns import Column, Line, delta, of_runs, there
from bitq.report.contrasts import EXPLAINED, Pivot, block, joined
from bitq.report.cost import macs, parameters
from bitq.report.notes import Notes
from bitq.report.query import Query, Score
from bitq.report.table import Table
from bitq.report.tex import Tex, at, interval, millions, number, p_value, percent, times, whole
from bitq.stats.cells import Cell
from bitq.studies.bitnet.places import DATASETS, LAYERS, MODELS, R18

Row = dict[str, Any]
PLACES = tuple(product(MODELS, DATASETS))
RECIPES = ("bitnet-keep_conv1", "bitnet-keep_conv1-kd")
COMPARED = ("fp32", "bitnet", "ttq")
SIZED = ("fp32", "bitnet", *(f"bitnet-keep_{layer}" for layer in LAYERS), "ttq")
# Controls, and the contrasts over further seeds, in the order of their section.
CONTROLS = ("n10", "norm", "legacy", "mixup", "kd_as_published", "kd_alpha", "ttq_as_published", "ttq_unit")
SPREAD = "(mean and standard deviation, n = << query.seeds() >>)"
RECIPE = "BitNet with its first convolution in FP32, without and with distillation, and"


def _of_model(row: Row) -> str:
    return names.model(row["model"])


def _with_scores(rows: Iterable[Row]) -> list[Row]:
    """Keep rows of which at least one arm is part of this scale."""
    return [row for row in rows if any(isinstance(value, Score) for value in row.values())]


def _score(head: str, name: str, over: str = "") -> Column:
    return Column(head, lambda row, notes: notes.score(row[name]), "c", over=over)


def _dataset(once: bool = False) -> Column:
    return Column("Data set", lambda row, _: names.dataset(row["dataset"]), "l", once=once)


# --- accuracies -------------------------------------------------------------------------------------------------------


def accuracy(query: Query) -> list[Row]:
    """Compare FP32, BitNet and TTQ, with the loss of BitNet."""
    return _with_scores(
        {"model": model, "dataset": dataset}
        | {arm: query.score(dataset, model, arm) for arm in COMPARED}
        | {"loss": query.contrast("bitnet_vs_fp32", dataset, model, "bitnet", "fp32")}
        for model, dataset in PLACES
    )


def stem_effect(query: Query) -> list[Row]:
    """Compare the stem for small images with the one for ImageNet, in FP32."""
    rows = [
        {
            "dataset": dataset,
            "imagenet": query.score(dataset, R18, "fp32-imagenet_stem"),
            "cifar": query.score(dataset, R18, "fp32"),
            "gain": query.contrast("stem", dataset, R18, "fp32", "fp32-imagenet_stem"),
        }
        for dataset in DATASETS
    ]
    return [row for row in rows if row["imagenet"]]


def layer_ablation(query: Query) -> list[Row]:
    """List the share of the gap that each layer in full precision recovers, without and with distillation."""
    return [row for place in PLACES for kept in ("all", *LAYERS, "none") for row in _ablation(query, *place, kept)]


def _ablation(query: Query, model: str, dataset: str, kept: str) -> Iterator[Row]:
    sides = {kd or "plain": _kept(query, dataset, model, kept, kd) for kd in ("", "kd")}
    if any(side["score"] for side in sides.values()):
        yield {"dataset": dataset, "model": model, "kept": kept} | sides


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
        "share": None if share is None else 100 * share,
        "interval": bounds and [100 * bound for bound in bounds],
    }


def _sides() -> Iterator[Column]:
    for side, over in (("plain", "without distillation"), ("kd", "with distillation")):
        yield Column("accuracy", _of_side(side, lambda of, notes: notes.score(of["score"])), "c", over)
        yield Column(r"recovery, \%", _of_side(side, lambda of, _: _share(of, number(of["share"], 1))), "r", over)
        yield Column(None, _of_side(side, lambda of, _: _share(of, interval(of["interval"], 0, False))), "l", over)


def _of_side(side: str, cell: Callable[[Row, Notes], object]) -> Callable[[Row, Notes], object]:
    return lambda row, notes: cell(row[side], notes)


def _share(side: Row, printed: Tex) -> str:
    return "" if side["share"] is None else printed


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
        for dataset, student in product(DATASETS, ("fp32", "bitnet"))
    ]
    return [row for row in rows if row["kd"]]


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
        for (model, dataset), arm in product(PLACES, RECIPES)
    ]
    return [row for row in rows if row["recipe"]]


def _recipe_columns(other: str) -> tuple[Column, ...]:
    return (
        _dataset(once=True),
        Column("KD", lambda row, _: "yes" if row["arm"].endswith("-kd") else "no", "l"),
        _score("Recipe", "recipe"),
        _score(other, "other"),
        *delta(lambda row: row["difference"]),
    )


def significance(query: Query) -> list[Row]:
    """List the main contrasts with all their statistics, by family."""
    return [
        contrast | {"question": query.sources.families[family]["question"]}
        for family in ("bitnet_vs_fp32", "bitnet_vs_ttq")
        for contrast in query.family(family)
    ]


def controls(query: Query) -> Row:
    """List the further seeds, and each change alone that the original made together with others."""
    return joined([block(query, CONTROLS)])


# --- bytes ------------------------------------------------------------------------------------------------------------


def model_size(query: Query) -> list[Line]:
    """List every treatment of a network, on the first data set that has runs of it."""
    return [line for model in MODELS for line in _sized(query, model)]


def _sized(query: Query, model: str) -> list[Line]:
    sizes = (there(Line(query, dataset, model, arm) for arm in SIZED) for dataset in DATASETS)
    return next((lines for lines in sizes if any(line.runs for line in lines)), [])


def efficiency(query: Query) -> list[Row]:
    """List parameters, multiply-accumulates, bytes and speed of training."""
    rows: list[Row] = [
        {"model": model, "dataset": dataset} | {arm: Line(query, dataset, model, arm) for arm in COMPARED}
        for model, dataset in PLACES
    ]
    return [row for row in rows if any(row[arm].runs for arm in COMPARED)]


def _first(row: Row) -> Cell:
    """Return the runs of the first arm that has some."""
    found: Cell = next(row[arm].runs for arm in COMPARED if row[arm].runs)
    return found


def _by_arm(column: str, over: str) -> Iterator[Column]:
    for arm in COMPARED:
        yield Column(names.arm(arm), _mean_of(arm, column), over=over)


def _mean_of(arm: str, column: str) -> Callable[[Row, Notes], object]:
    return lambda row, _: whole(row[arm].mean(column))


TABLES = (
    Table(
        "stem_effect",
        stem_effect,
        (
            *(_dataset(), _score("ImageNet stem", "imagenet"), _score("CIFAR stem", "cifar")),
            *delta(lambda row: row["gain"], head=r"Gain [95\,\% interval]"),
        ),
        "Effect of the stem on FP32 ResNet-18: test accuracy in percent with the ImageNet stem ($7\\times7$, stride 2, "
        "pooling) and with that for CIFAR ($3\\times3$, stride 1), everything else equal. Gain with its 95\\,\\% $t$ "
        "interval, paired by seed.",
        size=r"\small",
    ),
    Table(
        "accuracy",
        accuracy,
        (
            *(_dataset(), _score("FP32", "fp32"), _score("BitNet", "bitnet"), _score("TTQ", "ttq")),
            *delta(lambda row: row["loss"]),
        ),
        "Test accuracy in percent of FP32, BitNet and TTQ networks: mean and sample standard deviation over n = "
        "<< query.seeds() >> seeds of the packed file, last epoch. $\\Delta$ is BitNet minus FP32, paired by seed, "
        "with its 95\\,\\% $t$ interval.",
        group=_of_model,
        size=r"\small",
    ),
    Table(
        "layer_ablation",
        layer_ablation,
        (Column("FP32 layers", lambda row, _: row["kept"], "l"), *_sides()),
        f"Layers left in full precision, one at a time, without and with distillation: test accuracy in percent "
        f"{SPREAD} and the share of the gap between the all-ternary and the FP32 network that it wins back, with "
        "Fieller's 95\\,\\% interval; -- where the gap itself may be zero. Gaps are taken within a side of the table, "
        "except for ResNet-50, whose distilled arm is set against the gap without distillation.",
        group=lambda row: f"{names.model(row['model'])}, {names.dataset(row['dataset'])}",
    ),
    Table(
        "kd_effect",
        kd_effect,
        (
            _dataset(once=True),
            Column("Student", lambda row, _: names.arm(row["student"]), "l"),
            *(_score("alone", "plain"), _score("distilled", "kd"), *delta(lambda row: row["effect"])),
        ),
        "Effect of distillation on float and ternary ResNet-18 students: test accuracy in percent without and with an "
        f"FP32 teacher {SPREAD}, and the difference, paired by seed, with its 95\\,\\% $t$ interval. Both arms use the "
        "same mixup.",
        size=r"\small",
    ),
    Table(
        "recipe_vs_fp32",
        recipe_vs_fp32,
        (
            *_recipe_columns("FP32"),
            Column(r"$p_\mathrm{eq}$", lambda row, _: p_value(at(row["difference"], "equivalence", "p"))),
        ),
        f"The recipe against full precision: {RECIPE} the FP32 network; test accuracy in percent {SPREAD}. $\\Delta$ "
        "is the recipe minus FP32 with its 95\\,\\% $t$ interval; $p_\\mathrm{eq}$ belongs to the two one-sided tests "
        "of parity within << query.sources.stats.settings.parity_margin >> points.",
        group=_of_model,
    ),
    Table(
        "model_size",
        model_size,
        (
            Column("Arm", lambda line, _: line.label, "l"),
            Column("parameters", lambda line, _: whole(parameters(line.runs) if line.runs else None)),
            *(of_runs("bytes", "file_bytes"), of_runs("compression", "compression", times)),
            of_runs(r"\%", "coverage", percent, over="coverage"),
            of_runs("code", "bits_per_packed_weight", lambda bits: number(bits, 3), over="bits per"),
            of_runs("parameter", "bits_per_parameter", lambda bits: number(bits, 3), over="bits per"),
            of_runs(r"\%", "zeros", percent, over="zeros"),
        ),
        "Size of the packed files, measured in bytes on disk, headers, scales, normalisation layers and buffers "
        "counted; compression against the same network as an FP32 file. Coverage is the share of convolution and "
        "linear weights that ship as codes; bits per code count codes, values and scales over those weights, bits per "
        "parameter the whole file over all parameters; zeros is the share of zero codes. Measured on << rows | "
        "map(attribute='dataset') | map('dataset') | unique | list | listed if rows else 'no data set' >>, mean over "
        "n = << query.seeds() >> files each.",
        group=lambda line: names.model(line.model),
    ),
    Table(
        "recipe_vs_ttq",
        recipe_vs_ttq,
        (
            *_recipe_columns("TTQ"),
            Column(r"$p_\mathrm{H}$", lambda row, _: p_value(at(row["difference"], "p_holm"))),
        ),
        f"The recipe against TTQ: {RECIPE} TTQ with all layers ternary; test accuracy in percent {SPREAD}. $\\Delta$ "
        "is the recipe minus TTQ with its 95\\,\\% $t$ interval, $p_\\mathrm{H}$ the paired test after Holm's "
        "correction.",
        group=_of_model,
    ),
    Table(
        "efficiency",
        efficiency,
        (
            _dataset(),
            Column("parameters", lambda row, _: whole(parameters(_first(row)))),
            Column("$10^6$ MACs", lambda row, _: millions(macs(_first(row)))),
            *_by_arm("file_bytes", "bytes of the file"),
            *_by_arm("images_per_second", "training images/s"),
        ),
        "Cost of the networks: parameters, multiply-accumulates of one image (counted for convolutions and linear "
        "layers; the same for every method), bytes of the packed file, and training images per second as measured on "
        "<< query.hardware() >>. Training simulates low-bit weights in floating point, so its speed says nothing about "
        "integer inference.",
        group=_of_model,
    ),
    Table(
        "significance",
        significance,
        (
            Column("Where", lambda row, _: names.where(row), "l"),
            Column("Contrast", lambda row, _: names.versus(row["arm_a"], row["arm_b"]), "l"),
            Column("n", lambda row, _: row["n"]),
            *delta(lambda row: row),
            Column("$p$", lambda row, _: p_value(row["p"])),
            Column(r"$p_\mathrm{H}$", lambda row, _: p_value(row["p_holm"])),
            Column("MDE", lambda row, _: number(row["detectable"], 1)),
        ),
        "Tests of the main contrasts, first arm minus second. $\\Delta$ is the mean difference in points over n pairs "
        "of one seed, with its 95\\,\\% $t$ interval; $p$ is that of the paired $t$ test, $p_\\mathrm{H}$ the same "
        "after Holm's correction within the family; MDE is the "
        "smallest difference that this test finds with a power of << query.sources.stats.settings.power >>.",
        group=lambda row: row["question"],
    ),
    Pivot(
        "controls",
        controls,
        "Further seeds and controls: the headline contrasts over all seeds, and each change that the original made "
        f"together with others by itself. {EXPLAINED}",
    ),
)
