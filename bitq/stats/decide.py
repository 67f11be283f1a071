"""Decide whether the interval of a quantity lies within its limits, beyond one of them, or around one."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from bitq.records import Frozen
from bitq.stats.cells import Cell, Values, paired
from bitq.stats.inference import Interval, mean, ratio_interval, t_interval
from bitq.stats.predicates import ArmAt, Quantity, Term

Decision = Literal["holds", "fails", "undecided", "missing"]
NO_RATIO = {"undecided": "the denominator is not surely positive", "fails": "the denominator is negative"}
EVERYTHING = (-math.inf, math.inf)  # interval of the mean of fewer than two values


class Evidence(Frozen):
    """One quantity at one place: its limits, its estimate, and the verdict."""

    quantity: str
    dataset: str = ""
    model: str = ""
    column: str
    limits: tuple[float | None, float | None]
    estimate: float | None = None
    interval: Interval | None = None  # for an exact quantity, the range over the runs
    level: float | None = None
    seeds: tuple[int, ...] = ()
    n: int = 0
    n_diverged: int = 0
    means: dict[str, float | None] = {}  # of the arms, over these seeds
    verdict: Decision
    note: str = ""


class Sample(NamedTuple):
    """The values behind a quantity, one a seed; the denominator is one where the quantity is no ratio."""

    seeds: tuple[int, ...]
    arms: dict[ArmAt, Values]
    numerator: Values
    denominator: Values


def weigh(quantity: Quantity, cells: Mapping[ArmAt, Cell]) -> Evidence:
    """Judge a quantity by the runs of its arms."""
    sample = _sample(quantity, cells)
    verdict, note = _decide(quantity, sample)
    return Evidence(
        quantity=quantity.label,
        column=quantity.column,
        limits=finite(quantity.limits),
        estimate=_estimate(sample),
        interval=_interval(quantity, sample),
        level=None if quantity.exact else quantity.level,
        seeds=sample.seeds,
        n=len(sample.seeds),
        n_diverged=sum(len(cell.diverged) for cell in cells.values()),
        means={str(arm): mean(values) for arm, values in sample.arms.items()},
        verdict=verdict,
        note=note,
    )


def finite(limits: tuple[float, float]) -> tuple[float | None, float | None]:
    """Replace infinite limits by None, as JSON requires."""
    low, high = limits
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


def all_of(verdicts: list[Decision]) -> Decision:
    """Combine verdicts that must all hold: one failure fails, then missing, then undecided counts."""
    order: tuple[Decision, ...] = ("fails", "missing", "undecided", "holds")
    return next(verdict for verdict in order if verdict in verdicts)


def any_of(verdicts: list[Decision]) -> Decision:
    """Combine verdicts of which one must hold."""
    order: tuple[Decision, ...] = ("holds", "missing", "undecided", "fails")
    return next(verdict for verdict in order if verdict in verdicts)


def _sample(quantity: Quantity, cells: Mapping[ArmAt, Cell]) -> Sample:
    seeds, columns = paired([cells[arm] for arm in quantity.arms], quantity.column)
    arms = dict(zip(quantity.arms, columns, strict=True))

    def total(terms: tuple[Term, ...]) -> Values:
        return sum((weight * arms[arm] for arm, weight in terms), np.zeros(len(seeds)))

    return Sample(seeds, arms, total(quantity.terms), total(quantity.over) if quantity.over else np.ones(len(seeds)))


def _decide(quantity: Quantity, sample: Sample) -> tuple[Decision, str]:
    if not sample.seeds:
        return "undecided", "no seed has a value in every arm"
    if quantity.column == "diverged" and not any(values.any() for values in sample.arms.values()):
        return "undecided", "no run diverged in any arm"  # the values are all 0
    if quantity.over:
        gap = _positive(sample.denominator, quantity, inclusive=False)
        if gap != "holds":
            return gap, NO_RATIO[gap]
    return all_of([_positive(room, quantity, quantity.inclusive) for room in _room(quantity, sample)]), ""


def _room(quantity: Quantity, sample: Sample) -> Iterator[Values]:
    """Yield the distances to the limits, without dividing: a/b > r where a - r·b > 0 and b > 0."""
    low, high = quantity.limits
    if math.isfinite(low):
        yield sample.numerator - low * sample.denominator
    if math.isfinite(high):
        yield high * sample.denominator - sample.numerator


def _positive(values: Values, quantity: Quantity, inclusive: bool) -> Decision:
    low, high = _range(values) if quantity.exact else t_interval(values, quantity.level) or EVERYTHING
    if low > 0 or (inclusive and low == 0):
        return "holds"
    if high < 0 or (not inclusive and high == 0):
        return "fails"
    return "undecided"


def _range(values: Values) -> Interval:
    return float(values.min()), float(values.max())


def _estimate(sample: Sample) -> float | None:
    if not sample.seeds or not sample.denominator.mean():
        return None
    return float(sample.numerator.mean() / sample.denominator.mean())


def _interval(quantity: Quantity, sample: Sample) -> Interval | None:
    if quantity.exact:
        return _range(sample.numerator / sample.denominator) if sample.seeds else None
    if quantity.over:
        return ratio_interval(sample.numerator, sample.denominator, quantity.level)
    return t_interval(sample.numerator, quantity.level)
