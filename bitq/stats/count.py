"""Decide claims that count runs, seeds or hours of a study; no statistics, but the study must be complete."""

from collections.abc import Iterator

import pandas as pd

from bitq.grid.study import scale as read_scale
from bitq.grid.study import scales, studies
from bitq.grid.study import study as read_study
from bitq.stats.cells import matching
from bitq.stats.decide import Decision, Evidence
from bitq.stats.predicates import Count, Limits


def count(predicate: Count, runs: pd.DataFrame) -> list[Evidence]:
    """Build one piece of evidence for every number that the claim states."""
    of_study = runs[runs["study"] == predicate.study]
    if choosing := [name for name in of_study["scale"].unique() if _chooses_seeds(name, predicate.study)]:
        return [_missing(predicate, f"scale {choosing[0]} chooses its own number of seeds")]
    counted = matching(of_study, **predicate.where)
    if counted.empty:
        return [_missing(predicate, _nothing(predicate, of_study))]
    lacking = promised(predicate.study) - len(of_study)
    return [_judged(predicate, lacking, *part) for part in _parts(predicate, counted)]


def _missing(predicate: Count, note: str) -> Evidence:
    return Evidence(quantity=predicate.of, column=predicate.of, limits=(None, None), verdict="missing", note=note)


def _nothing(predicate: Count, of_study: pd.DataFrame) -> str:
    """Name the runs that are missing."""
    wanted = ", ".join(f"{column} {value}" for column, value in predicate.where.items())
    those = "" if of_study.empty or not wanted else f"runs of {wanted} in "
    return f"{those}study {predicate.study} missing at this scale"


def _chooses_seeds(scale: str, study: str) -> bool:
    return study in studies() and scale in scales() and read_scale(scale).seeds_of(read_study(study)) is not None


def promised(study: str) -> int:
    """Count the runs that a study has at a scale that neither leaves phases out nor chooses seeds."""
    return read_study(study).runs if study in studies() else 0


def _parts(predicate: Count, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, Limits]]:
    if isinstance(predicate.equals, dict):
        assert predicate.by
        names = rows[predicate.by].astype(str)
        for name in sorted({*predicate.equals, *names}):
            goal = predicate.equals.get(name, 0)
            yield f"{predicate.of} with {predicate.by} {name}", rows[names == name], (goal, goal)
    else:
        yield predicate.of, rows, predicate.between or (predicate.equals or 0, predicate.equals or 0)


def _judged(predicate: Count, lacking: int, label: str, rows: pd.DataFrame, limits: Limits) -> Evidence:
    found = {
        "runs": len(rows),
        "seeds": rows["seed"].nunique(),
        "hours": rows["wall_seconds"].sum() / 3600,
    }[predicate.of]
    return Evidence(
        quantity=f"{label} of study {predicate.study}",
        column=predicate.of,
        limits=limits,
        estimate=float(found),
        n=len(rows),
        n_diverged=int((rows["status"] == "diverged").sum()),
        verdict=_decision(found, limits, lacking > 0),
        note=f"{lacking} runs of study {predicate.study} missing at this scale" if lacking > 0 else "",
    )


def _decision(found: float, limits: Limits, incomplete: bool) -> Decision:
    """Decide a count; while runs are missing it can only grow, so only a count that is too large is decided."""
    if found > limits[1]:
        return "fails"
    if incomplete:
        return "undecided"
    return "holds" if found >= limits[0] else "fails"
