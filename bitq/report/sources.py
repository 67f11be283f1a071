"""The sources of tables, figures and numbers: the runs that the paper shows, their statistics, the claims."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bitq.errors import one_of
from bitq.grid.expand import expand
from bitq.grid.paper import config
from bitq.grid.select import grid
from bitq.grid.study import by_size, studies
from bitq.io import read_json
from bitq.report.tex import listed
from bitq.results.columns import CURVES, LAYERS, Census, Column, read_census, schema
from bitq.run import Run
from bitq.stats.cells import Cell, cell, read_table
from bitq.stats.families import EXTENSION, Family, group_of

if TYPE_CHECKING:
    from bitq.report.printed import Printed

Record = dict[str, Any]
Arm = tuple[str, str, str]  # data set, model, arm
Contrasted = tuple[str, str, str, str, str]  # family, data set, model, first arm, second arm

VERDICTS = ("holds", "fails", "undecided", "missing")


@dataclass(frozen=True)
class Sources:
    """The data that the paper may show of one study and its extension, at its scale."""

    all_runs: pd.DataFrame
    census: Census
    stats: Record
    claims: Record
    all_curves: pd.DataFrame = field(default_factory=lambda: _empty(CURVES))
    all_layers: pd.DataFrame = field(default_factory=lambda: _empty(LAYERS))
    printed: tuple["Printed", ...] = ()  # what each study prints
    study: str = ""  # if none is named the first that the paper selects, whose scale is that of the title
    _others: dict[str, "Sources"] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.study:
            object.__setattr__(self, "study", next(iter(self.groups), ""))

    def of(self, study: str) -> "Sources":
        """Return the sources of another study."""
        if study not in self._others:
            self._others[study] = replace(self, study=study)
        return self._others[study]

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Selected studies, each with its extension, in the order of config/paper.yaml; others last."""
        order = list(dict.fromkeys(map(group_of, config().studies)))
        selected = dict.fromkeys(map(group_of, self.census.scales))
        return tuple(sorted(selected, key=lambda name: order.index(name) if name in order else len(order)))

    @property
    def prints(self) -> "Printed":
        """What the study prints; its arms have their plain names if it has no module of its own."""
        from bitq.report.printed import Printed

        return next((each for each in self.printed if each.study == self.study), Printed(study=self.study))

    @property
    def known_families(self) -> dict[str, Family]:
        """Families of contrasts of all studies."""
        return {family.name: family for each in self.printed for family in each.families}

    def shows(self, study: str) -> bool:
        """Return whether a study has results."""
        return not self.of(study).runs.empty

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Study and extension, as far as they were selected."""
        return tuple(name for name in self.census.scales if group_of(name) == self.study)

    @cached_property
    def scale(self) -> str:
        """Scale of the study; the largest one, should there be several."""
        return by_size(self.census.scales.get(self.study, ("smoke",)))[0]

    def by_scale(self, words: Mapping[str, str]) -> str:
        """Say of the scale of this study what `words` say of it, and of every study shown at another one."""
        others: dict[str, list[str]] = {}
        for study in self.groups:
            if (scale := self.of(study).scale) != self.scale and self.shows(study):
                others.setdefault(scale, []).append(study)
        elsewhere = [f"{words.get(scale, scale)} for {listed(studies)}" for scale, studies in others.items()]
        return listed([words.get(self.scale, self.scale), *elsewhere])

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Runs of the study and its extension at that scale."""
        return self.all_runs[self.all_runs["study"].isin(self.parts) & (self.all_runs["scale"] == self.scale)]

    @cached_property
    def arms(self) -> dict[Arm, Cell]:
        """Runs at that scale by arm, without the further seeds of the extension."""
        published = self.runs[self.runs["phase"] != EXTENSION]
        grouped = published.groupby(["dataset", "model", "arm"], sort=False)
        across = self.stats["across"]
        return {(dataset, model, arm): cell(rows, across) for (dataset, model, arm), rows in grouped}

    @cached_property
    def planned(self) -> tuple[Run, ...]:
        """Runs of the grid at that scale, of the studies that the paper selects."""
        chosen = [study for study in self.parts if self.scale in self.census.scales[study]]
        return grid(self.scale, chosen) if chosen else ()

    @cached_property
    def planned_seeds(self) -> dict[Arm, set[int]]:
        """Seeds of every planned arm, without those of the extension."""
        seeds: dict[Arm, set[int]] = {}
        for run in self.planned:
            if run.phase != EXTENSION:
                seeds.setdefault((run.data.dataset, run.model, run.arm), set()).add(run.seed)
        return seeds

    @cached_property
    def grid(self) -> tuple[Run, ...]:
        """Every run that the study and its extension have at full scale, whether or not the paper selects them."""
        return tuple(run for part in studies() if group_of(part) == self.study for run in expand(part, "full"))

    @cached_property
    def grid_arms(self) -> dict[Arm, Run]:
        """One run of every arm of the grid."""
        return {(run.data.dataset, run.model, run.arm): run for run in self.grid}

    def check(self, dataset: str, model: str, arm: str) -> None:
        """Refuse a data set, a network or an arm that the study does not know."""
        for kind, name, known in zip(("data set", "network", "arm"), (dataset, model, arm), self._known, strict=True):
            if name not in known:
                raise one_of(f"{kind} of study {self.study!r}:", name, known)

    @cached_property
    def _known(self) -> tuple[set[str], ...]:
        return tuple({key[place] for key in (*self.grid_arms, *self.arms)} for place in range(3))

    @cached_property
    def cells(self) -> dict[Arm, Record]:
        """Mean, spread and interval of every arm."""
        return {
            (record["dataset"], record["model"], record["arm"]): record
            for record in self._shown(self.stats["cells"])
            if not record["all_seeds"]
        }

    @cached_property
    def families(self) -> dict[str, Record]:
        """Families of contrasts at that scale, those with further seeds only if such runs exist."""
        extended = (self.runs["phase"] == EXTENSION).any()
        return {
            record["family"]: record
            for record in self._shown(self.stats["families"])
            if extended or not self._known_family(record["family"]).all_seeds
        }

    def _known_family(self, name: str) -> Family:
        if name not in self.known_families:
            raise one_of("family of contrasts", name, self.known_families)
        return self.known_families[name]

    @cached_property
    def contrasts(self) -> dict[Contrasted, Record]:
        """Every contrast that could be computed."""
        return {
            (name, record["dataset"], record["model"], record["arm_a"], record["arm_b"]): record
            for name, family in self.families.items()
            for record in family["contrasts"]
        }

    @cached_property
    def recoveries(self) -> dict[tuple[str, ...], Record]:
        """Recovered shares of gaps, by data set, model and the three arms."""
        keys = ("dataset", "model", "arm_kept", "arm_low", "arm_high")
        return {tuple(record[key] for key in keys): record for record in self._shown(self.stats["recoveries"])}

    @cached_property
    def verdicts(self) -> dict[str, int]:
        """Numbers of claims by verdict."""
        counts = Counter(record["verdict"] for record in self.claims["verdicts"])
        return {verdict: counts[verdict] for verdict in VERDICTS}

    def _shown(self, records: list[Record]) -> Iterator[Record]:
        return (record for record in records if (record["study"], record["scale"]) == (self.study, self.scale))


def _empty(columns: Sequence[Column]) -> pd.DataFrame:
    return schema(columns).empty_table().to_pandas()


def load(build: Path, printed: Sequence["Printed"]) -> Sources:
    """Read what `bitq aggregate`, `bitq stats` and `bitq claims` wrote into a build folder."""
    runs, curves, layers = (build / f"{name}.parquet" for name in ("runs", "curves", "layers"))
    return Sources(
        read_table(runs),
        read_census(runs),
        read_json(build / "stats.json"),
        read_json(build / "claims.json"),
        read_table(curves),
        read_table(layers),
        tuple(printed),
    )
