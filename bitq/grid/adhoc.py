"""Resolve one-off runs and sweeps from command-line options like the runs of a study."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from bitq.catalogue import KEEP, METHODS, MODELS, SETTINGS
from bitq.data.registry import datasets, variant
from bitq.errors import UsageError, did_you_mean, one_of
from bitq.grid.expand import ONLINE, build_run
from bitq.grid.naming import PRECISION, tag_of
from bitq.grid.oneoff import STUDY
from bitq.grid.select import find_run
from bitq.grid.study import Arm, Scale, scale
from bitq.io import sha256_file
from bitq.records import explain
from bitq.run import LARGEST_SEED, Distillation, Norm, Parent, Precision, Recipe, Run, Stem

ARM_OPTIONS = ("method", "keep", "norm", "stem", "settings", "calibration", "precision")
SEED = 42
LONGEST_ARM = 200  # characters; a file system holds folders of 255 bytes
WORD = re.compile(r"\w+")

Options = Mapping[str, Sequence[Any]]


def sweep(scale_name: str, options: Options, results: Path | None = None) -> tuple[Run, ...]:
    """Resolve every combination of the options' values to a run.

    Options are model, dataset, seed, the arm's (method, keep, norm, stem, settings, calibration, precision), variant,
    width, teacher with temperature and alpha, start, and any key of a recipe. Parents may be finished one-off runs in
    the folder of results.
    """
    given = {name: tuple(values) for name, values in options.items() if values}
    for required in ("model", "dataset", "method"):
        if required not in given:
            raise UsageError(
                f"a run needs --{required}; for example: bitq train --model resnet18 --dataset cifar10 --method bitnet "
                "(or bitq train RUN, one that bitq grid lists)."
            )
    _check_words(given)
    at = scale(scale_name)
    return tuple(_one(at, dict(zip(given, values, strict=True)), results) for values in product(*given.values()))


def choices() -> dict[str, tuple[str, ...]]:
    """List the allowed values of every option that has a fixed set of them."""
    fixed = {name: get_args(field.annotation) for name, field in Recipe.model_fields.items() if _is_choice(field)}
    words = {"norm": get_args(Norm), "stem": get_args(Stem), "precision": get_args(Precision)}
    return {"model": MODELS, "dataset": datasets(), "method": METHODS, **words, **fixed}


def _is_choice(field: Any) -> bool:
    return str(get_origin(field.annotation)) == "typing.Literal"


def _check_words(given: Options) -> None:
    """Refuse at once whatever can be judged by its spelling."""
    for option, allowed in choices().items():
        for value in given.get(option, ()):
            if value not in allowed:
                raise one_of("data set" if option == "dataset" else option, value, allowed)
    for seed in given.get("seed", ()):
        if not 0 <= seed <= LARGEST_SEED:
            raise UsageError(f"--seed {seed} was given; allowed: 0 to {LARGEST_SEED}.")
    for layer in (layer for layers in given.get("keep", ()) for layer in layers):
        if WORD.fullmatch(layer) and layer not in KEEP:
            raise one_of("layer to keep", layer, KEEP, "A glob on layer names works too.")
    for method, settings in product(given["method"], given.get("settings", ())):
        for key, value in settings.items():
            if key not in SETTINGS[method] and not isinstance(value, Mapping):  # a mapping stands below a glob
                names = list(SETTINGS[method])
                raise UsageError(
                    f"method {method!r} has no setting {key!r}; allowed: {', '.join(names) or 'none'}."
                    f"{did_you_mean(key, names)}"
                )


def _one(at: Scale, choice: dict[str, Any], results: Path | None) -> Run:
    try:
        arm = Arm(**{key: choice[key] for key in ARM_OPTIONS if key in choice})
        distillation = _distillation(choice, at, results)
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
        seed=choice.get("seed", SEED),
        distillation=distillation,
        start=parent(choice["start"], at, results) if "start" in choice else None,
        base_recipe={},
        precision=PRECISION,
        width=choice.get("width"),
        data_variant=choice.get("variant"),
    )
    _check_images(run, choice)
    return _named(run, at)


def _check_images(run: Run, choice: dict[str, Any]) -> None:
    """Refuse more images than there are."""
    there = variant(run.data.dataset, run.data.variant).train
    asked = {"calibration images": choice.get("calibration", {}).get("images", 0), "batch": choice.get("batch", 0)}
    for what, images in asked.items():
        if images > there:
            raise UsageError(
                f"{what}={images} was given, but there are {there} training images; allowed: 1 to {there}."
            )


def _named(run: Run, at: Scale) -> Run:
    named = run.model_copy(update={"tag": tag_of(run, at)})
    if len(named.arm) > LONGEST_ARM:
        raise UsageError(
            f"--keep with {len(run.keep)} layers makes a name of {len(named.arm)} letters; allowed: {LONGEST_ARM}. "
            "Name layers by a glob, as in --keep 'layer1.*'."
        )
    return named


def _distillation(choice: dict[str, Any], at: Scale, results: Path | None) -> Distillation | None:
    if "teacher" not in choice:
        if "temperature" in choice or "alpha" in choice:
            raise UsageError("--temperature and --alpha need a teacher: add --teacher RUN or --teacher FILE.")
        return None
    settings = {key: choice[key] for key in ("temperature", "alpha") if key in choice}
    teacher = None if choice["teacher"] == ONLINE else parent(choice["teacher"], at, results)
    return Distillation(teacher=teacher, **settings)


def parent(name: str, at: Scale, results: Path | None = None) -> Parent:
    """Resolve the name of a packed file, of a run of the grid at this scale, or of a finished one-off run."""
    if name.endswith(".safetensors"):
        return Parent(id=name, hash=sha256_file(Path(name)))
    try:
        run = find_run(name, at.scale, results)
    except UsageError:
        if name.count("/") == 4 and not Path(name).exists():
            raise
        raise UsageError(
            f"{name!r} is neither a run of the grid, STUDY/DATASET/MODEL/ARM/sSEED (bitq grid lists them), nor a "
            "finished one-off run (bitq results lists them), nor a FILE.safetensors (bitq import writes one of a "
            "published .pth)."
        ) from None
    return Parent(id=run.id, hash=run.hash)
