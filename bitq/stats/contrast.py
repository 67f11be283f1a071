"""Compare two arms, paired by seed."""

from collections.abc import Collection

from bitq.errors import UsageError
from bitq.records import Frozen
from bitq.stats.cells import HARDWARE, NOTED, PLACE, RECIPE, SAME_DATA, TREATMENT, Cell, paired
from bitq.stats.inference import (
    Equivalence,
    Interval,
    Test,
    bootstrap_interval,
    cohens_d_z,
    detectable,
    equivalence,
    hedges_g,
    mean,
    paired_test,
    ratio_interval,
    spread,
    t_interval,
    welch_test,
)


class Contrast(Frozen):
    """The difference a - b over the seeds that both arms finished; every mean is over these seeds."""

    a: str
    b: str
    differs: tuple[str, ...]  # columns in which the arms differ: more than one is a confounded contrast
    mixed: tuple[str, ...]  # hardware or software that is not the same for all runs
    seeds: tuple[int, ...]
    n: int
    unpaired: int  # runs left out because their partner is missing or diverged
    n_diverged: int
    diverged_a: tuple[int, ...]
    diverged_b: tuple[int, ...]
    partial: bool  # a run diverged, so the contrast is over the remaining seeds
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    sd: float | None  # of the differences
    interval: Interval | None  # t, 95 %
    bootstrap: Interval | None  # BCa, 95 %, from five pairs on
    paired: Test | None
    welch: Test | None
    p_holm: float | None = None  # of the paired test, within its family
    d_z: float | None
    hedges_g: float | None
    detectable: float | None  # at this n and spread, power 0.8, α 0.05
    equivalence: Equivalence | None = None


def contrast(
    a: Cell, b: Cell, margin: float | None = None, column: str = "accuracy", across: Collection[str] = ()
) -> Contrast:
    """Compute all statistics of a - b over paired runs; with a margin, also test equivalence."""
    _check_comparable(a, b, across)
    seeds, (left, right) = paired([a, b], column)
    differences = left - right
    return Contrast(
        a=a.label,
        b=b.label,
        differs=_differing(a, b, PLACE + TREATMENT + RECIPE),
        mixed=tuple(sorted({*a.mixed, *b.mixed, *_differing(a, b, HARDWARE + NOTED)})),
        seeds=seeds,
        n=len(seeds),
        unpaired=len(set(a.seeds) | set(b.seeds)) - len(seeds),
        n_diverged=len(a.diverged) + len(b.diverged),
        diverged_a=a.diverged,
        diverged_b=b.diverged,
        partial=bool(a.diverged or b.diverged),
        mean_a=mean(left),
        mean_b=mean(right),
        difference=mean(differences),
        sd=spread(differences),
        interval=t_interval(differences),
        bootstrap=bootstrap_interval(differences),
        paired=paired_test(left, right),
        welch=welch_test(left, right),
        d_z=cohens_d_z(left, right),
        hedges_g=hedges_g(left, right) if len(left) > 1 else None,
        detectable=detectable(differences),
        equivalence=None if margin is None else equivalence(left, right, margin),
    )


def _check_comparable(a: Cell, b: Cell, across: Collection[str]) -> None:
    """Refuse arms of two data sets or two machines: their difference is not a contrast of methods."""
    for column in _differing(a, b, SAME_DATA + HARDWARE):
        if column not in across:
            way_out = f", or allow it with across=[{column!r}]" if column in HARDWARE else ""
            raise UsageError(
                f"{a.label} and {b.label} differ in {column} ({a.kinds[column][0]}, {b.kinds[column][0]}); "
                f"choose cells that share it{way_out}."
            )


def _differing(a: Cell, b: Cell, columns: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in columns if set(a.kinds[name]) != set(b.kinds[name]))


class Recovery(Frozen):
    """The share of the gap from `low` to `high` that an arm recovers: 0 none of it, 1 all of it."""

    kept: str
    low: str
    high: str
    seeds: tuple[int, ...]
    n: int
    n_diverged: int
    gap: float | None
    share: float | None
    interval: Interval | None  # Fieller, 95 %; none if the gap itself may be zero


def recovery(kept: Cell, low: Cell, high: Cell, across: Collection[str] = ()) -> Recovery:
    """Compute (kept - low) / (high - low), paired by seed."""
    for other in (low, high):
        _check_comparable(kept, other, across)
    seeds, (some, least, most) = paired([kept, low, high])
    gained, gap = some - least, most - least
    return Recovery(
        kept=kept.label,
        low=low.label,
        high=high.label,
        seeds=seeds,
        n=len(seeds),
        n_diverged=sum(len(each.diverged) for each in (kept, low, high)),
        gap=mean(gap),
        share=float(gained.mean() / gap.mean()) if mean(gap) else None,
        interval=ratio_interval(gained, gap),
    )
