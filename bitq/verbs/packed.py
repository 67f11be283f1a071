"""Packed files: measure them, pack them another way."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.errors import UsageError
from bitq.verbs.common import DeviceOption, Json, emit


def evaluate(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    dataset: Annotated[str | None, typer.Option(help="Image set [the one it was trained on].")] = None,
    variant: Annotated[str | None, typer.Option(help="Its variant [the one it was trained on].")] = None,
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Measure a packed file: accuracy in fp32, bytes, levels."""
    from bitq.train.evaluate import evaluate_file

    found = evaluate_file(file, dataset, variant, device)
    text = (
        f"{found['accuracy']:.2f} % of {found['images']} images of {found['dataset']}/{found['variant']}, "
        f"{found['bytes']:,} bytes, {found['compression']:.1f}× smaller than fp32"
    )
    emit(found, as_json, text)


def export(
    source: Annotated[Path, typer.Argument(help="A packed file.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    packing: Annotated[str, typer.Option(help="base3, or b1 to b8: bits per code.")] = "base3",
    as_json: Json = False,
) -> None:
    """Write a packed file again with another packing of its codes."""
    from bitq.deploy.export import export as write
    from bitq.deploy.load import load

    if target.exists():
        raise UsageError(f"{target} exists; give a name that is free, nothing is overwritten.")
    model, spec = load(source)
    done = write(model, spec, target, packing)
    emit(
        {"bytes": done.file_bytes, "sha256": done.sha256, "parts": done.parts},
        as_json,
        f"{target}  {done.file_bytes:,} bytes",
    )
