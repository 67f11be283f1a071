"""Rows, a drawing and numbers of the study on an image with a sentence."""

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from bitq.report import draw
from bitq.report.query import Query
from bitq.report.sources import Record
from bitq.report.tex import signed
from bitq.report.values import Number, count, measure, span
from bitq.stats.cells import Cell
from bitq.stats.contrast import contrast
from bitq.stats.inference import mean

Row = dict[str, Any]
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
# Where the codes are → the layers, by the beginning of their names.
PLACES = {
    "image": ("image.",),
    "embedding": ("text.embedding",),
    "text": ("text.conv", "text.weigh", "text.fc"),
    "fusion": ("fusion.", "classifier"),
}


def accuracy(query: Query) -> list[Row]:
    """Tabulate every arm with both inputs, then the controls: accuracy, difference to full precision, file."""
    places = [(BOTH, arm) for arm in ARMS] + [(model, arm) for model in CONTROLS for arm in CONTROLLED]
    rows = [_scored(query, model, arm) for model, arm in places]
    return [row for row in rows if row["score"]]


def _scored(query: Query, model: str, arm: str) -> Row:
    of, control = query.cell(DATASET, model, arm), CONTROLS.get(model, "")
    columns = ("file_bytes", "compression", "coverage", "zeros")
    return {
        "group": "One input blanked" if control else "Both inputs",
        "label": f"{ARMS[arm]}, {control}" if control else ARMS[arm],
        "score": query.score(DATASET, model, arm),
        "loss": query.difference(DATASET, model, arm, "fp32") if arm != "fp32" else None,
        "over": over(query, arm, model) if control else None,
    } | {column: mean(of.values(column)) if of else None for column in columns}


def over(query: Query, arm: str, control: str) -> Record | None:
    """Compare the network with both inputs to the one with one input, paired by seed."""
    both, one = query.cell(DATASET, BOTH, arm), query.cell(DATASET, control, arm)
    return contrast(both, one, across=query.sources.stats["across"]).model_dump() if both and one else None


def sizes(query: Query) -> list[Row]:
    """Tabulate the bytes of each file: codes by part of the network, and the rest."""
    return [_parts(query, arm, of) for arm in ARMS if (of := query.cell(DATASET, BOTH, arm))]


def _parts(query: Query, arm: str, of: Cell) -> Row:
    layers, files = query.layers(DATASET, BOTH, arm), len(of.values())
    stored = layers["bits_per_weight"] * layers["weights"] / 8
    codes = {
        place: float(stored[layers["layer"].str.startswith(prefixes)].sum()) / max(files, 1)
        for place, prefixes in PLACES.items()
    }
    other = {part: mean(of.values(f"bytes_{part}")) for part in ("float_parameters", "buffers", "header")}
    return {"label": ARMS[arm], "file_bytes": mean(of.values("file_bytes"))} | codes | other


def controls(query: Query, figure: Figure) -> None:
    """Draw both inputs beside each alone, in full precision and ternary."""
    panels = figure.subplots(1, len(CONTROLLED), sharey=True)
    for axes, arm in zip(panels, CONTROLLED, strict=True):
        shown = {"both": BOTH} | {words.replace(" ", "\n"): model for model, words in CONTROLS.items()}
        scores = {words: query.score(DATASET, model, arm) for words, model in shown.items()}
        draw.dots(axes, {words: list(score.by_seed.values()) if score else [] for words, score in scores.items()})
        axes.set_title(ARMS[arm])
    panels[0].set_ylabel(draw.PERCENT)


def numbers(query: Query) -> Iterator[Number]:
    """Yield the gain of both inputs over each alone."""
    for arm in CONTROLLED:
        for control in CONTROLS:
            found = over(query, arm, control) or {}
            key = f"multimodal.over.{control}.{arm}"
            yield measure(key, found.get("difference"), signed(found.get("difference")))
            yield span(f"{key}.ci", found.get("interval"), sign=True)
    kept, packed = (_bytes(query, arm) for arm in ("atq-keep_embedding", "atq"))
    yield count("multimodal.bytes.embedding", None if kept is None or packed is None else kept - packed)


def _bytes(query: Query, arm: str) -> float | None:
    of = query.cell(DATASET, BOTH, arm)
    return mean(of.values("file_bytes")) if of else None
