"""The metadata of the packed file of a network that bitq cannot build: what has to be done to a fresh one."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bitq.deploy import tensorfile
from bitq.deploy.blueprint import LayerRecord
from bitq.errors import DataError, UsageError
from bitq.records import Frozen

KIND = "own_network"
VERSION = 1


class OwnLayer(LayerRecord):
    """One quantized layer of a network of the user's own."""

    method: str
    tied_to: str | None = None  # the earlier layer whose codes are its own


class OwnNetwork(Frozen):
    """The metadata of such a file."""

    kind: Literal["own_network"] = "own_network"
    version: Literal[1] = 1
    network: str  # its class, for the reader: nothing is imported by this name
    layers: dict[str, OwnLayer]
    separated: tuple[str, ...] = ()  # attentions that became linear layers
    folded: tuple[str, ...] = ()  # normalisations that became part of the layer before
    aliases: dict[str, str] = {}  # other tensors that are an earlier one


def parse_own(path: Path, meta: dict[str, Any]) -> OwnNetwork:
    """Validate the metadata of a file."""
    version = meta.get("version")
    if isinstance(version, int) and version > VERSION:
        raise DataError(
            f"{path} was written by a newer bitq (file version {version}, this one reads {VERSION}); install that one."
        )
    try:
        return OwnNetwork.model_validate(meta)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise DataError(
            f"{path} is not a network that this bitq can load: {where}: {problem['msg']}; export it again."
        ) from error


MEASURE = "measure it from Python: bitq.evaluate(path, data, into=model)"


def check_of_grid(path: Path, remedy: str = MEASURE) -> None:
    """Refuse the file of a network that bitq cannot build, where one of the grid is asked for."""
    _, meta = tensorfile.read(path)
    if meta.get("kind") == KIND:
        raise UsageError(f"{path} holds a {meta.get('network')}, which only its own code can build; {remedy}.")
