"""Find runs: by study, scale, phase, method, seed, or by name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter

from bitq.errors import UsageError, one_of
from bitq.grid.expand import expand
from bitq.grid.study import studies
from bitq.run import Run


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
            ("phase", self.phases, _phase),
            ("data set", self.datasets, _dataset),
            ("model", self.models, _model),
            ("method", self.methods, _method),
            ("seed", self.seeds, _seed),
        ):
            runs = _having(runs, kind, wanted, value)
        return runs


def _having(
    runs: tuple[Run, ...], kind: str, wanted: Collection[object], value: Callable[[Run], object]
) -> tuple[Run, ...]:
    present = {value(run) for run in runs}
    for name in wanted:
        if name not in present:
            raise one_of(kind, name, present)
    return tuple(run for run in runs if not wanted or value(run) in wanted)


_phase, _dataset, _model = attrgetter("phase"), attrgetter("data.dataset"), attrgetter("model")
_method, _seed = attrgetter("method"), attrgetter("seed")


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
    near = get_close_matches(name, [run.id for run in runs], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"unknown run {name!r}; bitq grid --scale {scale} lists all {len(runs)}.{hint}")
