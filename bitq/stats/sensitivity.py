"""How much a claim's limits could move without another verdict: whoever set them should not be what decides."""

import math
from typing import Literal

from bitq.records import Frozen
from bitq.stats.decide import Evidence
from bitq.stats.predicates import Equivalence, Reached

Kind = Literal["margin", "above", "below", "slack"]


class Sensitivity(Frozen):
    """The limits at which a verdict turns, in units of the claim.

    A margin: the claim holds from the margin `holds` on and fails below the margin `fails`, None where no margin is so
    small. A limit above (below) which a quantity must lie: it holds with every limit below (above) `holds` and fails
    with every one above (below) `fails`. Slack: both limits of a range, moved outwards by that much.
    """

    kind: Kind
    given: float
    holds: float | None
    fails: float | None


def sensitivity(predicate: object, evidence: list[Evidence]) -> Sensitivity | None:
    """Find where the verdict on a claim that needs all of its places turns; None where an interval is missing."""
    judged = [each for each in evidence if each.verdict != "missing"]
    if not judged or any(each.slack is None for each in judged):
        return None
    kind, given, sign = _form(predicate, judged)
    holds = max(each.slack for each in judged if each.slack is not None)
    begins = [each.excess for each in judged if each.excess is not None]
    fails = given + sign * max(begins) if begins else None
    if kind == "margin" and fails is not None and fails <= 0:
        fails = None
    return Sensitivity(kind=kind, given=given, holds=given + sign * holds, fails=fails)


def _form(predicate: object, evidence: list[Evidence]) -> tuple[Kind, float, int]:
    if isinstance(predicate, Reached):
        return "margin", predicate.within, 1
    if isinstance(predicate, Equivalence):
        return "margin", predicate.margin, 1
    limits = {each.limits for each in evidence}
    if len(limits) == 1:
        low, high = next(iter(limits))
        if high is None and low is not None and math.isfinite(low):
            return "above", low, -1
        if low is None and high is not None and math.isfinite(high):
            return "below", high, 1
    return "slack", 0.0, 1
