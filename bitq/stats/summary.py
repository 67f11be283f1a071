"""Compute all statistics of a table of runs as one JSON value."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bitq.io import write_json
from bitq.stats import inference
from bitq.stats.cells import Cell, cell, read_runs
from bitq.stats.claims import Question
from bitq.stats.contrast import Contrast, contrast, recovery
from bitq.stats.families import EXTENSION, PARITY, Family, Gap, group_of
from bitq.stats.images import FILE, NONE, Images, read_images
from bitq.stats.inference import holm, mean, spread, t_interval

SETTINGS = {
    "level": inference.LEVEL,
    "alpha": inference.ALPHA,
    "power": inference.POWER,
    "d_z_from_n": inference.D_Z_FROM,
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


@dataclass(frozen=True)
class Questions:
    """What is asked of the runs: families of contrasts, gaps, and which of several analyses is primary."""

    families: tuple[Family, ...]
    gaps: tuple[Gap, ...] = ()
    primary: tuple[Question, ...] = ()


def stats(frame: pd.DataFrame, questions: Questions, across: Collection[str] = (), images: Images = NONE) -> Record:
    """Compute every family of contrasts whose runs exist, by scale; `across` names hardware that may be mixed."""
    places = list(_places(frame, across))
    here = dict.fromkeys((place.study, place.scale) for place in places)
    families = [
        _family_record(family, [place for place in places if (place.study, place.scale) == at], at[1], across, images)
        for family in questions.families
        for at in here
        if at[0] == family.study
    ]
    return {
        "schema_version": 2,
        "settings": SETTINGS,
        "across": sorted(across),
        "runs": len(frame),
        "diverged": sorted(frame.loc[frame["status"] == "diverged", "id"]),
        "collapsed": sorted(frame.loc[frame["collapsed"].fillna(False).astype(bool), "id"]),
        "cells": [record for place in places for record in _cell_records(place)],
        "families": mark_primary(families, questions.primary),
        "recoveries": [
            record for place in places for record in _recovery_records(place, questions.gaps, across, images)
        ],
    }


def write_stats(parquet: Path, out: Path, questions: Questions, across: Collection[str] = ()) -> Record:
    """Read the table of runs and write its statistics."""
    found = stats(read_runs(parquet), questions, across, read_images(parquet.with_name(FILE)))
    write_json(out, found)
    return found


def mark_primary(families: list[Record], questions: tuple[Question, ...]) -> list[Record]:
    """Mark the contrasts that a family named earlier for the same question answers with more seeds."""
    there = {
        (family["study"], family["scale"], family["family"], *_place(each))
        for family in families
        for each in family["contrasts"]
    }
    order = {(of.study, pair): of.families for of in questions for pair in of.pairs}
    for family in families:
        for each in family["contrasts"]:
            named = order.get((family["study"], (each["arm_a"], each["arm_b"])), ())
            first = next(
                (name for name in named if (family["study"], family["scale"], name, *_place(each)) in there), None
            )
            each["primary"] = first in (None, family["family"]) or family["family"] not in named
    return families


def _place(contrast: Record) -> tuple[str, ...]:
    return tuple(contrast[key] for key in ("dataset", "model", "arm_a", "arm_b"))


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
        "interval": t_interval(accuracy, resolution=of.resolution("accuracy")),
        "best_mean": mean(best),  # best epoch on test, as the originals report it
        "mixed": list(of.mixed),
    }


def _family_record(family: Family, places: list[Place], scale: str, across: Collection[str], images: Images) -> Record:
    found = list(_contrasts(family, places, across, images))
    adjusted = holm([each.p for _, each in found])
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


def _contrasts(
    family: Family, places: list[Place], across: Collection[str], images: Images
) -> Iterator[tuple[Record, Contrast]]:
    for place in places:
        arms = place.of(family)
        for a, b in family.pairs:
            if a in arms and b in arms:
                names = place.name | {"arm_a": a, "arm_b": b}
                yield names, contrast(arms[a], arms[b], family.margin, across=across, images=images)


def _recovery_records(place: Place, gaps: Collection[Gap], across: Collection[str], images: Images) -> Iterator[Record]:
    for gap in gaps:
        if gap.study == place.study and {gap.kept, gap.low, gap.high} <= set(place.arms):
            found = recovery(place.arms[gap.kept], place.arms[gap.low], place.arms[gap.high], across, images)
            names = {"arm_kept": gap.kept, "arm_low": gap.low, "arm_high": gap.high}
            yield place.name | names | found.model_dump(mode="json")
