"""Train from a line of the grid or from options."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitq.errors import BitqError, UsageError, one_of
from bitq.verbs.common import DeviceOption, Json, ResultsOption, StateOption, emit

if TYPE_CHECKING:
    from bitq.run import Run


NAME = "train"
RUN = "Run"  # group of options


def train(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs of the grid, by id; or describe one.", rich_help_panel=RUN),
    ] = None,
    scale: Annotated[str, typer.Option(metavar="NAME", help="full, mini or smoke.", rich_help_panel=RUN)] = "full",
    study: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train all runs of a study.", rich_help_panel=RUN)
    ] = None,
    results: ResultsOption = None,
    state: StateOption = None,
    device: DeviceOption = "auto",
    mode: Annotated[str, typer.Option(metavar="NAME", help="exact (repeats bit for bit) or fast.")] = "exact",
    threads: Annotated[
        int, typer.Option(metavar="INT", help="CPU threads; run several jobs of one rather than one of several.")
    ] = 1,
    capture: Annotated[bool, typer.Option(help="On a GPU, replay whole training steps as a CUDA graph.")] = True,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            help="Runs side by side, on each visible GPU or on the CPU; one after the other if unset.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 71 if a run diverges.")] = False,
    models: Annotated[bool, typer.Option("--models", help="Train again what has no packed file.")] = False,
    done: Annotated[
        Path | None, typer.Option("--done", metavar="FILE", help="File to write once all runs are finished.")
    ] = None,
    as_json: Json = False,
    **described: Any,
) -> None:
    """Train runs of the grid, or a one-off run or sweep by options.

    Finished runs are skipped, interrupted ones go on where they stopped, parents are trained first.

    One-off runs need --model, --dataset and --method; what is not given has the default, at scale mini and smoke that
    of the scale. They are named by what differs from it and listed by bitq grid --adhoc. Every option of the groups
    from Network to Recipe is repeatable: several values make a sweep, as in --lr 0.1 --lr 0.05 --seed 1 --seed 2.
    """
    given = {key: value for key, value in described.items() if value}
    chosen = chosen_runs(runs or [], study or [], scale, given, results)
    if given:
        from bitq.train.network import check_options

        for run in chosen:
            check_options(run)

    from bitq.io import write_json
    from bitq.machine import machine
    from bitq.paths import results_dir, state_dir
    from bitq.results.folder import folder_of, run_digest
    from bitq.train.pool import train_side_by_side
    from bitq.train.session import Session

    on = machine(device, mode_of(mode), threads, capture)
    on.prepare()
    session = Session(on, results or results_dir(), state or state_dir(), strict, models)
    code = session.train(chosen) if jobs is None else train_side_by_side(session, chosen, jobs)
    report(chosen, session.results, as_json)
    if done and code == 0:
        write_json(done, {run.id: run_digest(folder_of(run, session.results)) for run in chosen})
    sys.exit(code)


def chosen_runs(
    names: list[str], studies: list[str], scale: str, described: dict[str, list[Any]], results: Path | None = None
) -> "list[Run]":
    """Find runs of the grid by name, take whole studies, or resolve what the options describe."""
    from bitq.grid.adhoc import sweep
    from bitq.grid.select import find_run, grid

    if not names and not studies:
        return list(sweep(scale, parsed_options(described), results))
    if described:
        raise UsageError(
            f"runs of the grid are fixed, so --{min(described).replace('_', '-')} cannot go with a run or --study; "
            "describe a run by options alone: bitq train --model resnet18 --dataset cifar10 --method bitnet."
        )
    return [find_run(name, scale, results) for name in names] + (list(grid(scale, studies)) if studies else [])


def parsed_options(options: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Read the texts that stand for lists and mappings: conv1,fc · 100,150 · KEY=VALUE."""
    parsed = dict(options)
    if "keep" in parsed:
        parsed["keep"] = [() if item == "none" else tuple(item.split(",")) for item in parsed["keep"]]
    if "milestones" in parsed:
        parsed["milestones"] = [tuple(map(number, item.split(","))) for item in parsed["milestones"]]
    if "setting" in parsed:
        parsed["settings"] = [key_values("setting", parsed.pop("setting"))]
    if "calibration" in parsed:
        parsed["calibration"] = [key_values("calibration", parsed["calibration"])]
    return parsed


EXAMPLES = {"setting": "threshold=0.05", "calibration": "fold=true"}


def key_values(option: str, texts: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE, the value a number where it reads as one."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key in found:
            twice = f", and {key} twice" if equals else ""
            raise UsageError(f"--{option} {text!r} was given{twice}; write KEY=VALUE once, as in {EXAMPLES[option]}.")
        try:
            found[key] = json.loads(value, parse_constant=str)  # NaN and Infinity stay words
        except ValueError:
            found[key] = value
    return found


def number(text: str) -> int:
    """Read a whole number, or refuse it in one sentence."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a whole number; milestones read like 100,150.") from None


def mode_of(text: str) -> Any:
    """Check that a mode is exact or fast."""
    if text not in ("exact", "fast"):
        raise one_of("mode", text, ("exact", "fast"))
    return text


def report(runs: Iterable[Any], results: Path, as_json: bool) -> None:
    """Print one line a finished run: where it lies, its accuracy, its bytes."""
    from bitq.results.folder import finished, folder_of

    done = []
    for run in runs:
        try:
            found = finished(run, results)
        except BitqError:
            continue  # said already, on stderr
        if found:
            done.append((folder_of(run, results), found.results))
    lines = [
        f"{folder}  {r.packed.accuracy:.2f} %  {r.packed.file_bytes} bytes" if r.packed else f"{folder}  {r.status}"
        for folder, r in done
    ]
    emit([r.model_dump(mode="json") for _, r in done], as_json, "\n".join(lines))
