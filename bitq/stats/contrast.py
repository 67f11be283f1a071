"""Compare two arms: paired by seed where they share initial weights and batches, by Welch's test elsewhere."""

from collections.abc import Collection

from bitq.errors import UsageError
from bitq.records import Frozen
from bitq.stats.cells import HARDWARE, NOTED, PLACE, RECIPE, SAME_DATA, TREATMENT, Cell
from bitq.stats.estimate import Estimate, estimate, share_draws
from bitq.stats.images import NONE, Images, McNemar, mcnemar
from bitq.stats.inference import (
    LEVEL,
    Equivalence,
    Interval,
    Test,
    cohens_d_z,
    correlation,
    detectable,
    equivalence,
    hedges_g,
    mean,
    paired_test,
    spread,
    welch_test,
)


class Contrast(Frozen):
    """The difference a - b over the seeds that both arms finished, or over all where nothing of a seed is shared."""

    a: str
    b: str
    differs: tuple[str, ...]  # columns in which the arms differ: more than one is a confounded contrast
    mixed: tuple[str, ...]  # hardware or software that is not the same for all runs
    shares_draws: bool  # initial weights and batches of a seed: only then are the arms paired
    correlation: float | None  # of the two arms over the seeds; what pairing is worth
    seeds: tuple[int, ...]
    n: int  # pairs; without pairing, runs of the smaller arm
    unpaired: int  # runs left out because their partner is missing or diverged
    n_diverged: int
    diverged_a: tuple[int, ...]
    diverged_b: tuple[int, ...]
    partial: bool  # a run diverged, so the contrast is over the remaining seeds
    mean_a: float | None
    mean_b: float | None
    difference: float | None
    sd: float | None  # of the differences; None without pairing
    interval: Interval | None  # 95 %, over seeds, for these test images
    interval_images: Interval | None  # 95 %, over seeds and test images; None without stored predictions
    mcnemar: tuple[McNemar, ...]  # one for each seed
    paired: Test | None  # None without pairing
    welch: Test | None
    p: float | None  # of the test that counts: paired where draws are shared, Welch's elsewhere
    p_holm: float | None = None  # of that test, within its family
    d_z: float | None  # from ten pairs on
    hedges_g: float | None
    detectable: float | None  # at this n and spread, power 0.8, α 0.05; None without pairing
    equivalence: Equivalence | None = None
    primary: bool = True  # False where another family of the same study has this contrast with more seeds


def contrast(
    a: Cell,
    b: Cell,
    margin: float | None = None,
    column: str = "accuracy",
    across: Collection[str] = (),
    images: Images = NONE,
) -> Contrast:
    """Compute all statistics of a - b; with a margin, also test equivalence."""
    _check_comparable(a, b, across)
    shared = share_draws(a, b)
    found = estimate({"a": a, "b": b}, {"a": (1.0, 0.0), "b": (-1.0, 0.0)}, column, images=images)
    left, right = found.columns["a"], found.columns["b"]
    pairs = (left, right) if shared else (left[:0], right[:0])
    resolutions = (a.resolution(column), b.resolution(column))
    test = paired_test(*pairs, resolutions)
    welch = welch_test(left, right, resolutions)
    counted = test if shared else welch
    without_images = Estimate(found.blocks, False)
    return Contrast(
        a=a.label,
        b=b.label,
        differs=_differing(a, b, PLACE + TREATMENT + RECIPE),
        mixed=tuple(sorted({*a.mixed, *b.mixed, *_differing(a, b, HARDWARE + NOTED)})),
        shares_draws=shared,
        correlation=correlation(*pairs),
        seeds=found.seeds if found.n else (),
        n=found.n,
        unpaired=len(set(a.seeds) | set(b.seeds)) - found.n if shared else 0,
        n_diverged=len(a.diverged) + len(b.diverged),
        diverged_a=a.diverged,
        diverged_b=b.diverged,
        partial=bool(a.diverged or b.diverged),
        mean_a=mean(left),
        mean_b=mean(right),
        difference=found.value,
        sd=spread(pairs[0] - pairs[1]),
        interval=without_images.interval(LEVEL),
        interval_images=None if found.images is None else found.interval(LEVEL),
        mcnemar=mcnemar(a, b, found.seeds, images) if shared and column == "accuracy" else (),
        paired=test,
        welch=welch,
        p=None if counted is None else counted.p,
        d_z=cohens_d_z(*pairs),
        hedges_g=hedges_g(left, right) if min(len(left), len(right)) > 1 else None,
        detectable=detectable(pairs[0] - pairs[1], max(resolutions)),
        equivalence=None if margin is None else equivalence(left, right, margin, shared, resolutions),
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
    interval: Interval | None  # Fieller, 95 %, for these test images; None if the gap itself may be zero
    interval_images: Interval | None  # the same for new test images


def recovery(kept: Cell, low: Cell, high: Cell, across: Collection[str] = (), images: Images = NONE) -> Recovery:
    """Compute (kept - low) / (high - low)."""
    for other in (low, high):
        _check_comparable(kept, other, across)
    cells = {"kept": kept, "low": low, "high": high}
    found = estimate(
        cells, {"kept": (1.0, 0.0), "low": (-1.0, -1.0), "high": (0.0, 1.0)}, "accuracy", is_ratio=True, images=images
    )
    return Recovery(
        kept=kept.label,
        low=low.label,
        high=high.label,
        seeds=found.seeds if found.n else (),
        n=found.n,
        n_diverged=sum(len(each.diverged) for each in cells.values()),
        gap=float(found.means[1]) if found.n else None,
        share=found.value,
        interval=Estimate(found.blocks, True).interval(LEVEL),
        interval_images=None if found.images is None else found.interval(LEVEL),
    )
