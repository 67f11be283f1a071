"""From a study and a scale to the list of runs, each knowing its parents by hash."""

from collections import Counter
from collections.abc import Iterator
from functools import cache

from pydantic import ValidationError

from bitq.data.registry import variant
from bitq.errors import UsageError
from bitq.grid.study import Arm, Block, Overrides, Phase, Scale, Study, scale, study
from bitq.records import explain
from bitq.run import Calibration, Data, Distillation, Parent, Precision, Recipe, Run

ONLINE = "online"  # the teacher that is trained beside its student


def expand(study_name: str, scale_name: str) -> tuple[Run, ...]:
    """All runs of a study at a scale, parents before children, with the counts that the study promises."""
    return _expand(study_name, scale_name, asking=())


@cache
def _expand(study_name: str, scale_name: str, asking: tuple[str, ...]) -> tuple[Run, ...]:
    grid = _Grid(study(study_name), scale(scale_name), asking)
    runs = tuple(run for phase in grid.phases() for run in grid.expand_phase(phase))
    _check_unique(runs)
    _check_totals(grid.study, grid.scale, runs)
    return runs


class _Grid:
    """One study at one scale, while it is being expanded."""

    def __init__(self, of: Study, at: Scale, asking: tuple[str, ...]) -> None:
        self.study, self.scale, self.asking = of, at, asking
        self.known: dict[str, Run] = {}

    def phases(self) -> Iterator[Phase]:
        skipped = self.scale.skip.get(self.study.study, ())
        return (phase for phase in self.study.phases if phase.phase not in skipped)

    def expand_phase(self, phase: Phase) -> list[Run]:
        runs = [run for block in phase.blocks for run in self._expand_block(phase, block)]
        if len(runs) != phase.runs:
            raise UsageError(
                f"phase {phase.phase} of study {self.study.study!r} expands to {len(runs)} runs "
                f"but promises {phase.runs}; mend its blocks or its `runs:`."
            )
        return runs

    def _expand_block(self, phase: Phase, block: Block) -> Iterator[Run]:
        for arm in block.arms:
            for model in block.models:
                for dataset in block.datasets:
                    for seed in block.seeds:
                        yield self._remember(self._run(phase, arm, model, dataset, seed))

    def _remember(self, run: Run) -> Run:
        self.known[run.id] = run
        return run

    def _run(self, phase: Phase, arm: Arm, model: str, dataset: str, seed: int) -> Run:
        def parent(reference: str) -> Parent:
            return self._parent(reference, f"{dataset}/{model}", seed)

        distillation = None
        if arm.teacher is not None:
            teacher = None if arm.teacher == ONLINE else parent(arm.teacher)
            distillation = Distillation(teacher=teacher, **self.study.distillation)
        return build_run(
            study=self.study.study,
            phase=phase.phase,
            scale=self.scale,
            dataset=dataset,
            model=model,
            arm=arm,
            seed=seed,
            distillation=distillation,
            start=parent(arm.start) if arm.start is not None else None,
            base_recipe={**self.study.recipe, **self.study.datasets[dataset], **phase.recipe},
            precision=arm.precision or self.study.precision,
        )

    def _parent(self, reference: str, place: str, seed: int) -> Parent:
        """`[study:]arm/seed` of the same data set and model."""
        origin, _, name = reference.format(seed=f"s{seed}").rpartition(":")
        wanted = f"{origin or self.study.study}/{place}/{name}"
        found = self.known.get(wanted) if not origin else self._of_other_study(origin).get(wanted)
        if found is None:
            raise UsageError(
                f"study {self.study.study!r} names the parent {reference!r}, but no run {wanted!r} comes before it."
            )
        return Parent(id=found.id, hash=found.hash)

    def _of_other_study(self, name: str) -> dict[str, Run]:
        if name in self.asking:
            raise UsageError(f"studies {' → '.join((*self.asking, name))} take parents from each other in a circle.")
        return {run.id: run for run in _expand(name, self.scale.scale, (*self.asking, self.study.study))}


def build_run(
    *,
    study: str,
    phase: str,
    scale: Scale,
    dataset: str,
    model: str,
    arm: Arm,
    seed: int,
    distillation: Distillation | None,
    start: Parent | None,
    base_recipe: Overrides,
    precision: Precision = "bf16",
    width: int | None = None,
    data_variant: str | None = None,
) -> Run:
    """One run. What an arm changes in the recipe is its contrast, so it comes after what the scale changes."""
    try:
        return Run(
            study=study,
            phase=phase,
            scale=scale.scale,
            data=data_of(dataset, data_variant or scale.variant(dataset)),
            model=model,
            width=scale.widths.get(model, scale.width) if width is None else width,
            stem=arm.stem,
            norm=arm.norm,
            method=arm.method,
            settings=arm.settings,
            keep=arm.keep,
            distillation=distillation,
            start=start,
            calibration=Calibration(**arm.calibration) if arm.calibration is not None else None,
            recipe=Recipe(**{**at_scale(base_recipe, scale), **arm.recipe}),
            precision=precision,
            seed=seed,
            tag=arm.tag,
        )
    except ValidationError as error:
        raise UsageError(f"{study}/{dataset}/{model}/{arm.method}: {explain(error)}") from error


def at_scale(recipe: Overrides, to: Scale) -> Overrides:
    """The recipe with what the scale changes; where that is its length, milestones keep their share of it."""
    merged = {**recipe, **to.recipe}
    if "milestones" in recipe and "epochs" in to.recipe:
        share = to.recipe["epochs"] / recipe["epochs"]
        merged["milestones"] = [milestone * share for milestone in recipe["milestones"]]
    return merged


@cache
def data_of(dataset: str, name: str) -> Data:
    """What a run records of its data."""
    found = variant(dataset, name)
    return Data(
        dataset=dataset,
        variant=name,
        digest=found.digest,
        classes=found.classes,
        image_size=found.image_size,
        channels=found.channels,
        words=found.words,
        vocabulary=found.vocabulary,
    )


def _check_unique(runs: tuple[Run, ...]) -> None:
    for kind, counts in (("id", Counter(run.id for run in runs)), ("hash", Counter(run.hash for run in runs))):
        value, count = counts.most_common(1)[0]
        if count > 1:
            raise UsageError(f"{count} runs share the {kind} {value!r}; give their arms different tags.")


def _check_totals(of: Study, at: Scale, runs: tuple[Run, ...]) -> None:
    if at.skip.get(of.study):
        return
    found = (len(runs), sum(run.distillation is not None for run in runs))
    if found != (of.runs, of.distilled):
        raise UsageError(
            f"study {of.study!r} expands to {found[0]} runs, {found[1]} of them distilled, "
            f"but promises {of.runs} and {of.distilled}."
        )
