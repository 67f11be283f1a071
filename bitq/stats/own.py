"""Test a claim against the figures its own work published: no runs are needed, and no interval exists."""

from collections.abc import Iterator, Mapping
from typing import Literal

from bitq.records import Frozen
from bitq.stats.claims import Claim
from bitq.stats.predicates import ArmAt, Audited, Count, Quantity, Term
from bitq.stats.published import Published

Means = Mapping[tuple[str, str, str, str], float]  # by data set, model, arm, column


class OwnFigure(Frozen):
    """One quantity of a claim, computed from published means."""

    quantity: str
    dataset: str
    model: str
    estimate: float
    agrees: bool


class SelfConsistency(Frozen):
    """The agreement of a work's own figures with its claim, at the places for which it published them."""

    verdict: Literal["agrees", "contradicts"]
    figures: tuple[OwnFigure, ...]


def own_figures(claim: Claim, figures: Published) -> SelfConsistency | None:
    """Test a claim against the work's own tables; None if they lack an arm at every place."""
    found = tuple(_computed(claim, figures.own_means(claim.work)))
    if claim.requires is None or not found:
        return None
    enough = all if claim.requires.need == "all" else any
    return SelfConsistency(verdict="agrees" if enough(each.agrees for each in found) else "contradicts", figures=found)


def _computed(claim: Claim, means: Means) -> Iterator[OwnFigure]:
    if claim.requires is None or isinstance(claim.predicate, Count | Audited):
        return
    for dataset in claim.requires.datasets:
        for model in claim.requires.models:
            for quantity in claim.predicate.quantities(dataset):
                estimate = _estimate(quantity, dataset, model, means)
                if estimate is not None:
                    yield OwnFigure(
                        quantity=quantity.label,
                        dataset=dataset,
                        model=model,
                        estimate=estimate,
                        agrees=_within(estimate, quantity),
                    )


def _estimate(quantity: Quantity, dataset: str, model: str, means: Means) -> float | None:
    def mean(arm: ArmAt) -> float:
        where = (arm.model or model, arm.arm, quantity.column)
        # Sizes are published for a network, whatever it was trained on.
        own = (arm.dataset or dataset, *where)
        return means[own if own in means else ("", *where)]

    def total(terms: tuple[Term, ...]) -> float:
        return sum(weight * mean(arm) for arm, weight in terms)

    try:
        return total(quantity.terms) / (total(quantity.over) if quantity.over else 1)
    except (KeyError, ZeroDivisionError):
        return None


def _within(estimate: float, quantity: Quantity) -> bool:
    low, high = quantity.limits
    return low <= estimate <= high if quantity.inclusive else low < estimate < high
