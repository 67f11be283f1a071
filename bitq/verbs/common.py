"""Share options and printing among the verbs."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from bitq.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
ScaleOption = Annotated[str, typer.Option("--scale", metavar="NAME", help="full, mini or smoke: how large.")]
Texts = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these; repeatable.")]
Ints = Annotated[list[int] | None, typer.Option(metavar="INT", help="Only these; repeatable.")]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", metavar="DIR", help="Folder of finished runs. [default: results]")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Folder of checkpoints. [default: state]")
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N.")]


def emit(value: Any, as_json: bool, text: str = "") -> None:
    """Print data on stdout: as JSON, or as the text for people."""
    if as_json or text:
        write(json.dumps(value, indent=1, allow_nan=False) if as_json else text)


def write(text: str, to: TextIO | None = None) -> None:
    """Print to stdout, or to another stream; quietly to nobody if its reader has gone, as `head -1` does."""
    stream = to or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_new_file(path: Path) -> None:
    """Refuse to overwrite a file or to make up a folder."""
    if path.exists():
        raise UsageError(f"{path} exists; give a name that is free, nothing is overwritten.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder; make it first, or give a file in one that is there.")
