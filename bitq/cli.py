"""The command line. Each verb imports what it needs when it is called, so that --help costs nothing."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from bitq.errors import BitqError, UsageError

app = typer.Typer(
    name="bitq",
    help="Train every run of a low-bit study, measure the bytes that would ship, test every claim.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Fetch, import and inspect image sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
ScaleOption = Annotated[str, typer.Option("--scale", help="full, mini or smoke: how large.")]
Texts = Annotated[list[str] | None, typer.Option(help="Repeatable.")]
Ints = Annotated[list[int] | None, typer.Option(help="Repeatable.")]
Floats = Annotated[list[float] | None, typer.Option(help="Repeatable.")]
ResultsOption = Annotated[Path | None, typer.Option("--results", help="Folder of finished runs [results].")]
StateOption = Annotated[Path | None, typer.Option("--state", help="Folder of checkpoints [state].")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N.")]


def main() -> None:
    """Entry point: one sentence and an exit code for what a user can act on."""
    try:
        app()
    except BitqError as error:
        print(f"bitq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def emit(value: Any, as_json: bool, text: str = "") -> None:
    """Data on stdout: as JSON, or as the text for people."""
    if as_json or text:
        print(json.dumps(value, indent=1, allow_nan=False) if as_json else text)


@app.command()
def grid(
    run: Annotated[str | None, typer.Argument(help="Explain this run: its id, or the start of its hash.")] = None,
    scale: ScaleOption = "full",
    study: Texts = None,
    phase: Texts = None,
    dataset: Texts = None,
    model: Texts = None,
    method: Texts = None,
    seed: Ints = None,
    commands: Annotated[bool, typer.Option("--commands", help="Print the exact command of every run.")] = False,
    batches: Annotated[bool, typer.Option("--batches", help="Print the workflow's jobs as JSON.")] = False,
    as_json: Json = False,
) -> None:
    """List, filter and explain the runs of the studies."""
    from bitq.grid import batches as jobs
    from bitq.grid.commands import command
    from bitq.grid.describe import explain_run, row, table
    from bitq.grid.select import Selection, find_run
    from bitq.grid.select import grid as select

    if run:
        found = find_run(run, scale)
        emit(found.model_dump(mode="json") | {"id": found.id, "hash": found.hash}, as_json, explain_run(found))
        return
    chosen = Selection(phase or (), dataset or (), model or (), method or (), seed or ())
    runs = select(scale, study or (), chosen)
    if batches:
        emit(jobs.batches(runs), True)
    elif commands:
        emit([command(r) for r in runs], as_json, "\n".join(map(command, runs)))
    else:
        emit([row(r) for r in runs], as_json, f"{table(runs)}\n{len(runs)} runs at scale {scale}")


@app.command()
def plan(
    scale: Texts = None,
    study: Texts = None,
    jobs: Annotated[int, typer.Option(help="Processes side by side.")] = 2,
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Say before anything starts: FLOPs, hours on this machine, disk and memory, per study and scale."""
    from bitq.grid.plan import plan_table
    from bitq.train.calibrate import plan_studies

    rows = plan_studies(scale or [], study or [], jobs, device)
    emit([r.model_dump() for r in rows], as_json, plan_table(rows))


@app.command()
def train(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs of the grid, by id; or use options.")] = None,
    scale: ScaleOption = "full",
    study: Annotated[list[str] | None, typer.Option(help="Train all runs of a study.")] = None,
    model: Texts = None,
    dataset: Texts = None,
    variant: Annotated[list[str] | None, typer.Option(help="Data variant [that of the scale].")] = None,
    method: Texts = None,
    setting: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the method's quantizer.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Layers in full precision: conv1,fc or a glob.")] = None,
    norm: Annotated[list[str] | None, typer.Option(help="none or layer.")] = None,
    stem: Annotated[list[str] | None, typer.Option(help="cifar or imagenet.")] = None,
    width: Annotated[list[int] | None, typer.Option(help="Channels of the first stage.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="bf16 or fp32.")] = None,
    teacher: Annotated[list[str] | None, typer.Option(help="RUN or FILE to learn from.")] = None,
    temperature: Floats = None,
    alpha: Annotated[list[float] | None, typer.Option(help="Weight of the teacher's term.")] = None,
    start: Annotated[list[str] | None, typer.Option(help="RUN or FILE whose fp32 weights to start from.")] = None,
    seed: Ints = None,
    epochs: Ints = None,
    batch: Ints = None,
    accumulate: Annotated[list[int] | None, typer.Option(help="Micro-batches per step.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help="sgd or adamw.")] = None,
    lr: Floats = None,
    weight_decay: Floats = None,
    schedule: Annotated[list[str] | None, typer.Option(help="cosine, step or constant.")] = None,
    milestones: Annotated[list[str] | None, typer.Option(help="Epochs of schedule step: 100,150.")] = None,
    warmup_epochs: Floats = None,
    min_lr: Floats = None,
    mixup: Floats = None,
    label_smoothing: Floats = None,
    augment: Annotated[list[str] | None, typer.Option(help="none, basic, randaug, cutout or full.")] = None,
    pad: Ints = None,
    clip_norm: Floats = None,
    validation: Annotated[list[float] | None, typer.Option(help="Share of the training images held out.")] = None,
    results: ResultsOption = None,
    state: StateOption = None,
    device: DeviceOption = "auto",
    mode: Annotated[str, typer.Option(help="exact (repeats bit for bit) or fast.")] = "exact",
    threads: Annotated[int, typer.Option(help="CPU threads; run several jobs of one rather than one of several.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 71 if a run diverges.")] = False,
    as_json: Json = False,
) -> None:
    """Train runs of the grid, or a one-off run or sweep described by options.

    Finished runs are skipped, interrupted ones go on where they stopped, parents are trained first. Several values of
    an option make a sweep.
    """
    described = {
        key: value for key, value in locals().items() if isinstance(value, list) and key not in ("runs", "study")
    }
    from bitq.grid.adhoc import sweep
    from bitq.grid.select import find_run
    from bitq.grid.select import grid as select

    if described and (runs or study):
        raise UsageError(
            f"runs of the grid are fixed, so --{min(described).replace('_', '-')} cannot go with a run or --study; "
            "describe a run by options alone: bitq train --model resnet18 --dataset cifar10 --method bitnet."
        )
    chosen = [find_run(name, scale) for name in runs or ()] + (list(select(scale, study)) if study else [])
    chosen += sweep(scale, parsed_options(described)) if described or not chosen else ()

    from bitq.paths import results_dir, state_dir
    from bitq.train.device import machine
    from bitq.train.session import Session

    on = machine(device, mode_of(mode), threads)
    on.prepare()
    session = Session(on, results or results_dir(), state or state_dir(), strict)
    code = session.train(chosen)
    report(chosen, session.results, as_json)
    sys.exit(code)


def parsed_options(options: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Texts that stand for lists and mappings: conv1,fc · 100,150 · KEY=VALUE."""
    parsed = dict(options)
    if "keep" in parsed:
        parsed["keep"] = [() if item == "none" else tuple(item.split(",")) for item in parsed["keep"]]
    if "milestones" in parsed:
        parsed["milestones"] = [tuple(map(number, item.split(","))) for item in parsed["milestones"]]
    if "setting" in parsed:
        parsed["settings"] = [dict(map(key_value, parsed.pop("setting")))]
    return parsed


def key_value(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value a number where it reads as one."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--setting {text!r} was given; write KEY=VALUE, for example --setting threshold=0.05.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def number(text: str) -> int:
    """A whole number, or one sentence."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a whole number; milestones read like 100,150.") from None


def mode_of(text: str) -> Any:
    """exact or fast."""
    from bitq.errors import one_of

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


@app.command()
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


@app.command()
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


@data_app.command("fetch")
def data_fetch(dataset: Annotated[list[str], typer.Argument(help="Image sets, by name.")]) -> None:
    """Download official image sets, check and decode them."""
    from bitq.data.fetch import fetch

    for name in dataset:
        emit(found := fetch(name), False, f"{found['path']}  {found['train']} + {found['test']} images")


@data_app.command("import")
def data_import(
    dataset: Annotated[str, typer.Argument(help="Which image set this is.")],
    file: Annotated[Path, typer.Argument(help=".npz with x_train … y_test, Parquet file, or folder of Parquet files.")],
    variant: Annotated[str | None, typer.Option(help="Name for a variant that is not registered.")] = None,
    provenance: Annotated[str | None, typer.Option(help="Where unregistered data comes from; kept in results.")] = None,
) -> None:
    """Decode a local file into the data folder."""
    from bitq.data.importers import import_set

    found = import_set(dataset, file, variant, provenance)
    emit(found, False, f"{found['dataset']}/{found['variant']}  {found['train']} + {found['test']} images")


@data_app.command("info")
def data_info(
    dataset: Annotated[str | None, typer.Argument(help="Only this set.")] = None, as_json: Json = False
) -> None:
    """Say which image sets are known, which are here, and whether they are whole."""
    from bitq.data.importers import info

    rows = info(dataset)
    lines = [f"{r['dataset']:<14} {r['variant']:<16} {r['status']:<9} {r['digest'][:12]}  {r['source']}" for r in rows]
    emit(rows, as_json, "\n".join(lines))


if __name__ == "__main__":
    main()
