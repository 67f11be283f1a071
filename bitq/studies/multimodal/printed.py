"""Print the study on an image with a sentence: its tables, numbers and the names of its arms."""

from collections.abc import Iterator

from bitq.report.columns import BYTES, COMPR, COVERAGE, ZEROS, Column, Line, accuracy, difference, label, of_runs, there
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.sources import Record
from bitq.report.table import Table
from bitq.report.tex import signed, whole
from bitq.report.values import Number, count, interval_number, measure
from bitq.stats.contrast import contrast

DATASET, BOTH = "fashion_sst2", "gated_fusion"
CONTROLS = {"fusion_image_only": "image only", "fusion_text_only": "sentence only"}
ARMS = {
    "fp32": "FP32",
    "atq": "ATQ by modality",
    "atq-keep_embedding": "… word vectors FP32",
    "atq-keep_text+fusion+last": "… image encoder alone ternary",
    "atq-keep_image+fusion+last": "… text encoder alone ternary",
    "twn": "TWN",
    "bitnet": "BitNet",
}
CONTROLLED = ("fp32", "atq")
PARTS = {
    "keep_embedding": "FP32 word vectors",
    "keep_text+fusion+last": "image encoder only",
    "keep_image+fusion+last": "text encoder only",
}


def scored(query: Query) -> list[Line]:
    """List every arm with both inputs, then the controls."""
    places = [(BOTH, arm) for arm in ARMS] + [(model, arm) for model in CONTROLS for arm in CONTROLLED]
    return there(_line(query, model, arm) for model, arm in places)


def _line(query: Query, model: str, arm: str) -> Line:
    control = CONTROLS.get(model)
    named = f"{ARMS[arm]}, {control}" if control else ARMS[arm]
    group = "One input blanked" if control else "Both inputs"
    return Line(query, DATASET, model, arm, None if arm == "fp32" else "fp32", group, named)


def over(query: Query, arm: str, control: str) -> Record | None:
    """Compare the network with both inputs to the one with one input, paired by seed."""
    both, one = query.cell(DATASET, BOTH, arm), query.cell(DATASET, control, arm)
    return contrast(both, one, across=query.sources.stats["across"]).model_dump() if both and one else None


def _over(line: Line) -> Record | None:
    return over(line.query, line.arm, line.model) if line.model in CONTROLS else None


def sizes(query: Query) -> list[Line]:
    """List every arm with both inputs."""
    return there(_line(query, BOTH, arm) for arm in ARMS)


def _codes(head: str, *layers: str) -> Column:
    """Print the bytes of codes in layers by the beginning of their names."""
    return Column(head, lambda line, _: whole(_bytes_in(line, layers)), over="codes")


def _bytes_in(line: Line, layers: tuple[str, ...]) -> float | None:
    if line.runs is None:
        return None
    found, files = line.query.layers(DATASET, BOTH, line.arm), len(line.runs.values())
    stored = found["bits_per_weight"] * found["weights"] / 8
    return float(stored[found["layer"].str.startswith(layers)].sum()) / max(files, 1)


def numbers(query: Query) -> Iterator[Number]:
    """Yield the gain of both inputs over each alone."""
    for arm in CONTROLLED:
        for control in CONTROLS:
            found = over(query, arm, control) or {}
            key = f"multimodal.over.{control}.{arm}"
            yield measure(key, found.get("difference"), signed(found.get("difference")))
            yield interval_number(f"{key}.ci", found.get("interval"), sign=True)
    kept, packed = (_line(query, BOTH, arm).mean("file_bytes") for arm in ("atq-keep_embedding", "atq"))
    yield count("multimodal.bytes.embedding", None if kept is None or packed is None else kept - packed)


PRINTED = Printed(
    tables=(
        Table(
            "multimodal_accuracy",
            scored,
            (
                *(label("Network"), accuracy(), difference()),
                Column("Gain of both", lambda line, notes: notes.difference(_over(line))),
                *(BYTES, COMPR, COVERAGE, ZEROS),
            ),
            "Image and sentence, label = category $\\times$ sentiment: test accuracy in percent of the packed file, "
            "last epoch, mean and sample standard deviation over n = << query.seeds() >> seeds. $\\Delta$ is the "
            "difference to the same network in FP32, paired by seed; the gain of both is the network that sees both "
            "inputs minus the control in this row. Bytes on disk; coverage is the share of the weights, word vectors "
            "included, that ship as codes.",
            group=lambda line: line.group,
        ),
        Table(
            "multimodal_bytes",
            sizes,
            (
                label("Network"),
                _codes("image", "image."),
                _codes("word vectors", "text.embedding"),
                _codes("text", "text.conv", "text.weigh", "text.fc"),
                _codes("fusion", "fusion.", "classifier"),
                of_runs("precision", "bytes_float_parameters", over="full"),
                of_runs("statistics", "bytes_buffers"),
                of_runs("header", "bytes_header"),
                of_runs("file", "file_bytes"),
            ),
            "Where the bytes of the packed files are, mean over seeds: codes with their values and scales by place, "
            "then what ships in full precision (biases, normalisation, layers that were kept), running statistics, and "
            "the header.",
        ),
    ),
    numbers=numbers,
    parts=PARTS,
)
