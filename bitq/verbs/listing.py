"""List what there is: networks, methods, image sets, finished runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bitq.terminal import records_table, table
from bitq.verbs.common import Ints, Json, ResultsOption, ScaleOption, Texts, emit

if TYPE_CHECKING:
    from bitq.results.folder import Finished


def models(as_json: Json = False) -> None:
    """List the networks: published width, and what each is."""
    from bitq.catalogue import ABOUT_MODELS, PUBLISHED_WIDTH

    rows = [{"model": name, "width": PUBLISHED_WIDTH[name], "about": about} for name, about in ABOUT_MODELS.items()]
    emit(rows, as_json, records_table(rows))


def methods(as_json: Json = False) -> None:
    """List the methods: what each does to the weights, and its settings."""
    from bitq.catalogue import ABOUT_METHODS, SETTINGS

    names = dict.fromkeys((*ABOUT_METHODS, *SETTINGS))  # a new method may have no words yet
    rows = [{"method": name, "about": ABOUT_METHODS.get(name, ""), "settings": SETTINGS[name]} for name in names]
    shown = [(row["method"], row["about"], ", ".join(row["settings"])) for row in rows]
    emit(rows, as_json, table(("method", "about", "settings"), shown, left=3))


def datasets(as_json: Json = False) -> None:
    """List the image sets: sizes, classes, and the variants that are here."""
    from bitq.data.registry import OFFICIAL, datasets, registered

    rows = []
    for name in datasets():
        official = registered(name)[OFFICIAL]
        pixels = f"{official.image_size}×{official.image_size}×{official.channels}"
        about = f"{official.train:,} + {official.test:,} images, {pixels}, {official.classes} classes"
        rows.append({"dataset": name, "about": about, "here": variants_here(name)})
    text = records_table([row | {"here": ", ".join(row["here"]) or "none"} for row in rows])
    emit(rows, as_json, text)


def variants_here(dataset: str) -> list[str]:
    """List the decoded variants of a set in the data folder."""
    from bitq.data.registry import INFO, default_data_dir

    return sorted(path.parent.name for path in default_data_dir().joinpath(dataset).glob(f"*/{INFO}"))


def results(
    scale: ScaleOption = "full",
    study: Texts = None,
    dataset: Texts = None,
    model: Texts = None,
    method: Texts = None,
    seed: Ints = None,
    results: ResultsOption = None,
    as_json: Json = False,
) -> None:
    """List the finished runs of a scale, one-off runs among them: accuracy of the packed file, its bytes."""
    from bitq.grid.describe import row
    from bitq.grid.select import Selection
    from bitq.paths import results_dir
    from bitq.results.listing import outcome_row

    folder = results or results_dir()
    places = [folder / scale / name for name in study] if study else [folder / scale]
    found = [each for place in places for each in finished_runs(place)]
    chosen = Selection((), dataset or (), model or (), method or (), seed or ())
    ids = {run.id for run in chosen.of(tuple(each.config for each in found))}
    shown = [each for each in found if each.config.id in ids]
    outcomes = [outcome_row(each) for each in shown]
    rows = [row(each.config) | outcome for each, outcome in zip(shown, outcomes, strict=True)]
    emit(rows, as_json, f"{records_table(outcomes)}\n{counted(len(rows), scale, folder)}".lstrip())


def counted(rows: int, scale: str, folder: Path) -> str:
    """Say how many runs are listed; of none, at which scales there are some."""
    text = f"{rows} finished runs at scale {scale} in {folder}"
    others = sorted({path.parents[5].name for path in folder.glob("*/*/*/*/*/*/results.json")} - {scale})
    return text if rows or not others else f"{text}; there are some at {' and '.join(others)}"


def finished_runs(folder: Path) -> "list[Finished]":
    """Read every finished run below a folder; say on stderr which are damaged."""
    from bitq.results.listing import finished_below

    found, complaints = finished_below(folder)
    for complaint in complaints:
        print(f"bitq: {complaint}", file=sys.stderr)
    return found
