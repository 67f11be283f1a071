"""Training, from a line of the grid or from options."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitq.errors import BitqError, UsageError, one_of
from bitq.verbs.common import DeviceOption, Floats, Ints, Json, ResultsOption, ScaleOption, StateOption, Texts, emit

if TYPE_CHECKING:
    from bitq.run import Run


def train(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs of the grid, by id; or use options.")] = None,
    scale: ScaleOption = "full",
    study: Annotated[list[str] | None, typer.Option(help="Train all runs of a study.")] = None,
    model: Texts = None,
    dataset: Texts = None,
    variant: Annotated[list[str] | None, typer.Option(help="Data variant [that of the scale].")] = None,
    method: Texts = None,
    setting: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the method's quantizer.")] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of quantization after training, with --epochs 0: activations=static."),
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Layers in full precision: conv1,fc or a glob.")] = None,
    norm: Annotated[list[str] | None, typer.Option(help="none or layer.")] = None,
    stem: Annotated[list[str] | None, typer.Option(help="cifar or imagenet.")] = None,
    width: Annotated[list[int] | None, typer.Option(help="Channels of the first stage.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="bf16, fp16 or fp32.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="RUN or FILE to learn from, or online: an fp32 twin trained beside it.")
    ] = None,
    temperature: Floats = None,
    alpha: Annotated[list[float] | None, typer.Option(help="Weight of the teacher's term.")] = None,
    start: Annotated[list[str] | None, typer.Option(help="RUN or FILE whose weights to start from.")] = None,
    seed: Ints = None,
    epochs: Ints = None,
    batch: Ints = None,
    accumulate: Annotated[list[int] | None, typer.Option(help="Micro-batches per step.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help="sgd, adamw or adam.")] = None,
    lr: Floats = None,
    weight_decay: Floats = None,
    schedule: Annotated[list[str] | None, typer.Option(help="cosine, step or constant.")] = None,
    milestones: Annotated[list[str] | None, typer.Option(help="Epochs of schedule step: 100,150.")] = None,
    warmup_epochs: Floats = None,
    min_lr: Floats = None,
    mixup: Floats = None,
    label_smoothing: Floats = None,
    augment: Annotated[list[str] | None, typer.Option(help="none, basic, rotate, randaug, cutout or full.")] = None,
    pad: Ints = None,
    clip_norm: Floats = None,
    l1: Floats = None,
    normalisation: Annotated[list[str] | None, typer.Option(help="imagenet, half, or the data set's own.")] = None,
    momentum: Floats = None,
    nesterov: Annotated[
        list[bool] | None, typer.Option("--nesterov/--no-nesterov", help="Look ahead by the momentum [yes].")
    ] = None,
    lr_every: Annotated[list[str] | None, typer.Option(help="epoch or step: how often lr changes.")] = None,
    gamma: Floats = None,
    validation: Annotated[list[float] | None, typer.Option(help="Share of the training images held out.")] = None,
    results: ResultsOption = None,
    state: StateOption = None,
    device: DeviceOption = "auto",
    mode: Annotated[str, typer.Option(help="exact (repeats bit for bit) or fast.")] = "exact",
    threads: Annotated[int, typer.Option(help="CPU threads; run several jobs of one rather than one of several.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 71 if a run diverges.")] = False,
    models: Annotated[bool, typer.Option("--models", help="Train again what has no packed file.")] = False,
    done: Annotated[Path | None, typer.Option("--done", help="File to write once all runs are finished.")] = None,
    as_json: Json = False,
) -> None:
    """Train runs of the grid, or a one-off run or sweep described by options.

    Finished runs are skipped, interrupted ones go on where they stopped, parents are trained first. Several values of
    an option make a sweep.
    """
    described = {
        key: value for key, value in locals().items() if isinstance(value, list) and key not in ("runs", "study")
    }
    chosen = chosen_runs(runs or [], study or [], scale, described)

    from bitq.io import write_json
    from bitq.machine import machine
    from bitq.paths import results_dir, state_dir
    from bitq.results.folder import folder_of, run_digest
    from bitq.train.session import Session

    on = machine(device, mode_of(mode), threads)
    on.prepare()
    session = Session(on, results or results_dir(), state or state_dir(), strict, models)
    code = session.train(chosen)
    report(chosen, session.results, as_json)
    if done and code == 0:
        write_json(done, {run.id: run_digest(folder_of(run, session.results)) for run in chosen})
    sys.exit(code)


def chosen_runs(names: list[str], studies: list[str], scale: str, described: dict[str, list[Any]]) -> "list[Run]":
    """Runs of the grid by name, whole studies, or what the options describe."""
    from bitq.grid.adhoc import sweep
    from bitq.grid.select import find_run, grid

    if not names and not studies:
        return list(sweep(scale, parsed_options(described)))
    if described:
        raise UsageError(
            f"runs of the grid are fixed, so --{min(described).replace('_', '-')} cannot go with a run or --study; "
            "describe a run by options alone: bitq train --model resnet18 --dataset cifar10 --method bitnet."
        )
    return [find_run(name, scale) for name in names] + (list(grid(scale, studies)) if studies else [])


def parsed_options(options: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Texts that stand for lists and mappings: conv1,fc · 100,150 · KEY=VALUE."""
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
    """KEY=VALUE, the value a number where it reads as one."""
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
    """A whole number, or one sentence."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a whole number; milestones read like 100,150.") from None


def mode_of(text: str) -> Any:
    """exact or fast."""
    if text not in ("exact", "fast"):
        raise one_of("mode", text, ("exact", "fast"))
    return text


def report(runs: Iterable[Any], results: Path, as_json: bool) -> None:
    """One line a finished run: where it lies, its accuracy, its bytes."""
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
