"""The runs and files that a run starts or learns from: where they lie, and whether they fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bitq.deploy.blueprint import geometry_of, must_fit, spec_of
from bitq.deploy.export import lowbit_layers
from bitq.errors import DataError, UsageError
from bitq.grid.select import find_run
from bitq.io import sha256_file
from bitq.quant.convert import settings_of
from bitq.quant.registry import METHODS, defaults
from bitq.results.folder import MODEL, folder_of
from bitq.run import Parent, Run


def check_parents(run: Run, results: Path) -> None:
    """Reject parents that cannot fit, before hours go into training them."""
    if run.start and not run.start.is_file:
        check_start(run, run.start, spec_of(find_run(run.start.id, run.scale, results)))
    teacher = run.distillation and run.distillation.teacher
    if teacher and not teacher.is_file:
        check_teacher(run, teacher, spec_of(find_run(teacher.id, run.scale, results)))


def check_start(run: Run, start: Parent, spec: Mapping[str, Any]) -> None:
    """Reject a start of another method or shape."""
    fitting = (*(("fp32",) if METHODS[run.method].weight.latent_from_weight else ()), run.method)
    if spec["method"] not in fitting:
        raise UsageError(
            f"{run.id} starts from {start.id}, a network of {spec['method']}; "
            f"only weights of {' or '.join(dict.fromkeys(fitting))} can be its start."
        )
    shape = {"model": run.model, "width": run.width, "stem": run.stem}
    must_fit(start.id, spec, shape | geometry_of(run.data), "start from a file of the same shape")


def check_teacher(run: Run, teacher: Parent, spec: Mapping[str, Any]) -> None:
    """Reject a teacher of other data."""
    asked = {"dataset": run.data.dataset} | geometry_of(run.data)
    must_fit(teacher.id, spec, asked, f"give {run.id} a teacher of its own data")


def check_same_quantization(run: Run, spec: dict[str, Any], model: nn.Module, start: nn.Module) -> None:
    """Reject a start with other quantizer settings or kept layers, under which its latents mean something else."""
    ours, theirs = lowbit_layers(model), lowbit_layers(start)
    for name in sorted(ours.keys() ^ theirs.keys()):
        one, other = ("the run", "its start") if name in ours else ("the start", "the run")
        raise UsageError(
            f"{name} is quantized in {one}, but {other} keeps it in full precision; give the layers that the start "
            f"keeps: --keep {','.join(spec.get('keep', ())) or 'none'}."
        )
    may_change = METHODS[run.method].weight.of_evaluation
    for name in ours:
        wanted, found = (_settings(run.method, settings_of(name, of)) for of in (run.settings, spec["settings"]))
        for key in [key for key in wanted if key not in may_change and wanted[key] != found[key]]:
            raise UsageError(
                f"{name} of the start was trained with {key}={found[key]}, but the run has {key}={wanted[key]}; "
                f"give --setting {key}={found[key]}, or start from an fp32 network."
            )


def _settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    every = defaults(method) | given
    return {key: list(value) if isinstance(value, tuple) else value for key, value in every.items()}


def parent_file(parent: Parent, run: Run, results: Path) -> Path:
    """Find the parent's packed file: a file given by name, or the result of a run."""
    if parent.is_file:
        path = Path(parent.id)
        if sha256_file(path) != parent.hash:
            raise DataError(f"{path} has changed since {run.id} was planned; plan the run again.")
        return path
    path = folder_of(find_run(parent.id, run.scale, results), results) / MODEL
    if not path.exists():
        raise DataError(f"{run.id} needs {path}; train it first: bitq train {parent.id} --scale {run.scale}.")
    return path
