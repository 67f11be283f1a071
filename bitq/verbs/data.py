"""Fetch, import and inspect image sets."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.terminal import UNLIMITED, table
from bitq.verbs.common import Json, check_new_file, emit


def fetch(
    dataset: Annotated[list[str], typer.Argument(help="Image sets, by name.")],
    mirror: Annotated[str | None, typer.Option(help="URL or folder with the same archives.")] = None,
) -> None:
    """Download official image sets, check and decode them."""
    from bitq.data.fetch import fetch as fetch_set

    for name in dataset:
        emit(
            found := fetch_set(name, mirror=mirror),
            False,
            f"{found['path']}  {found['train']} + {found['test']} images",
        )


def import_(
    dataset: Annotated[str, typer.Argument(help="Which image set this is.")],
    file: Annotated[
        Path,
        typer.Argument(
            help=".npz with x_train … y_test, Parquet file or folder of them; for pairs, a Parquet of sentences."
        ),
    ],
    variant: Annotated[str | None, typer.Option(help="Name for a variant that is not registered.")] = None,
    provenance: Annotated[str | None, typer.Option(help="Where unregistered data comes from; kept in results.")] = None,
) -> None:
    """Decode a local file into the data folder."""
    from bitq.data.importers import import_set

    found = import_set(dataset, file, variant, provenance)
    emit(found, False, f"{found['dataset']}/{found['variant']}  {found['train']} + {found['test']} images")


def info(dataset: Annotated[str | None, typer.Argument(help="Only this set.")] = None, as_json: Json = False) -> None:
    """List image sets: known, present, damaged."""
    from bitq.data.importers import info as describe

    rows = describe(dataset)
    shown = [(r["dataset"], r["variant"], r["status"], r["digest"][:12], r["source"]) for r in rows]
    emit(rows, as_json, table(("data set", "variant", "status", "digest", "source"), shown, width=UNLIMITED))


def describe(
    dataset: Annotated[str, typer.Argument(help="Which image set.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. [default: printed]")] = None,
) -> None:
    """Describe an image set in Croissant: licence, citation, archives with their digests, fields."""
    from bitq.interop.croissant import describe as croissant
    from bitq.io import write_json

    found = croissant(dataset)
    if out:
        check_new_file(out)
        write_json(out, found)
    else:
        emit(found, True)
