"""Decide whether the interval of a quantity lies within its limits, beyond one of them, or around one."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from bitq.records import Frozen
from bitq.stats.cells import Cell
from bitq.stats.estimate import Estimate, estimate, share_draws
from bitq.stats.images import NONE, Images
from bitq.stats.inference import ALPHA, LEVEL, Interval, correlation, exact_independent, exact_paired, mean
from bitq.stats.needed import Needed, Spread, needed
from bitq.stats.predicates import ArmAt, Limits, Quantity, Term

Decision = Literal["holds", "fails", "undecided", "missing"]
ONE_SEED = "one seed has no interval"
NO_RATIO = {"undecided": "the denominator is not surely positive", "fails": "the denominator is negative"}
FEWEST_EVENTS = 6  # discordant seeds with which the exact paired test can reach 2.5 %: 1 in 64


class Evidence(Frozen):
    """One quantity at one place: its limits, its estimate, and the verdict."""

    quantity: str
    dataset: str = ""
    model: str = ""
    column: str
    limits: tuple[float | None, float | None]
    estimate: float | None = None
    interval: Interval | None = None  # that decides; for an exact quantity, the range over the runs
    level: float | None = None
    interval_seeds: Interval | None = None  # the same for these test images only
    interval_family: Interval | None = None  # at 1 - α/k: beyond a limit it refutes the claim by itself
    level_family: float | None = None
    new_images: bool = False  # does the interval speak of new test images too?
    correlation: float | None = None  # of two arms that are paired
    seeds: tuple[int, ...] = ()
    n: int = 0
    n_diverged: int = 0
    means: dict[str, float | None] = {}  # of the arms, over the seeds that count
    verdict: Decision
    needed: Needed | None = None  # where undecided
    slack: float | None = None  # how far beyond a limit the interval reaches: above 0 the place does not hold
    excess: float | None = None  # how far beyond a limit the family's interval begins: above 0 it fails
    runs: tuple[str, ...] = ()  # folders below results/ that the numbers come from
    note: str = ""


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


def weigh(
    quantity: Quantity,
    cells: Mapping[ArmAt, Cell],
    places: int = 1,
    images: Images = NONE,
    enough: Literal["all", "any"] = "all",
) -> Evidence:
    """Judge a quantity by the runs of its arms.

    Where all of k places must hold, any one that fails refutes the claim and is tested at α/k. Where one is enough, any
    one that holds proves it, and that is tested at α/k.
    """
    known = {str(arm): cells[arm] for arm in quantity.arms}
    found = _with_published(
        estimate(
            known,
            {str(arm): _weights(quantity, arm) for arm in quantity.arms},
            quantity.column,
            bool(quantity.over),
            images if quantity.new_images and not quantity.exact else NONE,
        ),
        quantity,
    )
    corrected = 1 - ALPHA / places
    levels = (quantity.level, corrected) if enough == "all" else (_stricter(quantity.level, places), LEVEL)
    judged = _judge(quantity, found, known, levels, places if enough == "all" else 1)
    return Evidence(
        quantity=quantity.label,
        column=quantity.column,
        limits=finite(quantity.limits),
        estimate=found.value,
        seeds=found.seeds if found.n else (),
        n=found.n,
        n_diverged=sum(len(cell.diverged) for cell in cells.values()),
        means={name: mean(values) for name, values in found.columns.items()},
        correlation=correlation(*found.columns.values()) if len(known) == 2 and len(found.blocks) == 1 else None,
        runs=tuple(dict.fromkeys(cell.folders for cell in cells.values())),
        **judged,
    )


def _stricter(level: float, places: int) -> float:
    return 1 - (1 - level) / places


def _weights(quantity: Quantity, arm: ArmAt) -> tuple[float, float]:
    def total(terms: Iterable[Term]) -> float:
        return float(sum(weight for each, weight in terms if each == arm))

    return total(quantity.terms), total(quantity.over)


def _with_published(found: Estimate, quantity: Quantity) -> Estimate:
    """Add the uncertainty of a published mean: of its own runs, or of as many as ours where it prints no spread."""
    of = quantity.published
    if of is None or of.n is None or not found.n:
        return found
    if of.sd is not None and of.n > 1:
        return Estimate(found.blocks, False, found.images, (of.sd**2 / of.n, of.n - 1.0), 1.0, found.columns)
    return Estimate(found.blocks, False, found.images, None, 1 + found.n / of.n, found.columns)


Judged = dict[str, Any]


def _judge(
    quantity: Quantity, found: Estimate, cells: Mapping[str, Cell], levels: tuple[float, float], places: int
) -> Judged:
    if not found.n:
        return {"verdict": "undecided", "note": "no seed has a value in every arm"}
    if quantity.exact:
        return _by_every_file(quantity, found)
    if quantity.column == "diverged":
        return _by_counts(quantity, cells, places)
    return _by_intervals(quantity, found, levels)


def _by_every_file(quantity: Quantity, found: Estimate) -> Judged:
    """Decide a property of files: all must meet the limits, and if none does the claim fails."""
    top, *bottom = (found.columns[str(arm)] for arm in quantity.arms)
    values = np.divide.outer(top, bottom[0]).ravel() if quantity.over else top
    low, high = quantity.limits
    met = [low <= value <= high for value in values]
    verdict = "holds" if all(met) else "undecided" if any(met) else "fails"
    beyond = [max(low - value, value - high) for value in values]
    return {
        "verdict": verdict,
        "interval": (float(values.min()), float(values.max())),
        "slack": float(max(beyond)),
        "excess": float(min(beyond)),
        "note": "" if verdict != "undecided" else "the files differ; no number of runs decides",
    }


def _by_counts(quantity: Quantity, cells: Mapping[str, Cell], places: int) -> Judged:
    """Decide by exact tests which of two arms diverges more often; the limit is zero."""
    first, second = (cells[str(arm)] for arm, _ in quantity.terms)
    a, b = first.by_seed("diverged"), second.by_seed("diverged")
    paired = _shared_seeds(first, second)
    if paired:
        only_a, only_b = (sum(one[seed] > other[seed] for seed in paired) for one, other in ((a, b), (b, a)))
        exact, counts = exact_paired(only_a, only_b), f"{only_a} and {only_b} of {len(paired)} pairs"
    else:
        exact = exact_independent(int(sum(a.values())), len(a), int(sum(b.values())), len(b))
        counts = f"{sum(a.values()):.0f} of {len(a)} and {sum(b.values()):.0f} of {len(b)} runs"
    above = math.isfinite(quantity.limits[0])
    claimed, opposite = (exact.larger, exact.smaller) if above else (exact.smaller, exact.larger)
    verdict = "holds" if claimed <= ALPHA / 2 else "fails" if opposite <= ALPHA / 2 / places else "undecided"
    fewest = len(paired) or min(len(a), len(b))
    never = not sum(a.values()) + sum(b.values())
    note = "no run diverged in any arm" if never else f"diverged alone: {counts}, exact p = {claimed:.3g}"
    return {
        "verdict": verdict,
        "note": note,
        "needed": Needed(seeds=FEWEST_EVENTS) if verdict == "undecided" and fewest < FEWEST_EVENTS else None,
    }


def _shared_seeds(a: Cell, b: Cell) -> tuple[int, ...]:
    """List the seeds of two arms that share their draws; none if they share nothing."""
    return tuple(sorted(set(a.seeds) & set(b.seeds))) if share_draws(a, b) else ()


def _by_intervals(quantity: Quantity, found: Estimate, levels: tuple[float, float]) -> Judged:
    if found.n == 1:
        return {"verdict": "missing", "note": ONE_SEED}
    level, corrected = levels
    verdict, note = _decide(quantity, found, levels)
    interval = found.interval(level)
    only_seeds = Estimate(found.blocks, found.is_ratio, None, found.published, found.inflation)
    family = found.interval(corrected)
    no_spread = found.n > 1 and found.half(0.0, level) is None
    return {
        "verdict": verdict,
        "interval": interval,
        "level": level,
        "interval_seeds": interval if found.images is None else only_seeds.interval(level),
        "interval_family": family,
        "level_family": corrected,
        "new_images": found.images is not None,
        "slack": _reach(interval, quantity.limits),
        "excess": _begin(family, quantity.limits),
        "needed": _needed(quantity, found, levels) if verdict == "undecided" else None,
        "note": "; ".join(filter(None, (note, _about_published(quantity), "all values equal" if no_spread else ""))),
    }


def _about_published(quantity: Quantity) -> str:
    of = quantity.published
    if of is None:
        return ""
    if of.n is None:
        return "published mean taken as exact, its runs are not stated"
    runs = "1 published run" if of.n == 1 else f"{of.n} published runs"
    spread = f"SD {of.sd:g}" if of.sd is not None and of.n > 1 else "spread taken to be ours"
    return f"{runs}, {spread}"


def _reach(interval: Interval | None, limits: Limits) -> float | None:
    """Return by how much an interval exceeds its limits on the worse side; negative if it lies within them."""
    return None if interval is None else max(limits[0] - interval[0], interval[1] - limits[1])


def _begin(interval: Interval | None, limits: Limits) -> float | None:
    """Return how far beyond a limit an interval begins; negative if it does not."""
    return None if interval is None else max(limits[0] - interval[1], interval[0] - limits[1])


def _decide(quantity: Quantity, found: Estimate, levels: tuple[float, float]) -> tuple[Decision, str]:
    if quantity.over:
        gap = _positive(found.denominator(levels[0]), found.denominator(levels[1]), inclusive=False)
        if gap != "holds":
            return gap, NO_RATIO[gap]
    distances = list(_distances(quantity, found, levels))
    return all_of([_positive(own, family, quantity.inclusive) for own, family in distances]), ""


def _distances(quantity: Quantity, found: Estimate, levels: tuple[float, float]) -> Iterator[tuple[Interval, Interval]]:
    """Yield the intervals of the distances to the limits, without dividing: a/b > r where a - r·b > 0 and b > 0."""
    for limit, sign in zip(quantity.limits, (1, -1), strict=True):
        if math.isfinite(limit):
            own, family = (found.distance(limit, level) for level in levels)
            yield (own, family) if sign > 0 else ((-own[1], -own[0]), (-family[1], -family[0]))


def _positive(own: Interval, family: Interval, inclusive: bool) -> Decision:
    """Decide that a distance is positive by its own interval, that it is negative by the one at α/k."""
    if own[0] > 0 or (inclusive and own[0] == 0):
        return "holds"
    if family[1] < 0 or (not inclusive and family[1] == 0):
        return "fails"
    return "undecided"


def _needed(quantity: Quantity, found: Estimate, levels: tuple[float, float]) -> Needed:
    """Find the seeds after which the estimate, were it true, would lie surely on its side of the limits."""
    if found.value is None:
        return Needed(seeds=2)
    distances = [
        (float(found.means[0] - limit * found.means[1]) * sign, limit)
        for limit, sign in zip(quantity.limits, (1, -1), strict=True)
        if math.isfinite(limit)
    ]
    nearest, limit = min(distances)
    variances, freedom, images = found.spread(limit)
    own = [variance / found.inflation for variance in variances[: len(found.blocks)]]
    spread = Spread(
        deviations=tuple(
            math.sqrt(variance * len(block.seeds)) for variance, block in zip(own, found.blocks, strict=True)
        ),
        images=images,
        published=sum(variances[len(own) :]) + sum(own) * (found.inflation - 1),
        freedom=freedom[len(own)] if found.published else None,
    )
    return needed(abs(nearest), spread, levels[0] if nearest > 0 else levels[1])
