"""Print the study on precision: its tables, figures and numbers."""

from collections.abc import Iterator

import pandas as pd

from bitq.report.columns import (
    BITS,
    BYTES,
    COMPRESSION,
    Column,
    Line,
    accuracy,
    delta,
    difference,
    label,
    of_runs,
    there,
)
from bitq.report.figures import Figure
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.table import SPACE, Table
from bitq.report.tex import number, percent, scientific, small_percent, whole
from bitq.report.values import Number, measure
from bitq.studies.precision import arms, backends, efficiency, figures
from bitq.studies.precision.arms import CASTS, LINEAR, MATCHES, PLACE, TRAINED

SPREAD = (
    "test accuracy in percent of the packed file, last epoch, mean and sample standard deviation over "
    "n = << query.seeds() >> seeds; $\\Delta$ is the difference to the FP32 network, paired by seed"
)


def _line(query: Query, arm: str, named: str, group: str = "") -> Line:
    return Line(query, *PLACE, arm, None if arm == "fp32" else "fp32", group, named)


def training(query: Query) -> list[Line]:
    """List training in 32 and in 16 bits on equal batches."""
    return there(_line(query, arm, named) for arm, named in TRAINED.items())


def casts(query: Query) -> list[Line]:
    """List casts to 16 bits."""
    return there(_line(query, arm, named) for arm, named in CASTS.items())


def bits(query: Query) -> list[Line]:
    """List all layers in 8 to 2 bits, quantized after training and trained on."""
    return there(_line(query, arm, named, group) for group, of in arms.BITS.items() for arm, named in of.items())


def linear(query: Query) -> list[Line]:
    """List the original's linear layers only, and all layers in as many bits."""
    return there(_line(query, arm, named) for arm, named in LINEAR.items())


def components(query: Query) -> list[Line]:
    """List the files whose bytes are taken apart."""
    files = {"fp32": "FP32"} | CASTS | arms.AFTER | LINEAR
    return there(Line(query, *PLACE, arm, named=named) for arm, named in files.items() if arm != "int8-ptq_minmax")


# --- what only this study measures ------------------------------------------------------------------------------------


def _lost(line: Line) -> float | None:
    """Average the share of steps that loss scaling left out."""
    skipped = _curves(line)["skipped_share"].dropna()
    return None if skipped.empty else float(skipped.mean())


def _scale(line: Line) -> float | None:
    """Return the median loss scale at the end."""
    curves = _curves(line)
    scales = curves[curves["epoch"] == curves["epoch"].max()]["loss_scale"].dropna()
    return None if scales.empty else float(scales.median())


def _peak(line: Line) -> float | None:
    """Average peak memory in MiB over the runs that recorded it."""
    known = line.runs.rows["peak_memory_bytes"].dropna() if line.runs else pd.Series(dtype="float64")
    return None if known.empty else float(known.mean()) / 2**20


def _curves(line: Line) -> pd.DataFrame:
    return line.query.curves(*PLACE, line.arm)


def _cast(line: Line, what: str) -> float | None:
    """Return the share of the inputs that a cast changed."""
    changed, inputs = (sum(line.runs.values(f"cast_{each}")) if line.runs else 0 for each in (what, "inputs"))
    return changed / inputs if inputs else None


def _multiplied(line: Line, how: str) -> float | None:
    """Return the share of all multiplications."""
    part, total = line.mean(f"{how}_multiplications"), line.mean("multiplications")
    return None if part is None or not total else part / total


def epochs_to_match(line: Line) -> int | None:
    """Count the epochs until mean test accuracy reaches that of quantization after training; 0: never."""
    wanted = line.of(arm=MATCHES[line.arm]).score if line.arm in MATCHES else None
    curves = _curves(line)
    if wanted is None or wanted.mean is None or curves.empty:
        return None
    accuracies = curves.groupby("epoch")["test_accuracy"].mean()
    reached = accuracies[accuracies >= wanted.mean]
    return 0 if reached.empty else 1 + int(reached.index[0])


# --- numbers ----------------------------------------------------------------------------------------------------------


def numbers(query: Query) -> Iterator[Number]:
    """Yield quantized shares, values beyond the range of fp16, skipped steps, epochs until a match."""
    for arm in ("int4-keep_conv-linear_ptq", "int4-ptq_minmax", "int8-ptq_a8_static"):
        line = Line(query, *PLACE, arm)
        yield _share(f"weights.precision.{arm}", line.mean("coverage"))
        yield _share(f"mults.precision.{arm}", _multiplied(line, "packed"))
    for arm in CASTS:
        for what in ("overflowed", "underflowed", "subnormal"):
            share = _cast(Line(query, *PLACE, arm), what)
            key, printed = f"{what}.precision.{arm}", small_percent(share)
            yield measure(key, None if share is None else 100 * share, printed, percent=True)
    yield _share("lost.precision", _lost(Line(query, *PLACE, "fp32-trained_fp16")))
    for arm in MATCHES:
        epochs = epochs_to_match(Line(query, *PLACE, arm))
        yield Number(f"match.precision.{arm}", "never" if epochs == 0 else number(epochs, 0))
    rows = backends.measured(query)
    yield _share(
        "same.precision.pt2e", min((row["same_predictions"] for row in rows if row["backend"] == "pt2e"), default=None)
    )
    worst = max((row["largest_difference"] for row in rows if row["backend"] == "torchao"), default=None)
    yield measure("difference.precision.torchao", worst, scientific(worst))


def _share(key: str, share: float | None) -> Number:
    hundredths = None if share is None else 100 * share
    return measure(key, hundredths, number(hundredths, 1), percent=True)


# --- tables and figures -----------------------------------------------------------------------------------------------

TABLES = (
    Table(
        "precision_training",
        training,
        (
            *(label("Training"), accuracy(), *delta()),
            Column("Diverged", lambda line, _: whole(len(line.runs.diverged) if line.runs else None)),
            Column(r"Lost, \%", lambda line, _: percent(_lost(line))),
            Column("Loss scale", lambda line, _: whole(_scale(line))),
            of_runs("Seconds", "wall_seconds", number),
            of_runs("Images/s", "images_per_second"),
            Column("MiB", lambda line, _: whole(_peak(line))),
        ),
        f"Trained in 32 and in 16 bits on the same batches: {SPREAD}, with its 95\\,\\% $t$ interval. Runs that went "
        "non-finite; steps that loss scaling left out because a gradient was not finite, in percent; the median loss "
        "scale at the end; seconds, images a second and peak memory of the process in MiB on the machines of the runs.",
        size=r"\scriptsize",
    ),
    Table(
        "precision_casts",
        casts,
        (
            *(label("Cast"), accuracy(), *delta(), BYTES),
            Column(r"Overflow, \%", lambda line, _: small_percent(_cast(line, "overflowed"))),
            Column(r"Underflow, \%", lambda line, _: small_percent(_cast(line, "underflowed"))),
            Column(r"Subnormal, \%", lambda line, _: small_percent(_cast(line, "subnormal"))),
        ),
        f"Weights and inputs of all layers cast to 16 bits after training: {SPREAD}, with its 95\\,\\% $t$ interval. "
        "Bytes on disk, and the inputs on all test images that were finite before and infinite after (overflow), not "
        "zero before and zero after (underflow) or kept with fewer digits than the format has (subnormal), in percent.",
    ),
    Table(
        "precision_bits",
        bits,
        (
            *(label("Quantization"), accuracy(), difference(), BITS, BYTES),
            Column(r"Integer mult., \%", lambda line, _: percent(_multiplied(line, "integer"))),
            Column("Epochs to match", lambda line, _: whole(epochs_to_match(line))),
        ),
        f"All layers in eight to two bits: {SPREAD}. Bits a weight, scales included; bytes on disk; multiplications of "
        "two integers, in percent of all (every file but the last has codes for all its weights); epochs of training "
        "until the mean test accuracy is that of quantization after training in as many bits (0: never; --: not "
        "compared).",
        group=lambda line: line.group,
        between=SPACE,
        breaks=True,
    ),
    Table(
        "precision_linear",
        linear,
        (
            *(label("Quantization"), accuracy(), difference()),
            of_runs(r"Weights, \%", "coverage", percent),
            Column(r"Multipl., \%", lambda line, _: percent(_multiplied(line, "packed"))),
            *(BYTES, COMPRESSION, of_runs("Bits/param.", "bits_per_parameter", number)),
        ),
        f"What the original quantized, and all layers, with the range of the largest weight: {SPREAD}. Weights and "
        "multiplications that are really quantized, in percent of those of all convolutions and linear layers; bits of "
        "the file for each parameter.",
    ),
    Table(
        "precision_components",
        components,
        (
            label("File"),
            of_runs("Codes", "bytes_codes"),
            of_runs("Values and scales", "bytes_values_scales"),
            of_runs("Floats", "bytes_float_parameters"),
            of_runs("Buffers", "bytes_buffers"),
            of_runs("Header", "bytes_header"),
            of_runs("All", "file_bytes"),
        ),
        "Where the bytes of a file are, mean over n = << query.seeds() >> files each.",
        breaks=True,
    ),
    backends.TABLE,
    efficiency.TABLE,
)
FIGURES = (
    Figure(
        "precision_loss_scale",
        figures.loss_scaling,
        2.0,
        "Trained in fp16: the loss scale, which halves when a gradient is not finite, and the steps that were left out "
        "for it, in percent of the epoch. A line for each seed.",
    ),
    Figure(
        "precision_bits",
        figures.accuracy_against_bits,
        2.6,
        "Accuracy of the packed file over the bits of a weight, and over the bytes of the file; all layers are "
        "quantized or, at sixteen bits, cast. \\emph{Rounded for the outputs}: after training, with codes chosen to "
        "preserve the outputs of each layer and with corrected biases. Marks are means, small points seeds. FP32 "
        "stands at its own size.",
    ),
    efficiency.FIGURE,
)
PRINTED = Printed(
    tables=TABLES,
    figures=FIGURES,
    numbers=numbers,
    parts=arms.PARTS,
)
