"""The four records of a run, typed. The JSON Schemas beside this module are generated from them."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from bitq.errors import DataError
from bitq.io import canonical_json, pretty_json, sha256, write_atomic
from bitq.records import Frozen, explain
from bitq.run import Parent, Run

Percent = float  # 0 … 100
HEX = "^[0-9a-f]{64}$"  # a sha256
PARTS = ("codes", "values_scales", "residuals", "float_parameters", "buffers", "header")  # of a packed file


class LayerAudit(Frozen):
    """What the exported file holds for one packed layer."""

    name: str
    levels: int  # declared
    codes_used: int  # distinct codes that occur
    values_per_scale: int  # most distinct decoded values under one scale, the residual aside
    histogram: tuple[int, ...]  # weights of each code
    signs: tuple[int, ...]  # of each code's value: -1, 0 or 1
    residual: int = 0  # weights that get more than their code
    weights: int
    bits_per_weight: float  # codes, values and scales as stored
    zeros: float = Field(ge=0, le=1)


class Audit(Frozen):
    """The level audit of a file."""

    layers: tuple[LayerAudit, ...]
    packed_weights: int  # weights of convolutions and linear layers that ship as codes
    float_weights: int  # … that ship as floats
    coverage: float = Field(ge=0, le=1)  # packed share of the two
    bits_per_packed_weight: float | None
    bits_per_parameter: float  # the whole file over all parameters


class FloatWeights(Frozen):
    """Weights that ship as floats in a quantized network."""

    name: str
    weights: int
    multiplications: int  # of one image


class Coverage(Frozen):
    """How much of a network's arithmetic is quantized, and by name what is not. All counts are of one image."""

    multiplications: int  # in convolutions and linear layers
    packed_multiplications: int  # whose weight is a code
    integer_multiplications: int  # whose weight and input are both integers
    left_float: tuple[FloatWeights, ...]


class CastLayer(Frozen):
    """What rounding to a 16-bit float did to a layer's weights, and to its inputs on all test images."""

    name: str
    format: Literal["fp16", "bf16"]
    weights: int
    weights_overflowed: int  # finite before, infinite after
    weights_underflowed: int  # not zero before, zero after
    inputs: int
    inputs_overflowed: int
    inputs_underflowed: int
    inputs_subnormal: int  # kept with fewer digits than the format has


class Packed(Frozen):
    """What would ship, measured on the file after it was written and read back."""

    accuracy: Percent = Field(ge=0, le=100)
    correct: int
    images: int
    file_bytes: int
    float_bytes: int  # the same network as an fp32 file
    compression: float
    parts: dict[str, int]  # bytes by component; they add up to file_bytes
    sha256: str
    predictions_sha256: str = Field(pattern=HEX)  # of predictions.bin, one byte for each of the `images`
    labels_sha256: str = Field(pattern=HEX)  # of the labels that they were counted against; names the file
    audit: Audit
    coverage: Coverage | None = None  # of networks in which something is quantized
    casts: tuple[CastLayer, ...] = ()  # layers in 16-bit floats

    @model_serializer(mode="wrap")
    def _without_what_was_not_measured(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key not in ("coverage", "casts") or value}


class Divergence(Frozen):
    """Where a run went non-finite."""

    epoch: int
    what: str


class Results(Frozen):
    """What the same run must reproduce on the same kind of machine."""

    schema_version: Literal[2] = 2
    id: str
    hash: str
    parents: tuple[Parent, ...]
    status: Literal["done", "diverged"]
    diverged: Divergence | None = None
    accuracy: Percent | None = Field(default=None, ge=0, le=100)  # last epoch, in memory, fp32
    best_accuracy: Percent | None = Field(default=None, ge=0, le=100)  # best epoch on test, in training precision
    best_epoch: int | None = None
    collapsed: bool | None = None  # within three standard errors of chance; not judged at smoke
    packed: Packed | None = None
    weights_digest: str | None = None  # of the float weights that the file was packed from
    config_sha256: str
    history_sha256: str
    seal: str = ""  # sha256 of all other fields, so that a changed digit is noticed

    def sealed(self) -> "Results":
        """Return the same record with its seal."""
        return self.model_copy(update={"seal": sha256(canonical_json(self.model_dump(mode="json", exclude={"seal"})))})

    @model_validator(mode="after")
    def _complete(self) -> "Results":
        if self.status == "done" and (self.packed is None or self.accuracy is None or self.weights_digest is None):
            raise ValueError("a run that is done has an accuracy, a weights digest and a packed file")
        if (self.status == "diverged") != (self.diverged is not None):
            raise ValueError("status 'diverged' and the place of the divergence go together")
        return self


class History(Frozen):
    """Curves, one value an epoch."""

    lr: tuple[float, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[Percent, ...]
    hard_loss: tuple[float, ...] = ()  # distilled runs only
    soft_loss: tuple[float, ...] = ()
    test_loss: tuple[float, ...]
    test_accuracy: tuple[Percent, ...]  # in training precision
    validation_accuracy: tuple[Percent, ...] = ()
    zeros: tuple[float, ...] = ()  # share among the weights that will ship as codes
    loss_scale: tuple[float, ...] = ()  # fp16 only: at the end of the epoch
    skipped_share: tuple[float, ...] = ()  # fp16 only: of the steps, those whose gradients were not finite
    teacher_loss: tuple[float, ...] = ()  # of a teacher trained in the same loop

    @model_validator(mode="after")
    def _same_length(self) -> "History":
        lengths = {name: len(values) for name, values in self if values}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"curves differ in length: {lengths}")
        return self


class Env(Frozen):
    """Where and how fast it ran: recorded, never part of a run's identity."""

    wall_seconds: float
    images_per_second: float | None
    peak_memory_bytes: int | None = None  # of the process or, on a GPU, of its tensors, in the last attempt
    attempts: int  # processes that worked on it, resumed ones included
    device: str
    machine: str
    threads: int
    mode: Literal["exact", "fast"]
    versions: dict[str, str]
    code_sha256: str


RECORDS: dict[str, type[Frozen]] = {"config": Run, "results": Results, "history": History, "env": Env}
SCHEMAS = Path(__file__).with_name("schemas")


def schema_text(name: str) -> str:
    """Return the JSON Schema of one of the four records."""
    return pretty_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter(name).json_schema()})


@cache
def _adapter(name: str) -> TypeAdapter[Frozen]:
    return TypeAdapter(RECORDS[name])


Record = TypeVar("Record", bound=Frozen)
TRAIN_AGAIN = "Delete the run's folder and train it again."


def parse(kind: type[Record], data: bytes, where: Path, remedy: str = TRAIN_AGAIN) -> Record:
    """Check the content of a JSON file against its record."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise DataError(f"{where}: {_of_an_older_schema(error) or explain(error)} {remedy}") from error


def _of_an_older_schema(error: ValidationError) -> str | None:
    """Say that results come from a time before predictions were stored, if that is what is wrong."""
    versions = [problem["input"] for problem in error.errors() if problem["loc"] == ("schema_version",)]
    if error.title != Results.__name__ or versions != [1]:
        return None
    return "schema_version 1 was given, which stores no prediction of each test image; allowed: 2."


def write_schemas() -> None:
    """Write the JSON Schemas beside this module."""
    for name in RECORDS:
        write_atomic(SCHEMAS / f"{name}.schema.json", schema_text(name).encode())


if __name__ == "__main__":
    write_schemas()
