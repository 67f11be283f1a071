"""Write the exact command of a run."""

import shlex
from collections.abc import Iterator
from typing import Any

from bitq.grid.naming import PRECISION
from bitq.grid.oneoff import STUDY
from bitq.grid.study import scale
from bitq.run import Calibration, Distillation, Recipe, Run


def command(run: Run) -> str:
    """Write the command that trains a run and first, if their files are absent, its parents."""
    return f"bitq train {shlex.quote(run.id)} --scale {run.scale}"


def train_command(run: Run) -> str:
    """Write the command that trains a run of the grid, or describes a one-off run."""
    if run.study != STUDY:
        return command(run)
    return shlex.join(["bitq", "train", *(word for option in described(run) for word in option)])


def described(run: Run) -> Iterator[tuple[str, ...]]:
    """Yield the options of a one-off run: what it is, and in what it differs from the defaults of its scale."""
    size = scale(run.scale).size(run.data.dataset, run.model, run.phase)
    yield ("--scale", run.scale)
    yield from (("--model", run.model), ("--dataset", run.data.dataset), ("--method", run.method))
    if run.data.variant != size.variant:
        yield ("--variant", run.data.variant)
    if run.width != size.width:
        yield ("--width", str(run.width))
    if run.keep:
        yield ("--keep", ",".join(run.keep))
    if run.stem != "cifar":
        yield ("--stem", run.stem)
    if run.norm != "none":
        yield ("--norm", run.norm)
    if run.precision != PRECISION:
        yield ("--precision", run.precision)
    for key, value in run.settings.items():
        yield ("--setting", f"{key}={written(value)}")
    for key, value in differences(run.calibration or Calibration(), Calibration()):
        yield ("--calibration", f"{key}={written(value)}")
    yield from parents(run)
    for key, value in differences(run.recipe, Recipe(**size.recipe)):
        yield recipe_option(key, value)
    yield ("--seed", str(run.seed))


def parents(run: Run) -> Iterator[tuple[str, ...]]:
    """Yield the options of teacher and start."""
    if distillation := run.distillation:
        yield ("--teacher", distillation.teacher.id if distillation.teacher else "online")
        yield from (
            (f"--{key}", written(value))
            for key, value in differences(distillation, Distillation(teacher=distillation.teacher))
        )
    if run.start:
        yield ("--start", run.start.id)


def differences(now: Any, usual: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a record that have other values than usual."""
    for key in type(now).model_fields:
        if (value := getattr(now, key)) != getattr(usual, key):
            yield key, value


def recipe_option(key: str, value: Any) -> tuple[str, ...]:
    """Write a key of the recipe as an option."""
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return (f"--{name}" if value else f"--no-{name}",)
    return (f"--{name}", ",".join(map(written, value)) if isinstance(value, tuple) else written(value))


def written(value: Any) -> str:
    """Write a value as the command line reads it.

    >>> written(True), written(100.0), written(5e-4), written("quantile")
    ('true', '100', '0.0005', 'quantile')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
