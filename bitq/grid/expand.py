"""Expand a study at a scale to its runs, each of which knows its parents by hash."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from bitq.data.registry import variant
from bitq.errors import UsageError, one_of
from bitq.grid.study import Arm, Block, Overrides, Phase, Scale, SeedCounts, Size, Study, scale, study
from bitq.paths import config_dir
from bitq.records import explain
from bitq.run import Calibration, Data, Distillation, Parent, Precision, Recipe, Run

ONLINE = "online"  # the teacher that is trained beside its student


def expand(study_name: str, scale_name: str) -> tuple[Run, ...]:
    """Expand a study at a scale to all its runs, parents before children, with the counts that the study promises."""
    return _expand(study_name, scale_name, asking=(), config=config_dir())


@cache
def _expand(study_name: str, scale_name: str, asking: tuple[str, ...], config: Path) -> tuple[Run, ...]:
    grid = _Grid(study(study_name), scale(scale_name), asking)
    runs = tuple(run for phase in grid.phases() for run in grid.expand_phase(phase))
    _check_unique(runs)
    _check_totals(grid.study, grid.scale, runs)
    return runs


class _Grid:
    """One study at one scale, while it is being expanded."""

    def __init__(self, of: Study, at: Scale, asking: tuple[str, ...]) -> None:
        self.study, self.scale, self.asking = of, at, asking
        self.counts = at.seeds_of(of)
        self.known: dict[str, Run] = {}

    def phases(self) -> Iterator[Phase]:
        skipped = self.scale.skip.get(self.study.study, ())
        return (phase for phase in self.study.phases if phase.phase not in skipped)

    def expand_phase(self, phase: Phase) -> list[Run]:
        if phase.listed != phase.runs:
            raise UsageError(
                f"phase {phase.phase} of study {self.study.study!r} expands to {phase.listed} runs "
                f"but promises {phase.runs}; correct its blocks or its `runs:`."
            )
        return [run for block in phase.blocks for run in self._expand_block(phase, block)]

    def _expand_block(self, phase: Phase, block: Block) -> Iterator[Run]:
        if self.counts is not None:
            self._check_choice(phase, block, self.counts)
        for arm, model, dataset in product(block.arms, block.models, block.datasets):
            first = self._remember(self._run(phase, arm, model, dataset, block.seeds[0]))
            yield first
            for seed in self._seeds(block, first)[1:]:
                yield self._remember(self._run(phase, arm, model, dataset, seed))

    def _seeds(self, block: Block, first: Run) -> tuple[int, ...]:
        """Choose the seeds of an arm: those of its block, or the first of the study, as many as the scale says."""
        if self.counts is None:
            return block.seeds
        is_headline = first.arm in self.study.headline.get(first.model, ())
        return self.study.seeds[: self.counts.headline if is_headline else self.counts.others]

    def _check_choice(self, phase: Phase, block: Block, counts: SeedCounts) -> None:
        """Reject a choice that the study's seeds cannot serve, or that would take a phase of further seeds for one."""
        known = self.study.seeds
        if (most := max(counts.headline, counts.others)) > len(known):
            raise UsageError(
                f"scale {self.scale.scale!r} asks for {most} seeds, but study {self.study.study!r} lists {len(known)}; "
                "add some to its `seeds:`."
            )
        if block.seeds != known[: len(block.seeds)]:
            raise UsageError(
                f"scale {self.scale.scale!r} chooses seeds, but phase {phase.phase} of study {self.study.study!r} has "
                f"its own, {', '.join(map(str, block.seeds))}; leave it out with skip: "
                f"{{{self.study.study}: [{phase.phase}]}}."
            )

    def _remember(self, run: Run) -> Run:
        self.known[run.id] = run
        return run

    def _run(self, phase: Phase, arm: Arm, model: str, dataset: str, seed: int) -> Run:
        def parent(reference: str) -> Parent:
            return self._parent(reference, f"{dataset}/{model}", seed)

        return build_run(
            study=self.study.study,
            phase=phase.phase,
            scale=self.scale,
            dataset=dataset,
            model=model,
            arm=arm,
            seed=seed,
            distillation=self._distillation(arm, parent),
            start=parent(arm.start) if arm.start is not None else None,
            base_recipe={**self.study.recipe, **self.study.datasets[dataset], **phase.recipe},
            precision=self.study.precision,
        )

    def _distillation(self, arm: Arm, parent: Callable[[str], Parent]) -> Distillation | None:
        if arm.teacher is None:
            return None
        teacher = None if arm.teacher == ONLINE else parent(arm.teacher)
        try:
            return Distillation(teacher=teacher, **{**self.study.distillation, **arm.distillation})
        except ValidationError as error:
            raise UsageError(f"{self.study.study}/{arm.method}: distillation: {explain(error)}") from error

    def _parent(self, reference: str, place: str, seed: int) -> Parent:
        """Find the parent `[study:]arm/seed` of the same data set and model."""
        origin, _, name = reference.format(seed=f"s{seed}").rpartition(":")
        wanted = f"{origin or self.study.study}/{place}/{name}"
        found = self.known.get(wanted) if not origin else self._of_other_study(origin).get(wanted)
        if found is None:
            raise UsageError(
                f"study {self.study.study!r} names the parent {reference!r}, but no run {wanted!r} comes before it; "
                f"give one that its phases list first{', in a headline arm as well' if self.counts else ''}."
            )
        return Parent(id=found.id, hash=found.hash)

    def _of_other_study(self, name: str) -> dict[str, Run]:
        if name in self.asking:
            circle = " → ".join((*self.asking, name))
            raise UsageError(
                f"studies {circle} take parents from each other in a circle; give one of them parents of its own."
            )
        asking = (*self.asking, self.study.study)
        return {run.id: run for run in _expand(name, self.scale.scale, asking, config_dir())}


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
    """One run. What an arm changes in recipe or precision is its contrast, so it comes after what the scale changes."""
    size = scale.size(dataset, model, phase)
    try:
        return Run(
            study=study,
            phase=phase,
            scale=scale.scale,
            data=data_of(dataset, data_variant or size.variant),
            model=model,
            width=size.width if width is None else width,
            stem=arm.stem,
            norm=arm.norm,
            method=arm.method,
            settings=arm.settings,
            keep=arm.keep,
            distillation=distillation,
            start=start,
            calibration=Calibration(**arm.calibration) if arm.calibration is not None else None,
            recipe=Recipe(**{**at_size(base_recipe, size), **arm.recipe}),
            precision=arm.precision or scale.precision or precision,
            seed=seed,
            tag=arm.tag,
        )
    except ValidationError as error:
        raise UsageError(f"{study}/{dataset}/{model}/{arm.method}: {explain(error)}") from error


def at_size(recipe: Overrides, size: Size) -> Overrides:
    """Merge what the scale changes into a recipe; milestones keep their share of its length, no warm-up stays none."""
    merged = {**recipe, **size.recipe}
    if recipe.get("warmup_epochs") == 0:
        merged["warmup_epochs"] = 0
    if "milestones" in recipe and "epochs" in size.recipe:
        share = size.recipe["epochs"] / recipe["epochs"]
        merged["milestones"] = [milestone * share for milestone in recipe["milestones"]]
    return merged


@cache
def data_of(dataset: str, name: str) -> Data:
    """Record what decides a run's data."""
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
    _check_headline(of, runs)
    found = (len(runs), sum(run.distillation is not None for run in runs))
    if at.seeds_of(of) is None and found != (of.runs, of.distilled):
        raise UsageError(
            f"study {of.study!r} expands to {found[0]} runs, {found[1]} of them distilled, "
            f"but promises {of.runs} and {of.distilled}; correct its blocks, or `runs:` and `distilled:`."
        )


def _check_headline(of: Study, runs: tuple[Run, ...]) -> None:
    arms = {f"{run.model}/{run.arm}" for run in runs}
    for name in (f"{model}/{arm}" for model, named in of.headline.items() for arm in named):
        if name not in arms:
            raise one_of(f"headline arm of study {of.study!r}:", name, arms)
