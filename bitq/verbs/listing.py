"""List what there is: networks, methods, image sets, finished runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bitq.terminal import records_table
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

    rows = [{"method": name, "about": about, "settings": SETTINGS[name]} for name, about in ABOUT_METHODS.items()]
    text = records_table([row | {"settings": ", ".join(row["settings"])} for row in rows])
    emit(rows, as_json, text)


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
    scale: ScaleOption = "mini",
    study: Texts = None,
    dataset: Texts = None,
    model: Texts = None,
    method: Texts = None,
    seed: Ints = None,
    results: ResultsOption = None,
    as_json: Json = False,
) -> None:
    """List the finished runs of a scale, one-off runs among them: accuracy of the packed file, its bytes."""
    from bitq.grid.select import Selection
    from bitq.paths import results_dir
    from bitq.results.listing import outcome_row

    folder = results or results_dir()
    found = [each for each in finished_runs(folder / scale) if not study or each.config.study in study]
    chosen = Selection((), dataset or (), model or (), method or (), seed or ())
    ids = {run.id for run in chosen.of(tuple(each.config for each in found))}
    rows = [outcome_row(each) for each in found if each.config.id in ids]
    emit(rows, as_json, f"{records_table(rows)}\n{len(rows)} finished runs at scale {scale} in {folder}".lstrip())


def finished_runs(folder: Path) -> "list[Finished]":
    """Read every finished run below a folder; say on stderr which are damaged."""
    from bitq.results.listing import finished_below

    found, complaints = finished_below(folder)
    for complaint in complaints:
        print(f"bitq: {complaint}", file=sys.stderr)
    return found
