"""Judge every claim by the runs: holds, fails, undecided at this n, or an arm is missing at this scale."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bitq.grid.study import by_size
from bitq.io import write_json
from bitq.records import Frozen
from bitq.stats.cells import Cell, find, read_runs
from bitq.stats.claims import Book, Claim, Requires, claims
from bitq.stats.count import count
from bitq.stats.decide import Decision, Evidence, all_of, any_of, finite, weigh
from bitq.stats.families import group_of
from bitq.stats.own import Own, own_figures
from bitq.stats.predicates import ArmAt, Count, Quantity, Statistical
from bitq.stats.published import Published, published


class Verdict(Frozen):
    """The verdict of the runs on one claim."""

    id: str
    work: str
    source: str
    claim: str
    note: str
    published: dict[str, Any]  # the figures that the claim states, by id
    own: Own | None  # the claim tested against the work's own tables
    scale: str
    verdict: Decision
    reason: str  # the numbers that decide, in words
    evidence: tuple[Evidence, ...]


def judge(book: Book, frame: pd.DataFrame, across: Collection[str] = ()) -> list[Verdict]:
    """Judge every claim at the largest scale that has its arms; `across` names hardware that may be mixed."""
    figures = published()
    scales = by_size(frame["scale"].unique()) or [""]
    by_scale = {scale: frame[frame["scale"] == scale] for scale in scales}
    return [_verdict(book, claim, by_scale, figures, across) for claim in book.claims]


def write_claims(parquet: Path, out: Path, across: Collection[str] = ()) -> list[Verdict]:
    """Read the table of runs, write the verdicts."""
    found = judge(claims(), read_runs(parquet), across)
    write_json(out, {"schema_version": 1, "verdicts": [verdict.model_dump(mode="json") for verdict in found]})
    return found


def _verdict(
    book: Book, claim: Claim, by_scale: Mapping[str, pd.DataFrame], figures: Published, across: Collection[str]
) -> Verdict:
    judged = [(scale, _evidence(book, claim, runs, across)) for scale, runs in by_scale.items()]
    of_study = next((each for each in judged if not _of_study(claim, by_scale[each[0]]).empty), judged[0])
    scale, evidence = next((each for each in judged if _together(claim, each[1]) != "missing"), of_study)
    verdict = _together(claim, evidence)
    return Verdict(
        id=claim.id,
        work=claim.work,
        source=claim.source,
        claim=claim.claim,
        note=claim.note,
        published={name: figures.figures[name].shown for name in claim.published},
        own=own_figures(claim, figures),
        scale=scale,
        verdict=verdict,
        reason="; ".join(dict.fromkeys(sentence(each) for each in evidence if each.verdict == verdict)),
        evidence=tuple(evidence),
    )


def _evidence(book: Book, claim: Claim, runs: pd.DataFrame, across: Collection[str]) -> list[Evidence]:
    if claim.requires is None or isinstance(claim.predicate, Count):
        assert isinstance(claim.predicate, Count)
        return count(claim.predicate, runs)
    return list(_at_places(book, claim.predicate, claim.requires, _of_study(claim, runs), across))


def _of_study(claim: Claim, runs: pd.DataFrame) -> pd.DataFrame:
    """Select the runs of the claim's study: arms of different studies may have one name."""
    return runs[runs["study"].map(group_of) == (claim.study or claim.work)]


def _at_places(
    book: Book, predicate: Statistical, requires: Requires, runs: pd.DataFrame, across: Collection[str]
) -> Iterator[Evidence]:
    for dataset in requires.datasets:
        for model in requires.models:
            place = {**requires.where, "dataset": dataset, "model": model}
            for quantity in predicate.quantities(dataset):
                cells = {arm: find(runs, across, **book.criteria(arm, place)) for arm in quantity.arms}
                found = _weighed(quantity, cells, requires.where)
                yield found.model_copy(update={"dataset": dataset, "model": model})


def _weighed(quantity: Quantity, cells: Mapping[ArmAt, Cell | None], where: Mapping[str, Any]) -> Evidence:
    here = {arm: cell for arm, cell in cells.items() if cell}
    if len(here) == len(cells):
        return weigh(quantity, here)
    missing = ", ".join(str(arm) for arm in cells if arm not in here)
    wanted = ", ".join(f"{column} {value}" for column, value in where.items())
    return Evidence(
        quantity=quantity.label,
        column=quantity.column,
        limits=finite(quantity.limits),
        verdict="missing",
        note=f"arm {missing} missing at this scale" + (f" with {wanted}" if wanted else ""),
    )


def _together(claim: Claim, evidence: list[Evidence]) -> Decision:
    """Combine the quantities of each place, then the places: all of them, or any if the claim says so."""
    places: dict[tuple[str, str], list[Decision]] = {}
    for each in evidence:
        places.setdefault((each.dataset, each.model), []).append(each.verdict)
    enough = any_of if claim.requires and claim.requires.need == "any" else all_of
    return enough([all_of(verdicts) for verdicts in places.values()])


def sentence(of: Evidence) -> str:
    """Describe a piece of evidence in words."""
    place = "/".join(filter(None, (of.dataset, of.model)))
    if of.verdict == "missing":
        return f"{place}: {of.note}" if place else of.note
    value = "no value" if of.estimate is None else _number(of.estimate)
    spread = f" [{_number(of.interval[0])}, {_number(of.interval[1])}]" if of.interval else ""
    notes = [f"n = {of.n}", f"claimed {_limits(*of.limits)}", of.note]
    notes += [f"{of.n_diverged} diverged"] if of.n_diverged else []
    return f"{place + ': ' if place else ''}{of.quantity} = {value}{spread} ({', '.join(filter(None, notes))})"


def _limits(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"below {_number(high)}" if high is not None else f"above {_number(low or 0)}"
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Format large numbers whole, others to four digits; shares just off 1 get six."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.6g}" if 0.99 < value < 1.01 else f"{value:.4g}"
