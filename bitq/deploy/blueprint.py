"""The metadata of a model file: the network to build, and how each packed layer is stored."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bitq.deploy.pack import levels_of
from bitq.errors import DataError, UsageError
from bitq.records import Frozen
from bitq.run import Calibration, Run

Size = Annotated[int, Field(ge=1, le=2**31)]


class Spec(BaseModel):
    """The network, and whatever else its evaluation needs; other keys are kept as they are.

    The caps are generous for networks of the kind and keep a forged file from asking for the whole machine.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str
    classes: int = Field(ge=1, le=100_000)
    width: int = Field(ge=1, le=1024)  # channels of the first stage
    stem: str = "cifar"
    channels: int = Field(default=3, ge=1, le=1024)
    image_size: int = Field(default=32, ge=1, le=4096)
    words: int = Field(default=0, ge=0, le=65536)
    vocabulary: int = Field(default=0, ge=0, le=65536)
    method: str
    settings: dict[str, Any] = {}
    norm: Literal["none", "layer"] = "none"
    calibration: Calibration | None = None


class LayerRecord(Frozen):
    """One quantized layer. Float methods have neither levels nor a packing: their weights ship as floats."""

    shape: tuple[Size, ...]
    levels: int | None = Field(ge=2, le=256)
    packing: str | None
    activation: str | None
    residual: Annotated[int, Field(ge=1)] | None = None  # number of weights with a residual

    @model_validator(mode="after")
    def _check_packing(self) -> "LayerRecord":
        if (self.levels is None) != (self.packing is None):
            raise ValueError("levels and a packing go together")
        if self.residual and (self.levels is None or self.residual > prod(self.shape)):
            raise ValueError("a residual goes on top of codes, and on no more weights than there are")
        if self.levels and levels_of(self.packing or "") < self.levels:
            raise ValueError(f"packing {self.packing!r} cannot hold {self.levels} levels")
        return self


class Blueprint(Frozen):
    """The metadata of a model file."""

    kind: Literal["model"] = "model"
    version: Literal[1] = 1
    spec: Spec
    layers: dict[str, LayerRecord]


def blueprint(spec: dict[str, Any], layers: dict[str, LayerRecord]) -> Blueprint:
    """Build the metadata of a file to write, rejecting a spec that could not be loaded."""
    try:
        return Blueprint(spec=Spec.model_validate(spec), layers=layers)
    except ValidationError as error:
        raise UsageError(f"this spec describes no network: {_first_problem(error)}.") from error


def parse(path: Path, meta: dict[str, Any]) -> Blueprint:
    """Validate the metadata of a file."""
    try:
        return Blueprint.model_validate(meta)
    except ValidationError as error:
        raise DataError(
            f"{path} is not a model that this bitq can load: {_first_problem(error)}; export it again."
        ) from error


def spec_of(run: Run) -> dict[str, Any]:
    """Describe a run for its packed file: enough to rebuild the network and evaluate it on the right data."""
    return {
        "run": run.id,
        "hash": run.hash,
        "model": run.model,
        "classes": run.data.classes,
        "width": run.width,
        "stem": run.stem,
        "channels": run.data.channels,
        "image_size": run.data.image_size,
        "words": run.data.words,
        "vocabulary": run.data.vocabulary,
        "norm": run.norm,
        "method": run.method,
        "settings": run.settings,
        "calibration": run.calibration.model_dump(mode="json") if run.calibration else None,
        "keep": list(run.keep),
        "dataset": run.data.dataset,
        "variant": run.data.variant,
        "normalisation": run.recipe.normalisation,
    }


GEOMETRY = ("classes", "channels", "image_size", "words", "vocabulary")


def geometry_of(data: Any) -> dict[str, int]:
    """Return the sizes of a data set, or of its variant, that fix the geometry of a network."""
    return {size: getattr(data, size) for size in GEOMETRY}


def must_fit(what: str, spec: Mapping[str, Any], asked: Mapping[str, Any], remedy: str) -> None:
    """Refuse a packed network whose geometry is not the one asked for."""
    odd = [size for size, wanted in asked.items() if spec.get(size) != wanted]
    if odd:
        found, wanted = (", ".join(f"{size}={of.get(size)}" for size in odd) for of in (spec, asked))
        raise UsageError(f"{what} holds a network of {found}, but {wanted} was asked for; {remedy}.")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
