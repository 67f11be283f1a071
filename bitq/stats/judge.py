"""Judge every claim by the runs: holds, fails, undecided at this n, or an arm is missing at this scale."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bitq.grid.study import by_size
from bitq.io import write_json
from bitq.records import Frozen
from bitq.stats.cells import Cell, find, read_runs, read_table
from bitq.stats.claims import Claim, ClaimSet, claims
from bitq.stats.count import count
from bitq.stats.decide import Decision, Evidence, all_of, any_of, finite, weigh
from bitq.stats.families import group_of
from bitq.stats.images import FILE, NONE, Images, read_images
from bitq.stats.layers import with_layers
from bitq.stats.needed import Needed
from bitq.stats.own import SelfConsistency, own_figures
from bitq.stats.predicates import About, ArmAt, Audited, Count, Quantity
from bitq.stats.published import Published, published
from bitq.stats.sensitivity import Sensitivity, sensitivity


class Verdict(Frozen):
    """The verdict of the runs on one claim."""

    id: str
    work: str
    source: str
    claim: str
    note: str
    about: About
    published: dict[str, Any]  # the figures that the claim states, by id
    own: SelfConsistency | None  # the claim tested against the work's own tables
    scale: str
    verdict: Decision
    reason: str  # the numbers that decide, in words
    places: int  # quantities that are judged: k of α/k
    weakest: int | None  # the piece of evidence that is nearest to another verdict
    needed: Needed | None  # where undecided
    sensitivity: Sensitivity | None
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Grounds:
    """What claims are judged by: runs of one scale, their predictions, and hardware that may be mixed."""

    runs: pd.DataFrame
    images: Images
    across: Collection[str]


def judge(
    book: ClaimSet,
    frame: pd.DataFrame,
    across: Collection[str] = (),
    images: Images = NONE,
    layers: pd.DataFrame | None = None,
    only_checks: bool = False,
) -> list[Verdict]:
    """Judge every claim at the largest scale that has its arms; `across` names hardware that may be mixed."""
    figures, runs = published(), with_layers(frame, layers)
    scales = by_size(runs["scale"].unique()) or [""]
    grounds = {scale: Grounds(runs[runs["scale"] == scale], images, across) for scale in scales}
    return [_verdict(book, claim, grounds, figures) for claim in (book.checks if only_checks else book.claims)]


def verdicts(parquet: Path, across: Collection[str] = (), studies: Collection[str] = ()) -> dict[str, list[Verdict]]:
    """Judge the claims and checks of the grid, all or those of some studies, by the tables of `bitq aggregate`."""
    book = claims().of_studies(studies) if studies else claims()
    runs, images = read_runs(parquet), read_images(parquet.with_name(FILE))
    path = parquet.with_name("layers.parquet")
    layers = read_table(path) if path.exists() else None
    return {
        "verdicts": judge(book, runs, across, images, layers),
        "checks": judge(book, runs, across, images, layers, only_checks=True),
    }


def write_claims(parquet: Path, out: Path, across: Collection[str] = ()) -> list[Verdict]:
    """Read the table of runs, write the verdicts."""
    found = verdicts(parquet, across)
    write_json(out, as_json(found))
    return found["verdicts"]


def as_json(found: Mapping[str, list[Verdict]]) -> dict[str, Any]:
    """Return the verdicts and the checks of the grid as JSON."""
    records = {name: [each.model_dump(mode="json") for each in of] for name, of in found.items()}
    return {"schema_version": 2, **records}


def _verdict(book: ClaimSet, claim: Claim, grounds: Mapping[str, Grounds], figures: Published) -> Verdict:
    judged = [(scale, _evidence(book, claim, of_scale)) for scale, of_scale in grounds.items()]
    of_study = next((each for each in judged if not _of_study(claim, grounds[each[0]].runs).empty), judged[0])
    scale, evidence = next((each for each in judged if _together(claim, each[1]) != "missing"), of_study)
    verdict = _together(claim, evidence)
    return Verdict(
        id=claim.id,
        work=claim.work,
        source=claim.source,
        claim=claim.claim,
        note=claim.note,
        about=claim.about,
        published={name: figures.figures[name].shown for name in claim.published},
        own=own_figures(claim, figures),
        scale="" if isinstance(claim.predicate, Audited) else scale,
        verdict=verdict,
        reason="; ".join(dict.fromkeys(sentence(each) for each in evidence if each.verdict == verdict)),
        places=len(evidence),
        weakest=_weakest(verdict, evidence),
        needed=_needed(evidence) if verdict == "undecided" else None,
        sensitivity=_sensitivity(claim, evidence),
        evidence=tuple(evidence),
    )


def _evidence(book: ClaimSet, claim: Claim, grounds: Grounds) -> list[Evidence]:
    if isinstance(claim.predicate, Audited):
        return [_audited(claim.predicate)]
    if isinstance(claim.predicate, Count):
        return count(claim.predicate, grounds.runs)
    return list(_at_places(book, claim, grounds))


def _audited(predicate: Audited) -> Evidence:
    low, high = predicate.limits
    return Evidence(
        quantity=predicate.what,
        column="audited",
        limits=finite(predicate.limits),
        estimate=predicate.found,
        slack=max(low - predicate.found, predicate.found - high),
        verdict="holds" if low <= predicate.found <= high else "fails",
        note=predicate.evidence,
    )


def _of_study(claim: Claim, runs: pd.DataFrame) -> pd.DataFrame:
    """Select the runs of the claim's study: arms of different studies may have one name."""
    return runs[runs["study"].map(group_of) == (claim.study or claim.work)]


def _at_places(book: ClaimSet, claim: Claim, grounds: Grounds) -> Iterator[Evidence]:
    assert claim.requires and not isinstance(claim.predicate, Count | Audited)
    runs = _of_study(claim, grounds.runs)
    asked = [
        (dataset, model, quantity)
        for dataset in claim.requires.datasets
        for model in claim.requires.models
        for quantity in claim.predicate.quantities(dataset)
    ]
    for dataset, model, quantity in asked:
        where = book.where(claim, model)
        place = {**where, "dataset": dataset, "model": model}
        cells = {arm: find(runs, grounds.across, **book.criteria(arm, place)) for arm in quantity.arms}
        found = _weighed(quantity, cells, where, len(asked), claim, grounds.images)
        yield found.model_copy(update={"dataset": dataset, "model": model})


def _weighed(
    quantity: Quantity,
    cells: Mapping[ArmAt, Cell | None],
    where: Mapping[str, Any],
    places: int,
    claim: Claim,
    images: Images,
) -> Evidence:
    here = {arm: cell for arm, cell in cells.items() if cell}
    if len(here) == len(cells):
        assert claim.requires
        return weigh(quantity, here, places, images, claim.requires.need)
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


def _weakest(verdict: Decision, evidence: list[Evidence]) -> int | None:
    """Find the place that decides: the farthest beyond a limit of a claim that fails, elsewhere the nearest to one."""
    deciding = [number for number, each in enumerate(evidence) if each.verdict == verdict]
    if verdict == "missing" or not deciding:
        return None

    def how_far(number: int) -> float:
        each = evidence[number]
        found = each.excess if verdict == "fails" else each.slack
        return float("inf") if found is None else found

    return max(deciding, key=how_far)


def _needed(evidence: list[Evidence]) -> Needed | None:
    """Collect what all undecided places need; a place that no number of seeds decides leaves it open."""
    open_places = [each.needed for each in evidence if each.needed]
    if not open_places:
        return None
    seeds = [each.seeds for each in open_places]
    images = [each.images for each in open_places if each.images is not None]
    known = [each for each in seeds if each is not None]
    return Needed(seeds=max(known) if len(known) == len(seeds) else None, images=max(images, default=None))


def _sensitivity(claim: Claim, evidence: list[Evidence]) -> Sensitivity | None:
    if claim.requires is None or claim.requires.need == "any" or any(each.verdict == "missing" for each in evidence):
        return None
    return sensitivity(claim.predicate, evidence)


def sentence(of: Evidence) -> str:
    """Describe a piece of evidence in words."""
    place = "/".join(filter(None, (of.dataset, of.model)))
    if of.verdict == "missing" and not of.n:
        return f"{place}: {of.note}" if place else of.note
    value = "no value" if of.estimate is None else number(of.estimate)
    spread = f" [{number(of.interval[0])}, {number(of.interval[1])}]" if of.interval else ""
    notes = [f"n = {of.n}"] if of.column != "audited" else []
    notes += [f"claimed {limits(*of.limits)}", of.note]
    notes += [f"{of.n_diverged} diverged"] if of.n_diverged else []
    notes += [wanting(of.needed)] if of.verdict == "undecided" and of.needed else []
    return f"{place + ': ' if place else ''}{of.quantity} = {value}{spread} ({', '.join(filter(None, notes))})"


def wanting(what: Needed) -> str:
    """Say how many seeds or images a decision needs."""
    if what.seeds is not None:
        return f"needs n ≥ {what.seeds}"
    return f"needs {what.images:g} times as many test images" if what.images else "no number of seeds decides"


def limits(low: float | None, high: float | None) -> str:
    """Describe limits in words."""
    if low is None or high is None:
        return f"below {number(high)}" if high is not None else f"above {number(low or 0)}"
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Format large numbers whole, others to four digits; shares just off 1 get six."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.6g}" if 0.99 < value < 1.01 else f"{value:.4g}"
