"""Describe a packed file for those who take it over."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.io import open_for_reading, write_atomic
from bitq.verbs.common import check_new_file, emit


def card(
    file: Annotated[Path, typer.Argument(help="A packed file.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. [default: printed]")] = None,
) -> None:
    """Write the model card of a packed file: method, bits per layer, accuracy, training, data, digests, limits."""
    open_for_reading(file).close()
    if out:
        check_new_file(out)

    from bitq.measure.card import write_card

    text = write_card(file)
    if out:
        write_atomic(out, text.encode())
    emit(None, False, str(out) if out else text.rstrip("\n"))
