"""Compute all statistics of a table of runs as one JSON value."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bitq.io import write_json
from bitq.stats import inference
from bitq.stats.cells import Cell, cell, read_runs
from bitq.stats.contrast import Contrast, contrast, recovery
from bitq.stats.families import EXTENSION, FAMILIES, GAPS, PARITY, Family, group_of
from bitq.stats.inference import holm, mean, spread, t_interval

SETTINGS = {
    "level": inference.LEVEL,
    "alpha": inference.ALPHA,
    "power": inference.POWER,
    "bootstrap_resamples": inference.RESAMPLES,
    "bootstrap_seed": inference.BOOTSTRAP_SEED,
    "bootstrap_from_n": inference.BOOTSTRAP_FROM,
    "parity_margin": PARITY,
}
Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """One network on one data set at one scale in one study, and its arms by name."""

    study: str  # with its extension
    scale: str
    dataset: str
    model: str
    arms: dict[str, Cell]  # with the published seeds
    extended: dict[str, Cell]  # arms that have further seeds, with all of them

    @property
    def name(self) -> Record:
        """Columns that tell places apart."""
        return {"study": self.study, "scale": self.scale, "dataset": self.dataset, "model": self.model}

    def of(self, family: Family) -> dict[str, Cell]:
        """Return the arms with the seeds that a family counts."""
        return self.extended if family.all_seeds else self.arms


def stats(frame: pd.DataFrame, across: Collection[str] = ()) -> Record:
    """Compute every family of contrasts whose runs exist, by scale; `across` names hardware that may be mixed."""
    places = list(_places(frame, across))
    return {
        "schema_version": 1,
        "settings": SETTINGS,
        "across": sorted(across),
        "runs": len(frame),
        "diverged": sorted(frame.loc[frame["status"] == "diverged", "id"]),
        "collapsed": sorted(frame.loc[frame["collapsed"].fillna(False).astype(bool), "id"]),
        "cells": [record for place in places for record in _cell_records(place)],
        "families": [
            _family_record(
                family, [place for place in places if (place.study, place.scale) == (study, scale)], scale, across
            )
            for family in FAMILIES
            for study, scale in dict.fromkeys((place.study, place.scale) for place in places)
            if study == family.study
        ],
        "recoveries": [record for place in places for record in _recovery_records(place, across)],
    }


def write_stats(parquet: Path, out: Path, across: Collection[str] = ()) -> Record:
    """Read the table of runs and write its statistics."""
    found = stats(read_runs(parquet), across)
    write_json(out, found)
    return found


def _places(frame: pd.DataFrame, across: Collection[str]) -> Iterator[Place]:
    study = frame["study"].map(group_of).rename("study")
    for (group, scale, dataset, model), rows in frame.groupby([study, "scale", "dataset", "model"], sort=True):
        further = rows["phase"] == EXTENSION
        extended = rows[rows["arm"].isin(rows.loc[further, "arm"])]
        yield Place(group, scale, dataset, model, _arms(rows[~further], across), _arms(extended, across))


def _arms(rows: pd.DataFrame, across: Collection[str]) -> dict[str, Cell]:
    return {str(arm): cell(of_arm, across) for arm, of_arm in rows.groupby("arm", sort=True)}


def _cell_records(place: Place) -> Iterator[Record]:
    for arm, of in place.arms.items():
        yield place.name | {"arm": arm, "all_seeds": False} | _summary(of)
    for arm, of in place.extended.items():
        yield place.name | {"arm": arm, "all_seeds": True} | _summary(of)


def _summary(of: Cell) -> Record:
    accuracy, best = of.values(), of.values("best_accuracy")
    return {
        "seeds": list(of.seeds),
        "n": len(accuracy),
        "n_diverged": len(of.diverged),
        "n_collapsed": int(of.rows["collapsed"].fillna(False).astype(bool).sum()),
        "mean": mean(accuracy),
        "sd": spread(accuracy),
        "interval": t_interval(accuracy),
        "best_mean": mean(best),  # best epoch on test, as the originals report it
        "mixed": list(of.mixed),
    }


def _family_record(family: Family, places: list[Place], scale: str, across: Collection[str]) -> Record:
    found = list(_contrasts(family, places, across))
    adjusted = holm([each.paired.p if each.paired else None for _, each in found])
    return {
        "family": family.name,
        "study": family.study,
        "question": family.question,
        "scale": scale,
        "margin": family.margin,
        "tests": sum(p is not None for p in adjusted),  # that Holm's correction counts
        "contrasts": [
            names | each.model_copy(update={"p_holm": p}).model_dump(mode="json")
            for (names, each), p in zip(found, adjusted, strict=True)
        ],
    }


def _contrasts(family: Family, places: list[Place], across: Collection[str]) -> Iterator[tuple[Record, Contrast]]:
    for place in places:
        arms = place.of(family)
        for a, b in family.pairs:
            if a in arms and b in arms:
                names = place.name | {"arm_a": a, "arm_b": b}
                yield names, contrast(arms[a], arms[b], family.margin, across=across)


def _recovery_records(place: Place, across: Collection[str]) -> Iterator[Record]:
    for gap in GAPS:
        if gap.study == place.study and {gap.kept, gap.low, gap.high} <= set(place.arms):
            found = recovery(place.arms[gap.kept], place.arms[gap.low], place.arms[gap.high], across)
            names = {"arm_kept": gap.kept, "arm_low": gap.low, "arm_high": gap.high}
            yield place.name | names | found.model_dump(mode="json")
