"""One-off runs and sweeps from command-line options, resolved like the runs of a study."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bitq.data.registry import variant
from bitq.errors import UsageError
from bitq.grid.expand import ONLINE, build_run
from bitq.grid.select import find_run
from bitq.grid.study import Arm, Scale, scale
from bitq.io import canonical_json, sha256, sha256_file
from bitq.records import explain
from bitq.run import Distillation, Parent, Recipe, Run

STUDY = "adhoc"
ARM_OPTIONS = ("method", "keep", "norm", "stem", "settings", "calibration", "precision")


def sweep(scale_name: str, options: Mapping[str, Sequence[Any]]) -> tuple[Run, ...]:
    """Every combination of the options' values as a run.

    Options are model, dataset, seed, the arm's (method, keep, norm, stem, settings, calibration, precision), variant,
    width, teacher with temperature and alpha, start, and any key of a recipe.
    """
    given = {name: tuple(values) for name, values in options.items() if values}
    for required in ("model", "dataset", "method"):
        if required not in given:
            raise UsageError(
                f"a run needs --{required}; for example: bitq train --model resnet18 --dataset cifar10 --method bitnet."
            )
    at = scale(scale_name)
    return tuple(_one(at, dict(zip(given, values, strict=True))) for values in product(*given.values()))


def _one(at: Scale, choice: dict[str, Any]) -> Run:
    try:
        arm = Arm(**{key: choice[key] for key in ARM_OPTIONS if key in choice})
        distillation = _distillation(choice, at)
    except ValidationError as error:
        raise UsageError(f"--{explain(error)}") from error
    recipe = {key: value for key, value in choice.items() if key in Recipe.model_fields}
    run = build_run(
        study=STUDY,
        phase="",
        scale=at,
        dataset=choice["dataset"],
        model=choice["model"],
        arm=arm.model_copy(update={"recipe": recipe}),
        seed=choice.get("seed", 42),
        distillation=distillation,
        start=parent(choice["start"], at) if "start" in choice else None,
        base_recipe={},
        width=choice.get("width"),
        data_variant=choice.get("variant"),
    )
    there = variant(run.data.dataset, run.data.variant).train
    asked = {"calibration images": choice.get("calibration", {}).get("images", 0), "batch": choice.get("batch", 0)}
    for what, images in asked.items():
        if images > there:
            raise UsageError(
                f"{what}={images} was given, but there are {there} training images; allowed: 1 to {there}."
            )
    return run.model_copy(update={"tag": _tag(run)})


def _tag(run: Run) -> str:
    """Eight digits over everything but the seed: two different sweeps never share a folder."""
    fields = {key: value for key, value in run.identity.items() if key != "seed"}
    return sha256(canonical_json(fields))[:8]


def _distillation(choice: dict[str, Any], at: Scale) -> Distillation | None:
    if "teacher" not in choice:
        if "temperature" in choice or "alpha" in choice:
            raise UsageError("--temperature and --alpha need a teacher: add --teacher RUN or --teacher FILE.")
        return None
    settings = {key: choice[key] for key in ("temperature", "alpha") if key in choice}
    teacher = None if choice["teacher"] == ONLINE else parent(choice["teacher"], at)
    return Distillation(teacher=teacher, **settings)


def parent(name: str, at: Scale) -> Parent:
    """A packed file, or a run of the grid at this scale."""
    if name.endswith(".safetensors"):
        return Parent(id=name, hash=sha256_file(Path(name)))
    try:
        run = find_run(name, at.scale)
    except UsageError:
        if name.count("/") == 4 and not Path(name).exists():
            raise
        raise UsageError(
            f"{name!r} is neither a run of the grid, STUDY/DATASET/MODEL/ARM/sSEED (bitq grid lists them), nor a "
            "FILE.safetensors (bitq import writes one of a published .pth)."
        ) from None
    return Parent(id=run.id, hash=run.hash)
