"""Define frozen records, and read them from YAML."""

import re
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bitq.errors import DataError, UsageError
from bitq.io import open_for_reading


class Frozen(BaseModel):
    """A record that cannot change, knows all its keys, and holds no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Record = TypeVar("Record", bound=Frozen)
ALLOWED = "Input should be "  # how pydantic begins to say what is


@cache
def read_yaml(record: type[Record], path: Path) -> Record:
    """Read a YAML file as a record; what does not fit is one sentence with the key."""
    try:
        with open_for_reading(path) as file:
            content = yaml.load(file, Loader=_Loader)
        if content is None:
            raise UsageError(f"{path} is empty; write its keys and values into it, or delete it.")
        return record.model_validate(content)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct it there.") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Put a pydantic report into one sentence: which key, what was given, what is wrong with it."""
    # A key that does not exist is usually the typo behind one that is missing, so it comes first.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    # What is wrong with a whole record says so itself: its dump would bury the sentence.
    given = "" if isinstance(first["input"], dict) else f"{first['input']!r}"
    more = f" And {error.error_count() - 1} more." if error.error_count() > 1 else ""
    if first["type"] == "missing":
        return f"{key} is missing; give it.{more}"
    if first["type"] == "extra_forbidden":
        return f"there is no key {key!r} here{given and f' (given: {given})'}; leave it out.{more}"
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("model_type", "dataclass_type"):
        return f"{key}{' ' if key else ''}{given} was given; write keys and values, as in name: value.{more}"
    if given and what.startswith(ALLOWED):
        return f"{key} {given} was given; allowed: {allowed_values(what)}.{more}"
    return f"{key}{': ' if key else ''}{what}{given and f' (given: {given})'}.{more}"


def allowed_values(what: str) -> str:
    """Shorten what pydantic says is allowed.

    >>> allowed_values("Input should be a valid integer, unable to parse string as an integer")
    'a valid integer'
    """
    return what.removeprefix(ALLOWED).partition(", unable")[0]


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader, with 1e-5 read as the number that it is (YAML 1.1 wants 1.0e-5)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
