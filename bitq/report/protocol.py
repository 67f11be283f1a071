"""Rows of the tables that describe the runs and their deviations from the published protocols."""

from collections.abc import Callable, Iterator
from typing import Any

from bitq.catalogue import published_width
from bitq.grid.expand import expand
from bitq.grid.study import study as read_study
from bitq.report import names
from bitq.report.query import Query
from bitq.report.tex import listed
from bitq.run import Parent, Run

Row = dict[str, Any]


def _optimizer(run: Run) -> str:
    recipe = run.recipe
    if recipe.optimizer != "sgd":
        return {"adam": "Adam", "adamw": "AdamW"}[recipe.optimizer]
    return f"SGD, {'Nesterov ' if recipe.nesterov else ''}momentum {recipe.momentum:g}"


def _schedule(run: Run) -> str:
    recipe = run.recipe
    if recipe.schedule == "step":
        return f"times {recipe.gamma:g} at epochs {listed([f'{epoch:g}' for epoch in recipe.milestones])}"
    return f"{recipe.schedule} to {recipe.min_lr:g}, changed every {recipe.lr_every}"


def _regularisation(run: Run) -> str:
    recipe = run.recipe
    return f"{recipe.mixup:g}; {recipe.label_smoothing:g}" if recipe.mixup or recipe.label_smoothing else "none"


def _distillation(run: Run) -> str | None:
    if run.distillation is None:
        return None
    how = run.distillation
    return f"τ = {how.temperature:g}, α = {how.alpha:g}, teacher {_teacher(how.teacher, run.seed)}"


def _teacher(parent: Parent | None, seed: int) -> str:
    if parent is None:
        return "a network trained beside it"
    arm, _, of = parent.id.split("/", 3)[3].rpartition("/")
    return f"{names.arm(arm)} of the same seed" if of == f"s{seed}" else f"{names.arm(arm)} of seed {of[1:]}"


PARAMETERS: dict[str, Callable[[Run], object]] = {
    "Images": lambda run: run.data.variant,
    "Classes": lambda run: run.data.classes,
    "Image size": lambda run: f"{run.data.image_size} × {run.data.image_size}",
    "Width, of the published": lambda run: f"{run.width} of {published_width(run.model)}",
    "Epochs": lambda run: run.recipe.epochs,
    "Batch": lambda run: run.recipe.batch,
    "Optimizer": _optimizer,
    "Learning rate": lambda run: f"{run.recipe.lr:g}",
    "Schedule": _schedule,
    "Warm-up epochs": lambda run: f"{run.recipe.warmup_epochs:g}",
    "Weight decay": lambda run: f"{run.recipe.weight_decay:g}",
    "Gradient norm at most": lambda run: None if run.recipe.clip_norm is None else f"{run.recipe.clip_norm:g}",
    "Mixup, label smoothing": _regularisation,
    "Augmentation": lambda run: f"{run.recipe.augment}, padding {run.recipe.pad}",
    "Normalisation of images": lambda run: (
        "ImageNet" if run.recipe.normalisation == "imagenet" else names.dataset(run.recipe.normalisation)
    ),
    "Arithmetic of training": lambda run: run.precision,
    "Distillation": _distillation,
    "Seeds": lambda run: run.seed,
}


COLUMNS = 3  # data sets side by side
FOREMOST = 2  # deviations of a study in the table of the main text


def configuration(query: Query) -> list[Row]:
    """Tabulate the training settings of every study by data set."""
    return [block for of in query.each() for block in _blocks(of)]


def _blocks(query: Query) -> Iterator[Row]:
    """Yield the settings of a study, COLUMNS data sets at a time; its extension differs only as its arms say."""
    ids = set(query.everything()["id"])
    runs = [run for run in query.sources.planned if run.study == query.sources.study and run.id in ids]
    datasets = list(dict.fromkeys(run.data.dataset for run in runs))
    for some in (datasets[start : start + COLUMNS] for start in range(0, len(datasets), COLUMNS)):
        rows = {
            name: [_values(value, runs, dataset, query.sources.prints.arm) for dataset in some]
            for name, value in PARAMETERS.items()
        }
        shown = {name: values for name, values in rows.items() if any(value is not None for value in values)}
        yield {"study": query.sources.study, "datasets": some, "rows": shown}


def _values(value: Callable[[Run], object], runs: list[Run], dataset: str, label: Callable[[str], str]) -> str | None:
    """Format the values among the runs of a data set, the usual one first, others with their arms."""
    arms: dict[object, set[str]] = {}
    for run in runs:
        if run.data.dataset == dataset and (found := value(run)) is not None:
            arms.setdefault(found, set()).add(run.arm)
    if sum(map(len, arms.values())) > len(set().union(*arms.values())):  # an arm has several values, such as seeds
        return ", ".join(map(str, arms))
    usual, *others = sorted(arms, key=lambda each: -len(arms[each])) or [None]
    texts = [f"{other} ({_named(arms[other], label)})" for other in others]
    return None if usual is None else "; ".join([str(usual), *texts])


def _named(arms: set[str], label: Callable[[str], str]) -> str:
    """List up to two arms by name, more by their number."""
    return listed(sorted(map(label, arms))) if len(arms) < 3 else f"{len(arms)} arms"


def run_counts(query: Query) -> list[Row]:
    """Tabulate planned, finished, diverged and missing runs by study and phase."""
    return [
        row
        for group in query.sources.groups
        for study in query.sources.of(group).parts
        for scale in query.sources.census.scales[study]
        for row in _counts(query, study, scale)
    ]


def _counts(query: Query, study: str, scale: str) -> Iterator[Row]:
    planned = expand(study, scale)
    all_runs = query.sources.all_runs
    for phase in read_study(study).phases:
        runs = [run for run in planned if run.phase == phase.phase]
        if runs:
            rows = all_runs[all_runs["id"].isin({run.id for run in runs}) & (all_runs["scale"] == scale)]
            query.hashes.update(rows["hash"])
            yield {
                "study": study,
                "scale": scale,
                "phase": phase.phase,
                "title": phase.title,
                "models": listed(list(dict.fromkeys(names.model(run.model) for run in runs))),
                "planned": len(runs),
                "distilled": sum(run.distillation is not None for run in runs),
                "done": int((rows["status"] == "done").sum()),
                "diverged": int((rows["status"] == "diverged").sum()),
                "missing": len(runs) - len(rows),
            }


def deviations(query: Query) -> list[Row]:
    """List the deviations from the published protocols with their reasons."""
    return [
        {"study": study} | query.track(deviation.model_dump())
        for study in query.sources.groups
        for deviation in read_study(study).deviations
    ]


def main_deviations(query: Query) -> list[Row]:
    """List the first deviations of each study that is shown, which change most."""
    return [
        {"study": study} | query.track(deviation.model_dump())
        for study in query.sources.groups
        if query.sources.shows(study)
        for deviation in read_study(study).deviations[:FOREMOST]
    ]
