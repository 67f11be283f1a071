"""Claims that count: how many runs, seeds or hours a study has. No statistics, but the study must be complete."""

from collections.abc import Iterator

import pandas as pd

from bitq.grid.study import scale as read_scale
from bitq.grid.study import scales, studies
from bitq.grid.study import study as read_study
from bitq.stats.cells import matching
from bitq.stats.decide import Evidence
from bitq.stats.predicates import Count, Limits


def count(predicate: Count, runs: pd.DataFrame, scale: str) -> list[Evidence]:
    """One piece of evidence for every number that the claim states."""
    of_study = runs[runs["study"] == predicate.study]
    counted = matching(of_study, **predicate.where)
    if note := _incomplete(predicate, of_study, counted, scale):
        return [Evidence(quantity=predicate.of, column=predicate.of, limits=(None, None), verdict="missing", note=note)]
    return [_judged(predicate, *part) for part in _parts(predicate, counted)]


def _incomplete(predicate: Count, of_study: pd.DataFrame, counted: pd.DataFrame, scale: str) -> str:
    """What is missing, if anything: a count of half a study says nothing."""
    missing = promised(predicate.study, scale) - len(of_study)
    if of_study.empty:
        return f"study {predicate.study} missing at this scale"
    if missing > 0:
        return f"{missing} runs of study {predicate.study} missing at this scale"
    wanted = ", ".join(f"{column} {value}" for column, value in predicate.where.items())
    return "" if len(counted) else f"runs of study {predicate.study} with {wanted} missing at this scale"


def promised(study: str, scale: str) -> int:
    """How many runs a study has at a scale."""
    if study not in studies() or scale not in scales():
        return 0
    skipped = read_scale(scale).skip.get(study, ())
    return sum(phase.runs for phase in read_study(study).phases if phase.phase not in skipped)


def _parts(predicate: Count, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, Limits]]:
    if isinstance(predicate.equals, dict):
        assert predicate.by
        names = rows[predicate.by].astype(str)
        for name in sorted({*predicate.equals, *names}):
            goal = predicate.equals.get(name, 0)
            yield f"{predicate.of} with {predicate.by} {name}", rows[names == name], (goal, goal)
    else:
        yield predicate.of, rows, predicate.between or (predicate.equals or 0, predicate.equals or 0)


def _judged(predicate: Count, label: str, rows: pd.DataFrame, limits: Limits) -> Evidence:
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
        verdict="holds" if limits[0] <= found <= limits[1] else "fails",
    )
