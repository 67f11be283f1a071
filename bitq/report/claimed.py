"""Rows of the tables that hold the published works against the runs: claims with verdicts, figures beside ours."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from bitq.report import names
from bitq.report.query import Query
from bitq.report.sources import Record
from bitq.report.tex import Tex, escape, interval, listed, number
from bitq.stats.cells import matching
from bitq.stats.claims import OURS
from bitq.stats.claims import claims as read_claims
from bitq.stats.published import TRUSTED, Figure, published

Row = dict[str, Any]


def claims(query: Query) -> list[Row]:
    """Every claim with its verdict, and the numbers that decide it."""
    conditions = {claim.id: claim.requires.where for claim in read_claims().claims if claim.requires}
    verdicts = [query.read(record) for record in query.sources.claims["verdicts"]]
    works = [*published().works, OURS]
    return [
        verdict
        | {"figures": _figures(verdict["published"]), "ours": _ours(verdict, conditions.get(verdict["id"], {}))}
        | {"title": _title(verdict["work"])}
        for verdict in sorted(verdicts, key=lambda verdict: works.index(verdict["work"]))
    ]


def _title(work: str) -> str:
    known = published().works
    return known[work].title if work in known else "This work"


def _figures(figures: dict[str, Any]) -> str:
    """Published values as text, each once; a range by its ends."""
    return ", ".join(dict.fromkeys(_text(value) for value in figures.values()))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    return f"{value:g}".replace("-", "−") if isinstance(value, float) else str(value)


def _ours(verdict: Record, where: dict[str, Any]) -> Tex | str:
    """The first quantity that gave the verdict, and at how many places it was the same."""
    evidence = verdict["evidence"]
    deciding = next((each for each in evidence if each["verdict"] == verdict["verdict"]), None)
    if deciding is None or deciding["estimate"] is None:
        return f"only judged with {listed([f'{name} {value}' for name, value in where.items()])}" if where else ""
    counts = Counter(each["verdict"] for each in evidence)
    places = f" ({counts[verdict['verdict']]}~of~{len(evidence)})" if len(evidence) > 1 else ""
    return Tex(_measured(deciding) + _at(deciding) + places)


def _measured(evidence: Record) -> str:
    digits = 0 if evidence["column"] in ("runs", "seeds") else 2
    bounds = f" {interval(evidence['interval'], sign=False)}" if evidence["interval"] else ""
    return number(evidence["estimate"], digits) + bounds


def _at(evidence: Record) -> str:
    """Where it was measured; a count has no place."""
    return f", {escape(names.where(evidence))}" if evidence["dataset"] and evidence["model"] else ""


def published_vs_ours(query: Query) -> list[Row]:
    """Published accuracies of the studies' arms beside ours, measured in the way of either."""
    return [row for study in query.sources.groups for row in _published_vs_ours(query.of(study))]


def _published_vs_ours(query: Query) -> Iterator[Row]:
    work = query.sources.study
    figures = _accuracies(work, published().figures.values())
    order = {name: place for place, name in enumerate([*names.MODELS, *names.DATASETS])}
    for dataset, model, arm in sorted(figures, key=lambda key: (order[key[1]], order[key[0]])):
        best, *others = figures[dataset, model, arm]
        place = (dataset, model, _of_grid(query, dataset, model, arm))
        cell = query.sources.cells.get(place)
        yield {
            "study": work,
            "dataset": dataset,
            "model": model,
            "arm": arm,
            "published": query.read(best.model_dump()),
            "others": _others(best, others),
            "best_epoch": cell and cell["best_mean"],
            "ours": query.score(*place),
        }


def _of_grid(query: Query, dataset: str, model: str, arm: str) -> str:
    """The grid's name for the arm of a figure, which may be one of the book of claims."""
    criteria = read_claims().arms.get(arm, {"arm": arm})
    found = matching(query.sources.runs, dataset=dataset, model=model, **criteria)["arm"].unique()
    return str(found[0]) if len(found) == 1 else arm


def _accuracies(work: str, figures: Iterable[Figure]) -> dict[tuple[str, str, str], list[Figure]]:
    """A work's accuracies by arm, the most reliable first; the old era and what was typed into plots is left out."""
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
    """What the same work says of the same arm elsewhere."""
    differing = {(figure.value, figure.status): None for figure in others if figure.value not in (best.value, None)}
    return ", ".join(f"{value:.2f} ({status.replace('_', ' ')})" for value, status in differing)
