"""Find runs: by study, scale, phase, method, seed, or by name."""

from collections.abc import Collection
from dataclasses import dataclass

from bitq.errors import one_of
from bitq.grid.expand import expand
from bitq.grid.run import Run
from bitq.grid.study import studies


@dataclass(frozen=True)
class Selection:
    """Which runs of a grid; an empty field selects all."""

    phases: Collection[str] = ()
    datasets: Collection[str] = ()
    models: Collection[str] = ()
    methods: Collection[str] = ()
    seeds: Collection[int] = ()

    def of(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """The selected runs; a value that no run has is refused by name."""
        for kind, wanted, value in (
            ("phase", self.phases, lambda run: run.phase),
            ("dataset", self.datasets, lambda run: run.data.dataset),
            ("model", self.models, lambda run: run.model),
            ("method", self.methods, lambda run: run.method),
            ("seed", self.seeds, lambda run: run.seed),
        ):
            present = {value(run) for run in runs}
            for name in wanted:
                if name not in present:
                    raise one_of(kind, name, present)
            runs = tuple(run for run in runs if not wanted or value(run) in wanted)
        return runs


def grid(scale: str, study_names: Collection[str] = (), selection: Selection | None = None) -> tuple[Run, ...]:
    """All runs of the named studies (of every study, if none is named) at a scale."""
    runs = tuple(run for name in study_names or studies() for run in expand(name, scale))
    return (selection or Selection()).of(runs)


def find_run(name: str, scale: str) -> Run:
    """The run with this id (study/dataset/model/arm/seed), or with a hash that starts like this."""
    runs = grid(scale)
    for run in runs:
        if run.id == name or (len(name) >= 8 and run.hash.startswith(name)):
            return run
    raise one_of("run", name, [run.id for run in runs if run.id.split("/")[0] == name.split("/")[0]] or studies())
