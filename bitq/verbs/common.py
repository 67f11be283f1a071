"""What the verbs share: their options and how they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
ScaleOption = Annotated[str, typer.Option("--scale", help="full, mini or smoke: how large.")]
Texts = Annotated[list[str] | None, typer.Option(help="Repeatable.")]
Ints = Annotated[list[int] | None, typer.Option(help="Repeatable.")]
Floats = Annotated[list[float] | None, typer.Option(help="Repeatable.")]
ResultsOption = Annotated[Path | None, typer.Option("--results", help="Folder of finished runs [results].")]
StateOption = Annotated[Path | None, typer.Option("--state", help="Folder of checkpoints [state].")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N.")]


def emit(value: Any, as_json: bool, text: str = "") -> None:
    """Data on stdout: as JSON, or as the text for people."""
    if as_json or text:
        print(json.dumps(value, indent=1, allow_nan=False) if as_json else text)
