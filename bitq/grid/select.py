"""Find runs: by study, scale, phase, method, seed, or by name."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path

from bitq.errors import UsageError, did_you_mean, one_of
from bitq.grid.expand import expand
from bitq.grid.oneoff import STUDY, one_off_ids, one_off_run
from bitq.grid.study import studies
from bitq.run import Run

HASH_DIGITS = 6  # fewer could be a word
WILDCARDS = "*?["
HEX = re.compile("[0-9a-f]+")


@dataclass(frozen=True)
class Selection:
    """Criteria for runs of a grid; an empty field selects all."""

    phases: Collection[str] = ()
    datasets: Collection[str] = ()
    models: Collection[str] = ()
    methods: Collection[str] = ()
    seeds: Collection[int] = ()

    def of(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Select runs; a value that no run has is refused by name."""
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
    """Expand the named studies (every study, if none is named) at a scale."""
    runs = tuple(run for name in study_names or studies() for run in expand(name, scale))
    return (selection or Selection()).of(runs)


def find_runs(name: str, scale: str, results: Path | None = None) -> tuple[Run, ...]:
    """Find the run of this name, or all runs of the grid whose ids match it as a glob, as in ring/*/s42."""
    if not set(name) & set(WILDCARDS):
        return (find_run(name, scale, results),)
    runs = grid(scale)
    if found := tuple(run for run in runs if fnmatchcase(run.id, name)):
        return found
    raise UsageError(f"no run matches {name!r}; bitq grid --scale {scale} lists all {len(runs)}, such as {runs[0].id}.")


def find_run(name: str, scale: str, results: Path | None = None) -> Run:
    """Find a run by its id (study/dataset/model/arm/seed) or the start of its hash; of one-off runs, a finished one."""
    if name.startswith(f"{STUDY}/"):
        return one_off_run(name, scale, results)
    runs = grid(scale)
    found = [run for run in runs if run.id == name] or _of_hash(name, runs, scale, results)
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(run.id for run in found)
        raise UsageError(f"{name!r} begins the hashes of {len(found)} runs: {ids}; give more digits.")
    is_short = len(name) < HASH_DIGITS and HEX.fullmatch(name)
    short = f" Of a hash at least {HASH_DIGITS} digits are needed." if is_short else ""
    hint = did_you_mean(name, [run.id for run in runs])
    raise UsageError(f"unknown run {name!r}; bitq grid --scale {scale} lists all {len(runs)}.{hint}{short}")


def _of_hash(name: str, runs: tuple[Run, ...], scale: str, results: Path | None) -> list[Run]:
    if len(name) < HASH_DIGITS or not HEX.fullmatch(name):
        return []
    one_offs = (one_off_run(each, scale, results) for each in one_off_ids(scale, results))
    return [run for run in (*runs, *one_offs) if run.hash.startswith(name)]
