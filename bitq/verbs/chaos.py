"""Rehearse failures."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.verbs.common import Json, ScaleOption, Texts, emit


def chaos(
    scale: ScaleOption = "smoke",
    study: Texts = None,
    kills: Annotated[int, typer.Option(min=1, help="Processes to kill.")] = 50,
    runs: Annotated[int, typer.Option(min=1, help="Runs to draw from the grid.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side.")] = 2,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between kills, on average.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of runs, moments, victims and damages.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="New folder for logs and runs, kept. [default: one deleted unless something was lost]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record to write. [default: chaos.json in the results folder]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Kill, damage and fill up a part of the grid; compare its bytes with those of an undisturbed one."""
    from bitq.chaos.rehearse import rehearse
    from bitq.paths import results_dir
    from bitq.results.rehearsal import NAME, describe, require

    found, place = rehearse(scale, study or (), runs, kills, seed, jobs, every, folder, out or results_dir() / NAME)
    emit(found.model_dump(mode="json"), as_json, describe(found))
    require(found, place)
