"""Train from a line of the grid or from options."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitq.errors import BitqError, UsageError, one_of
from bitq.verbs.common import DeviceOption, Json, ResultsOption, StateOption, emit

if TYPE_CHECKING:
    from bitq.results.folder import Finished
    from bitq.run import Run


NAME = "train"
RUN = "Run"  # group of options


def train(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs of the grid, by id or glob, as in 'ring/*/s42'; or describe one.",
            rich_help_panel=RUN,
        ),
    ] = None,
    scale: Annotated[str, typer.Option(metavar="NAME", help="full, mini or smoke.", rich_help_panel=RUN)] = "full",
    study: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="All runs of a study, or those of --phase, --dataset, --model, --method and --seed.",
            rich_help_panel=RUN,
        ),
    ] = None,
    phase: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of the study, only these phases.", rich_help_panel=RUN)
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
    curves: Annotated[bool, typer.Option("--curves", help="Draw curves.png beside each one-off run.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for event files with the curves, for TensorBoard.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 71 if a run diverges.")] = False,
    models: Annotated[
        bool,
        typer.Option("--models", help="Train again what is finished but has no packed file."),
    ] = False,
    marker: Annotated[
        Path | None, typer.Option("--done", metavar="FILE", help="File to write once all runs are finished.")
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Stop before then, with all saved: 110m, 8h or a date. [default: $SLURM_JOB_END_TIME]"
        ),
    ] = None,
    as_json: Json = False,
    **described: Any,
) -> None:
    """Train runs of the grid, or a one-off run or sweep by options.

    Finished runs are skipped, interrupted ones go on where they stopped, parents are trained first.

    One-off runs need --model, --dataset and --method; what is not given has the default, at scale mini and smoke that
    of the scale. They are named by what differs from it and listed by bitq results --study adhoc. Every option of the
    groups from Network to Recipe is repeatable: several values make a sweep, as in --lr 0.1 --lr 0.05 --seed 1
    --seed 2.
    """
    if deadline:
        from bitq.deadline import set_deadline

        set_deadline(deadline)
    given = {key: value for key, value in described.items() if value}
    chosen = chosen_runs(runs or [], study or [], phase or [], scale, given, results)
    if given and not study:
        from bitq.train.network import check_options

        for run in chosen:
            check_options(run)

    from bitq.io import write_json
    from bitq.machine import machine
    from bitq.paths import results_dir, state_dir
    from bitq.results.folder import folder_of, run_digest
    from bitq.status.recorded import RecordedSession
    from bitq.train.pool import train_side_by_side

    on = machine(device, mode_of(mode), threads, capture)
    on.prepare()
    session = RecordedSession(on, results or results_dir(), state or state_dir(), strict, models)
    there = finished_of(chosen, session.results)
    again = without_file(there) if models else set()
    before = {run.id for run, _ in there} - again
    if again:
        print(
            f"{len(again)} of {len(there)} finished runs have no packed file and are trained again; where the result "
            "is equal, as it must be on this kind of machine, their records stay as they are.",
            file=sys.stderr,
        )
    code = session.train(chosen) if jobs is None else train_side_by_side(session, chosen, jobs)
    done = finished_of(chosen, session.results)
    report(done, as_json)
    draw(done, curves, tensorboard)
    if not as_json:
        for line in what_next(done, before):
            print(line, file=sys.stderr)
    if marker and code == 0:
        write_json(marker, {run.id: run_digest(folder_of(run, session.results)) for run in chosen})
    sys.exit(code)


FILTERS = ("dataset", "model", "method", "seed")  # options that choose among the runs of a study, too


def chosen_runs(
    names: list[str],
    studies: list[str],
    phases: list[str],
    scale: str,
    described: dict[str, list[Any]],
    results: Path | None = None,
) -> "list[Run]":
    """Find runs of the grid by name, take those of studies, or resolve what the options describe."""
    from bitq.grid.adhoc import sweep
    from bitq.grid.select import Selection, find_runs, grid

    if phases and not studies:
        raise UsageError(f"--phase {phases[0]} was given without its study; name it too, as in --study ring.")
    if not names and not studies:
        return list(sweep(scale, parsed_options(described), results))
    fixed = described.keys() - (set() if names else set(FILTERS))
    if fixed:
        raise UsageError(
            f"runs of the grid are fixed, so --{min(fixed).replace('_', '-')} cannot go with a run or --study; "
            "describe a run by options alone: bitq train --model resnet18 --dataset cifar10 --method bitnet."
        )
    named = [run for name in names for run in find_runs(name, scale, results)]
    wanted = {f"{option}s": described.get(option, ()) for option in FILTERS}
    return named + (list(grid(scale, studies, Selection(phases, **wanted))) if studies else [])


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
        raise UsageError(f"{text!r} is not a whole number; write milestones like 100,150.") from None


def mode_of(text: str) -> Any:
    """Check that a mode is exact or fast."""
    if text not in ("exact", "fast"):
        raise one_of("mode", text, ("exact", "fast"))
    return text


def finished_of(runs: "Iterable[Run]", results: Path) -> "list[tuple[Run, Finished]]":
    """Find those of the runs that are finished."""
    from bitq.results.folder import finished

    done = []
    for run in runs:
        with suppress(BitqError):  # said already, on stderr
            if found := finished(run, results):
                done.append((run, found))
    return done


def report(done: "list[tuple[Run, Finished]]", as_json: bool) -> None:
    """Print one line a finished run: where it lies, its accuracy, its bytes."""
    found = [each for _, each in done]
    lines = [
        f"{each.folder}  {packed.accuracy:.2f} %  {packed.file_bytes} bytes"
        if (packed := each.results.packed)
        else f"{each.folder}  {each.results.status}"
        for each in found
    ]
    emit([each.results.model_dump(mode="json") for each in found], as_json, "\n".join(lines))


def without_file(done: "list[tuple[Run, Finished]]") -> set[str]:
    """Return the ids of the runs whose packed file is absent."""
    from bitq.results.folder import MODEL

    return {run.id for run, each in done if each.results.packed and not (each.folder / MODEL).exists()}


def draw(done: "list[tuple[Run, Finished]]", curves: bool, tensorboard: Path | None) -> None:
    """Draw the curves of one-off runs, and write those of all runs for TensorBoard, where asked to."""
    from bitq.grid.oneoff import STUDY

    for run, found in done:
        if curves and run.study == STUDY and run.recipe.epochs:
            from bitq.report.curves import write_curves

            write_curves(found, found.folder / "curves.png")
        if tensorboard:
            from bitq.interop.tensorboard import write_events

            write_events(found, tensorboard)


def what_next(done: "list[tuple[Run, Finished]]", before: set[str]) -> Iterator[str]:
    """Say what was not trained, what may differ elsewhere, and what to call next."""
    from bitq.results.folder import MODEL

    skipped = [run for run, _ in done if run.id in before]
    if skipped:
        yield f"{len(skipped)} of {len(done)} finished runs were there before and were not trained again."
    if len(skipped) < len(done):
        yield "The same command gives these numbers again on this kind of processor; on another they may differ."
    files = [found.folder / MODEL for _, found in done if (found.folder / MODEL).exists()]
    if files:
        yield f"Next: bitq evaluate {files[0]}"
    elif skipped:
        yield "Their packed files are not here: --models trains them again, --results FOLDER does so elsewhere."
