"""Rows of the tables that compare the published works with the runs: claims with verdicts, figures beside ours."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bitq.errors import DataError
from bitq.report import names
from bitq.report.query import Query
from bitq.report.sources import Record
from bitq.report.tex import Tex, as_written, escape, interval, listed, number
from bitq.stats.cells import matching
from bitq.stats.claims import OURS, TWO_SEEDS, Claim, needs
from bitq.stats.claims import claims as read_claims
from bitq.stats.judge import limits, wanting
from bitq.stats.needed import Needed
from bitq.stats.published import TRUSTED, Figure, published

Row = dict[str, Any]


class Unit(NamedTuple):
    """Factor, text and digits with which a quantity is printed."""

    factor: float
    text: str  # LaTeX
    digits: int


SHARE = Unit(100, r"\,\%", 2)
COLUMNS = {
    "accuracy": Unit(1, r"\,\%", 2),
    "compression": Unit(1, r"$\times$", 2),
    "file_bytes": Unit(1, " bytes", 0),
    "float_bytes": Unit(1, " bytes", 0),
    "bits_per_packed_weight": Unit(1, " bits", 3),
    "coverage": SHARE,
    "zeros": SHARE,
    "most_zeros": SHARE,
    "diverged": SHARE,
}


def claims(query: Query) -> list[Row]:
    """List the works with their claims: judged ones with the deciding numbers, open ones by what they need."""
    book = {claim.id: claim for claim in read_claims().claims}
    works = [*published().works, OURS]
    found: dict[str, list[Record]] = {work: [] for work in works}
    for record in query.sources.claims["verdicts"]:
        found[record["work"]].append(query.track(record))
    return [
        {
            "title": _title(work),
            "judged": [_judged(record, _claim(book, record)) for record in records if record["verdict"] != "missing"],
            "open": _open([record for record in records if record["verdict"] == "missing"], book),
        }
        for work, records in found.items()
        if records
    ]


def verdicts(query: Query) -> list[Row]:
    """List the claims that could be judged, by work, each at its weakest place, with what would change the verdict."""
    book = {claim.id: claim for claim in read_claims().claims}
    works = {work: _title(work) for work in [*published().works, OURS]}
    records = [each for each in query.sources.claims["verdicts"] if each["weakest"] is not None]
    found = [query.track(record) for record in records]
    return [
        {"title": title, "rows": [_at_weakest(query, each, _claim(book, each)) for each in of_work]}
        for work, title in works.items()
        if (of_work := [each for each in found if each["work"] == work])
    ]


def checks(query: Query) -> list[Record]:
    """List the checks of the grid, which no count of verdicts includes."""
    return [query.track(record) for record in query.sources.claims.get("checks", ())]


def _claim(book: Mapping[str, Claim], record: Record) -> Claim:
    """Return the claim that a record is about."""
    if record["id"] not in book:
        raise DataError(
            f"claims.json judges {record['id']}, which config/claims.yaml lacks; write it anew with: bitq claims."
        )
    return book[record["id"]]


def _at_weakest(query: Query, record: Record, claim: Claim) -> Row:
    weakest = record["evidence"][record["weakest"]]
    of = unit(claim.predicate, weakest["column"])
    ours = number(None) if weakest["estimate"] is None else _measured(weakest, of)
    return record | {
        "limit": limits(*weakest["limits"]),
        "figures": _figures(record["published"]),
        "ours": Tex(ours),
        "n": weakest["n"] or None,
        "place": names.short(_at(weakest).removeprefix(", ")),
        "turns": _turns(record["sensitivity"]),
        "wanting": wanting(Needed(**record["needed"])) if record["needed"] else "",
        "section": _section(query, claim),
    }


def _turns(found: Record | None) -> Tex:
    """Format the limit at which the verdict would turn to holds or, where it holds, to undecided."""
    return Tex("") if found is None else number(found["holds"], 2)


def _section(query: Query, claim: Claim) -> str | None:
    """Return the label of the section with the evidence; None where the study is not shown."""
    if claim.predicate.kind == "audited":
        return "sec:audit"
    study = claim.study or claim.work
    known = {printed.study for printed in query.sources.printed}
    return f"sec:{study}" if study in known and query.sources.shows(study) else None


def _title(work: str) -> str:
    known = published().works
    return known[work].title if work in known else "This work"


def _judged(record: Record, claim: Claim) -> Row:
    shown = {"figures": _figures(record["published"]), "ours": _ours(record, claim.predicate)}
    return record | shown | {"source": _source(record)}


def _open(records: list[Record], book: Mapping[str, Claim]) -> list[Row]:
    """Group the claims that no run shown can decide by what they need."""
    by_need: dict[str, list[Record]] = {}
    for record in records:
        by_need.setdefault(_needs(record, _claim(book, record)), []).append(record | {"source": _source(record)})
    return [{"needs": needs, "claims": claims} for needs, claims in by_need.items()]


def _needs(record: Record, claim: Claim) -> str:
    """Describe the runs that a claim needs; where every arm is there, one has a single seed."""
    only_one = all(each["n"] for each in record["evidence"])
    return TWO_SEEDS if only_one else listed(needs(claim))


def _source(record: Record) -> str:
    """Format the source of a claim; a heading alone is one of the work's README."""
    return str(record["source"]).removeprefix("README, ").replace("; README, ", "; ")


def _figures(figures: dict[str, Any]) -> Tex:
    """Format published values, each once: a range by its ends, values that we measured with a mark."""
    known = published().figures
    texts = (
        _text(value) + (r"\textsuperscript{m}" if known[name].status == "measured" else "")
        for name, value in figures.items()
    )
    return Tex(", ".join(dict.fromkeys(texts)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    return as_written(value) if isinstance(value, float) else escape(value)


def _ours(verdict: Record, predicate: Any) -> Tex:
    """Format the first quantity that gave the verdict, and the number of places that agree."""
    evidence = verdict["evidence"]
    deciding = next((each for each in evidence if each["verdict"] == verdict["verdict"]), None)
    if deciding is None:
        return Tex("")
    counts = Counter(each["verdict"] for each in evidence)
    places = f" ({counts[verdict['verdict']]}~of~{len(evidence)})" if len(evidence) > 1 else ""
    measured = (
        number(None) if deciding["estimate"] is None else _measured(deciding, unit(predicate, deciding["column"]))
    )
    return Tex(measured + _at(deciding) + places)


def unit(predicate: Any, column: str) -> Unit:
    """Return the unit of a predicate's quantity."""
    if predicate.kind == "audited":
        return Unit(1, f" {escape(predicate.what)}", 0 if float(predicate.found).is_integer() else 3)
    if predicate.kind == "count":
        return Unit(1, rf"~{predicate.of}", 0)
    if predicate.kind == "recovery":
        return Unit(100, r"\,\%", 1)
    if predicate.kind == "ratio" or getattr(predicate, "to", None):
        return Unit(1, r"$\times$", 4 if column.endswith("bytes") else 2)
    if predicate.kind == "reached" and predicate.b is None:
        return COLUMNS[column]
    if column == "accuracy" and predicate.kind != "threshold":
        return Unit(1, " points", 2)
    return COLUMNS[column]


def _measured(evidence: Record, unit: Unit) -> str:
    """Format the estimate with its unit, and the interval unless all values are equal; unbounded ones in words."""
    if not evidence["interval"] and evidence["level"] and evidence["n"] > 1:
        return "unbounded"  # the share of a gap that may be zero
    low, high = (unit.factor * bound for bound in evidence["interval"] or (0.0, 0.0))
    differ = f"{low:.{unit.digits}f}" != f"{high:.{unit.digits}f}"
    bounds = f" {interval((low, high), unit.digits, sign=False)}" if differ else ""
    return number(unit.factor * evidence["estimate"], unit.digits) + unit.text + bounds


def _at(evidence: Record) -> str:
    """Format the place of the measurement; a count has none."""
    return f", {escape(names.where(evidence))}" if evidence["dataset"] and evidence["model"] else ""


def published_vs_ours(query: Query) -> list[Row]:
    """Compare published accuracies with ours, measured in the way of either."""
    return [row for study in query.sources.groups for row in _published_vs_ours(query.of(study))]


def _published_vs_ours(query: Query) -> Iterator[Row]:
    work = query.sources.study
    figures = _accuracies(work, published().figures.values())
    order = {name: place for place, name in enumerate([*names.MODELS, *names.DATASETS])}
    for dataset, model, arm in sorted(figures, key=lambda key: (order[key[1]], order[key[0]])):
        best, *others = figures[dataset, model, arm]
        named = (of_grid(query, dataset, model, each) for each in query.sources.prints.asked.get(arm, (arm,)))
        beside = [each for each in named if (dataset, model, each) in query.sources.arms]
        published_there = {"published": query.track(best.model_dump()), "others": _others(best, others)}
        for place, ours in enumerate(beside):
            there = {"published": None, "others": ""} if place else published_there
            yield (
                {"study": work, "dataset": dataset, "model": model}
                | there
                | _measured_here(query, dataset, model, ours)
            )


def _measured_here(query: Query, dataset: str, model: str, arm: str) -> Row:
    """Return the accuracy of one of our arms, measured as the original does and as we do."""
    cell = query.sources.cells.get((dataset, model, arm))
    return {
        "label": query.sources.prints.label(arm),
        "best_epoch": cell and cell["best_mean"],
        "ours": query.score(dataset, model, arm),
    }


def of_grid(query: Query, dataset: str, model: str, arm: str) -> str:
    """Return the grid's name of a published arm, which may be defined in claims.yaml."""
    criteria = read_claims().arms.get(arm, {"arm": arm})
    found = matching(query.sources.runs, dataset=dataset, model=model, **criteria)["arm"].unique()
    return str(found[0]) if len(found) == 1 else arm


def _accuracies(work: str, figures: Iterable[Figure]) -> dict[tuple[str, str, str], list[Figure]]:
    """Collect a work's accuracies by arm, most reliable first, without the old era and values typed into plots."""
    found: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        if figure.work == work and figure.quantity == "accuracy" and figure.era == "current" and _is_placed(figure):
            found.setdefault((figure.dataset, figure.model, figure.arm), []).append(figure)
    return {key: sorted(of_arm, key=_trust) for key, of_arm in found.items() if any(map(_is_trusted, of_arm))}


def _is_placed(figure: Figure) -> bool:
    return figure.dataset in names.DATASETS and figure.model in names.MODELS and bool(figure.arm)


def _is_trusted(figure: Figure) -> bool:
    return figure.status in TRUSTED


def _trust(figure: Figure) -> int:
    return TRUSTED.index(figure.status) if _is_trusted(figure) else len(TRUSTED)


def _others(best: Figure, others: list[Figure]) -> str:
    """Format the other values that the same work gives for the same arm."""
    differing = {(figure.value, figure.status): None for figure in others if figure.value not in (best.value, None)}
    return ", ".join(f"{value:.2f} ({status.replace('_', ' ')})" for value, status in differing)
