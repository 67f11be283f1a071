"""Name one-off runs by what sets them apart from the defaults."""

import re
from collections.abc import Iterator
from typing import Any

from bitq.data.registry import registered
from bitq.grid.study import Scale
from bitq.io import canonical_json, sha256
from bitq.run import Calibration, Distillation, Parent, Precision, Recipe, Run

PRECISION: Precision = "fp32"  # of a one-off run, if not said
LONGEST = 100  # characters of the folder between network and seed
PLAIN = re.compile(r"[A-Za-z0-9_.]*")
# Keys of settings that may be meant by another option too.
SHARED = Recipe.model_fields.keys() | Calibration.model_fields.keys()


def tag_of(run: Run, at: Scale) -> str:
    """Name what no other part of the run's name says; a hash stands for what makes no short and unambiguous name."""
    tag = "-".join(_differences(run, at))
    named = run.model_copy(update={"tag": tag})
    if _is_unambiguous(run) and len(named.arm) <= LONGEST:
        return tag
    fields = {key: value for key, value in run.identity.items() if key not in ("seed", "tag")}
    digest = sha256(canonical_json(fields))[:8]
    room = LONGEST - len(run.model_copy(update={"tag": digest}).arm) - 1
    return "-".join(filter(None, (tag[: max(room, 0)].strip("-"), digest)))


def _differences(run: Run, at: Scale) -> Iterator[str]:
    for key, value in run.settings.items():
        yield _word(f"{run.method}.{key}" if key in SHARED else key, value)
    if run.calibration:
        yield from _changed(run.calibration, Calibration()) or ["calibrated"]
    size = at.size(run.data.dataset, run.model, run.phase)
    if run.data.variant != size.variant:
        yield run.data.variant
    if run.width != size.width:
        yield _word("width", run.width)
    if run.precision != PRECISION:
        yield run.precision
    if run.distillation:
        if run.distillation.teacher:
            yield _parent("teacher", run.distillation.teacher, run)
        yield from _changed(run.distillation, Distillation(teacher=run.distillation.teacher))
    if run.start:
        yield _parent("start", run.start, run)
    yield from _changed(run.recipe, Recipe(**size.recipe))


def _changed(now: Calibration | Distillation | Recipe, usual: Calibration | Distillation | Recipe) -> list[str]:
    keys = type(now).model_fields
    return [_word(key, _short(value)) for key in keys if (value := getattr(now, key)) != getattr(usual, key)]


def _short(value: Any) -> Any:
    """Write whole floats without a point: in a recipe they are the same as whole numbers."""
    if isinstance(value, tuple):
        return tuple(map(_short, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _word(key: str, value: Any) -> str:
    """Write a key with its value.

    >>> _word("lr", 0.05), _word("augment", "none"), _word("nesterov", False), _word("milestones", (100, 150))
    ('lr0.05', 'augment_none', 'no_nesterov', 'milestones100+150')
    """
    if isinstance(value, bool) or value is None:
        return key if value else f"no_{key}"
    if isinstance(value, list | tuple):
        value = "+".join(map(str, value))
        return f"{key}{value}"
    return f"{key}_{value}" if isinstance(value, str) or key[-1].isdigit() else f"{key}{value}"


def _parent(role: str, parent: Parent, run: Run) -> str:
    """Name a parent without what the child's name says already; a file by its content, wherever that lies."""
    if parent.is_file:
        return f"{role}_{parent.hash[:8]}"
    study, dataset, model, arm, seed = parent.id.split("/")
    own = (run.data.dataset, run.model)
    return ".".join([f"{role}_{study}", *(name for name in (dataset, model) if name not in own), arm, seed])


def _is_unambiguous(run: Run) -> bool:
    """Tell whether no other run can have this name: no letter was replaced, and no name stands for changing images."""
    texts = [*run.keep, *run.settings, *(each for value in run.settings.values() for each in _texts(value))]
    return all(map(PLAIN.fullmatch, texts)) and run.data.variant.partition("@")[0] in registered(run.data.dataset)


def _texts(value: Any) -> list[str]:
    """Collect what is no number of a setting's value."""
    if isinstance(value, list | tuple):
        return [text for each in value for text in (["[]"] if isinstance(each, list | tuple) else _texts(each))]
    return [] if isinstance(value, int | float) or value is None else [str(value)]
