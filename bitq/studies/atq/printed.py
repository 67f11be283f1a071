"""Print the study on adaptive ternary quantization: its tables, figures, numbers and the names of its arms."""

from collections.abc import Iterator
from itertools import product

from bitq.report import names
from bitq.report.columns import (
    BYTES,
    COMPR,
    COMPRESSION,
    COVERAGE,
    ZEROS,
    Column,
    Line,
    accuracy,
    baseline,
    change,
    label,
    of_runs,
    pairs,
    there,
)
from bitq.report.figures import Figure
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.table import Table
from bitq.report.tex import number, percent, whole
from bitq.report.values import Number, measure
from bitq.studies.atq import figures
from bitq.studies.atq.contrasts import ATQ, RULES, THRESHOLDS
from bitq.studies.atq.figures import DATASETS, FIRST, HEADLINE, MODEL, TRAINED_LEGACY

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
PARTS = {
    "keep_all": "all layers",
    "zeroed": "ternary part zeroed",
    "constant": "constant sparsity",
    "cubic": "cubic schedule",
    "threshold_twn": "threshold of TWN",
    "threshold_max": "threshold of TTQ",
    "threshold_ls": "least-squares threshold",
    "threshold_learned": "learned threshold",
    "scale_learned": "learned scale",
    "scale_asym": "two learned scales",
    "gradient_ttq": "gradient of TTQ",
    "ttq_rules": "all rules of TTQ",
    "boosted": "boosted",
    "boosted_gradient": "boosted by gradient",
    "routed": "routed weights",
    "routed_boundary": "routed at the boundary",
    "routed_inputs": "routed inputs",
    "budget50": "budget of 50 % zeros",
    "l1": "L1 penalty",
    "zeros10": "10 % zeros",
    "zeros50": "50 % zeros",
    "zeros70": "70 % zeros",
    "zeros90": "90 % zeros",
}


def shortened(arm: str) -> str:
    """Leave out that the convolutions stay in full precision.

    >>> shortened("atq-keep_conv-boosted"), shortened("atq")
    ('atq-boosted', 'atq-keep_all')
    """
    return "atq-keep_all" if arm == "atq" else arm.replace("-keep_conv", "")


def headline(query: Query) -> list[Line]:
    """List FP32, ATQ in the linear layers, in all layers, and the published arithmetic."""
    others = {arm: None if arm == "fp32" else "fp32" for arm in HEADLINE}
    return there(
        Line(query, dataset, MODEL, arm, others[arm], names.dataset(dataset))
        for dataset, arm in product(DATASETS, HEADLINE)
    )


def ablations(query: Query) -> list[Line]:
    """List every ingredient on and off, against the arm that differs in nothing else."""
    lines = [(arm, other, group) for group, arms in ABLATIONS.items() for arm, other in arms]
    return there(Line(query, FIRST, MODEL, *line) for line in [(ATQ, None, ""), *lines])


def sparsity(query: Query) -> list[Line]:
    """List the targets."""
    return there(Line(query, FIRST, MODEL, arm, None if arm == ATQ else ATQ) for arm in SPARSITIES.values())


def sizes(query: Query) -> list[Line]:
    """List the arms whose bytes are of interest."""
    return there(Line(query, FIRST, MODEL, arm) for arm in SIZED)


def _target(line: Line) -> float:
    return next(share for share, arm in SPARSITIES.items() if arm == line.arm) / 100


def _brief(arm: str | None, query: Query) -> str:
    """Name an arm in a table in which nearly all are of ATQ."""
    return query.sources.prints.label(arm).removeprefix("ATQ, ") if arm else ""


def _other_bytes(line: Line) -> float | None:
    parts = [line.mean(f"bytes_{part}") for part in ("values_scales", "buffers", "header")]
    return None if None in parts else sum(part for part in parts if part is not None)


def numbers(query: Query) -> Iterator[Number]:
    """Yield the share of a file that is its residual."""
    for key, arm in (("mask share", TRAINED_LEGACY), ("residual share", f"{ATQ}-boosted")):
        residual, whole = (Line(query, FIRST, MODEL, arm).mean(of) for of in ("bytes_residuals", "file_bytes"))
        share = None if residual is None or not whole else residual / whole
        yield measure(f"atq.{key}", None if share is None else 100 * share, percent(share), percent=True)


TABLES = (
    Table(
        "atq_headline",
        headline,
        (label("Network"), accuracy(), pairs(), baseline("FP32"), *change(), BYTES, COMPR, ZEROS),
        "ATQ with ternary linear layers, with all layers ternary, and the published arithmetic with and without its "
        "ternary term, beside the same network in full precision: test accuracy in percent of the packed file, last "
        "epoch, mean and sample standard deviation over all << query.seeds() >> seeds of an arm. $\\Delta$ is the "
        "difference to FP32 with its 95\\,\\% $t$ interval, paired over the n seeds that both have; the mean of FP32 "
        "over these seeds stands before it. Bytes on disk, compression against an FP32 file, and the share of zeros "
        "among the weights that ship as codes, in percent (in the published arithmetic, without the weights of the "
        "mask, whose values are in the residual).",
        group=lambda line: line.group,
    ),
    Table(
        "atq_ablations",
        ablations,
        (
            Column("Arm", lambda line, _: _brief(line.arm, line.query), "l"),
            accuracy(),
            Column("Against", lambda line, _: _brief(line.other, line.query), "l", spanning="l"),
            *(baseline(None), pairs(), *change(), ZEROS, BYTES),
        ),
        "Every ingredient of ATQ on and off, Fashion-MNIST, linear layers ternary: test accuracy in percent, mean and "
        "sample standard deviation over all << query.seeds() >> seeds of an arm; and the difference to the arm that "
        "differs in nothing else with its 95\\,\\% $t$ interval, paired over the n seeds that both have, after the "
        "mean of that arm over these seeds. Zeros in percent of the weights that ship as codes.",
        group=lambda line: line.group,
    ),
    Table(
        "atq_sparsity",
        sparsity,
        (
            Column(r"Target, \%", lambda line, _: percent(_target(line))),
            of_runs(r"Measured, \%", "zeros", percent),
            *(accuracy(), pairs(), baseline(r"30\,\%"), *change(), BYTES),
        ),
        "Target sparsity of the linear layers on Fashion-MNIST, the share of zeros that is in the file, accuracy in "
        "percent over all << query.seeds() >> seeds of an arm, and the difference to the published target of 30\\,\\% "
        "with its 95\\,\\% $t$ interval, paired over the n seeds that both have, after the mean of that target over "
        "these seeds. Codes are packed by fives into a byte whatever they are, so zeros change no size.",
        size=r"\small",
    ),
    Table(
        "atq_sizes",
        sizes,
        (
            label("Network"),
            of_runs("Codes", "bytes_codes"),
            of_runs("Residuals", "bytes_residuals"),
            of_runs("Float", "bytes_float_parameters"),
            Column("Other", lambda line, _: whole(_other_bytes(line))),
            of_runs("Total", "file_bytes"),
            COMPRESSION,
            of_runs("Bits", "bits_per_packed_weight", number),
            COVERAGE,
        ),
        "Where the bytes are: packed codes, residuals (int8 for boosting; for the published arithmetic the weights of "
        "its mask in FP32, with their positions), weights left in full precision, everything else (scales, "
        "normalisation, header). Bits per code count codes, scales and residuals over the weights that they stand for; "
        "coverage is the share of such weights among all of convolutions and linear layers. The original states "
        "\\pub{atq.memory}$\\times$, which is 32 bits over 2 of the codes of a single layer.",
    ),
)
FIGURES = (
    Figure(
        "atq_accuracy",
        figures.accuracy_comparison,
        2.3,
        "Accuracy of the packed file: FP32, ATQ in the linear layers and in all layers, and the published arithmetic "
        "with and without its ternary term. Small points are seeds, marks and numbers their means.",
    ),
    Figure(
        "atq_curves",
        figures.curves,
        2.4,
        "Fashion-MNIST, after each epoch, mean over the seeds of an arm. Left: zeros among the ternary weights; "
        "schedules end at seven tenths of the training, and the last epoch has what ships. Right: test accuracy.",
    ),
)
PRINTED = Printed(
    tables=TABLES,
    figures=FIGURES,
    numbers=numbers,
    parts=PARTS,
    shortened=shortened,
)
