"""Check finished runs, collect them into tables, compare them."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitq.errors import DataError, UsageError
from bitq.verbs.common import DeviceOption, Json, ResultsOption, ScaleOption, emit

if TYPE_CHECKING:
    from bitq.run import Run

Paper = Annotated[bool, typer.Option("--paper", help="The runs that config/paper.yaml selects.")]
Study = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these studies; repeatable.")]
Table = Annotated[Path, typer.Option("--runs", metavar="FILE", help="The table that aggregate wrote.")]
MixHardware = Annotated[
    list[str] | None,
    typer.Option("--across", metavar="NAME", help="mode, device, machine: runs that differ in it may be pooled."),
]


def verify(
    paper: Paper = False,
    study: Study = None,
    scale: ScaleOption = "full",
    results: ResultsOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write the verdict to, as JSON.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Missing runs are counted, no error.")] = False,
    manifest: Annotated[bool, typer.Option("--manifest", help="Write the manifest of what is there first.")] = False,
    remeasure: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Evaluate N random packed files again, or all that are there, and keep in remeasured.json which "
            "confirm their results.",
        ),
    ] = None,
    draw: Annotated[
        int | None, typer.Option(metavar="INT", min=0, help="Seed of the choice of N. [default: another each time]")
    ] = None,
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Check every run's place, schema, digests and manifest entry."""
    from bitq.grid.paper import config
    from bitq.paths import results_dir
    from bitq.results.manifest import write_manifest
    from bitq.results.verify import describe, require, save
    from bitq.results.verify import verify as check

    runs, root = selected(paper, study, scale), results or results_dir()
    allow_missing |= paper and config().growing
    count = count_of(remeasure) if remeasure else 0
    if manifest:
        write_manifest(root, runs)
    verdict = check(root, runs, allow_missing)
    if remeasure and verdict.ok:
        measure_again(root, runs, count, draw, device)
        verdict = check(root, runs, allow_missing)
    if out:
        save(verdict, out)
    if as_json:
        emit(verdict.model_dump(mode="json"), as_json)
    require(verdict)
    if not as_json:
        emit(None, as_json, describe(verdict))


def count_of(text: str) -> int | None:
    """Read how many packed files to evaluate; None stands for all."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"--remeasure {text} was given; allowed: all, or a number from 1, as in --remeasure 20.")
    return int(text)


def measure_again(root: Path, runs: "tuple[Run, ...]", count: int | None, draw: int | None, device: str) -> None:
    """Evaluate packed files again, keep which confirm their results, and refuse results that they contradict."""
    from bitq.machine import fingerprint, machine
    from bitq.measure.remeasure import remeasure
    from bitq.results.remeasured import add_remeasured

    seed = secrets.randbelow(2**32) if draw is None else draw
    found = remeasure(root, runs, count, seed, device)
    confirmed = {each.path: each.results_sha256 for each in found if not each.differences}
    add_remeasured(root, confirmed, fingerprint(machine(device)))
    if wrong := [each for each in found if each.differences]:
        lines = "\n".join(f"  {each.path}: {'; '.join(each.differences)}" for each in wrong)
        raise DataError(
            f"{len(wrong)} of {len(found)} packed files, drawn by --draw {seed}, contradict their results:\n{lines}\n"
            "Restore them from where the results came, or delete the folders and train the runs again."
        )


def aggregate(
    paper: Paper = False,
    study: Study = None,
    scale: ScaleOption = "full",
    results: ResultsOption = None,
    verdict: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What verify --out wrote. [default: verified first]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the tables.")] = Path("build"),
) -> None:
    """Collect all runs, their curves, packed layers and predictions as Parquet, with CSV beside the first two."""
    from bitq.paths import results_dir
    from bitq.results.aggregate import aggregate as collect
    from bitq.results.verify import read_verdict, require
    from bitq.results.verify import verify as check

    runs, root = selected(paper, study, scale), results or results_dir()
    found = read_verdict(verdict) if verdict else check(root, runs, allow_missing=True)
    require(found)
    census = collect(root, runs, out, found.root)
    emit(None, False, f"{census.present} of {census.expected} runs in {out}/runs.parquet")


def stats(
    runs: Table,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write, as JSON.")],
    across: MixHardware = None,
) -> None:
    """Compute every contrast: difference, interval, test."""
    from bitq.stats.summary import write_stats
    from bitq.studies.catalogue import questions

    write_stats(runs, out, questions(), across or ())


def selected(paper: bool, study: list[str] | None, scale: str) -> "tuple[Run, ...]":
    """Select the runs of the paper, or of whole studies at one scale."""
    from bitq.grid.paper import paper_runs
    from bitq.grid.select import grid

    return paper_runs() if paper else grid(scale, study or ())
