"""The kinds of claims; each kind defines quantities over arms and the limits between which they must lie."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bitq.records import Frozen
from bitq.stats.inference import LEVEL

TOST_LEVEL = 0.9  # two one-sided tests at 5 % ask whether the 90 % interval lies within the margin
Limits = tuple[float, float]


class ArmAt(Frozen):
    """An arm of a claim by its name, if need be at another data set or model than the claim's."""

    arm: str
    dataset: str | None = None
    model: str | None = None
    classes: int | None = None  # required of the variant of the data set

    def __str__(self) -> str:
        """Format the arm for evidence."""
        classes = f"{self.classes} classes" if self.classes else None
        return "@".join(filter(None, (self.arm, self.dataset, self.model, classes)))


def _by_name(value: Any) -> Any:
    return {"arm": value} if isinstance(value, str) else value


Arm = Annotated[ArmAt, BeforeValidator(_by_name)]
Term = tuple[ArmAt, float]  # an arm and its weight in a sum


@dataclass(frozen=True)
class Quantity:
    """A sum over arms, or the ratio of two sums, that must lie between two limits."""

    label: str
    terms: tuple[Term, ...]
    limits: Limits
    over: tuple[Term, ...] = ()  # of a ratio; it must be positive
    column: str = "accuracy"
    level: float = LEVEL
    exact: bool = False  # a property of the file: the range over the runs decides, not an interval of their mean
    inclusive: bool = False  # may the quantity equal a limit?

    @property
    def arms(self) -> tuple[ArmAt, ...]:
        """Arms that the quantity needs."""
        return tuple(dict.fromkeys(arm for arm, _ in (*self.terms, *self.over)))


class Limited(Frozen):
    """A claim whose quantity is compared with numbers."""

    above: float | None = None
    below: float | None = None
    between: Limits | None = None
    per_dataset: dict[str, Limits] = {}  # where the published value depends on the data set
    column: str = "accuracy"

    @model_validator(mode="after")
    def _has_limits(self) -> "Limited":
        given = [self.between is not None, bool(self.per_dataset), self.above is not None or self.below is not None]
        if sum(given) != 1:
            raise ValueError("give above and/or below, or between, or per_dataset")
        return self

    def limits(self, dataset: str) -> Limits:
        """Return the limits at a data set."""
        if self.per_dataset:
            return self.per_dataset[dataset]
        low, high = self.between or (self.above, self.below)
        return -math.inf if low is None else low, math.inf if high is None else high

    def quantity(self, dataset: str, label: str, terms: tuple[Term, ...], over: tuple[Term, ...] = ()) -> Quantity:
        """Build the quantity with the limits of this claim, inclusive where they are given as a range."""
        inclusive = self.above is None and self.below is None
        return Quantity(label, terms, self.limits(dataset), over, self.column, inclusive=inclusive)


class Difference(Limited):
    """The claim that a - b lies between limits."""

    kind: Literal["difference"]
    a: Arm
    b: Arm

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [self.quantity(dataset, f"{self.a} − {self.b}", ((self.a, 1), (self.b, -1)))]


class Interaction(Limited):
    """The claim that one difference exceeds another: (a - b) - (c - d)."""

    kind: Literal["interaction"]
    a: Arm
    b: Arm
    c: Arm
    d: Arm

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        label = f"({self.a} − {self.b}) − ({self.c} − {self.d})"
        return [self.quantity(dataset, label, ((self.a, 1), (self.b, -1), (self.c, -1), (self.d, 1)))]


class Ratio(Limited):
    """The claim that a / b lies between limits."""

    kind: Literal["ratio"]
    a: Arm
    b: Arm

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [self.quantity(dataset, f"{self.a} / {self.b}", ((self.a, 1),), ((self.b, 1),))]


class Recovery(Limited):
    """The claim on the share of a gap that an arm recovers, (kept - low) / (high - low)."""

    kind: Literal["recovery"]
    kept: Arm
    low: Arm
    high: Arm

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        label = f"share of {self.low} → {self.high} by {self.kept}"
        gap = ((self.high, 1.0), (self.low, -1.0))
        return [self.quantity(dataset, label, ((self.kept, 1), (self.low, -1)), gap)]


class Threshold(Limited):
    """The claim on the mean of one arm."""

    kind: Literal["threshold"]
    arm: Arm

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [self.quantity(dataset, f"{self.arm}", ((self.arm, 1),))]


class Size(Limited):
    """The claim on a property of every run's packed file, or its ratio to that of another arm's file."""

    kind: Literal["size"]
    arm: Arm
    to: Arm | None = None
    column: str

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        over: tuple[Term, ...] = ((self.to, 1),) if self.to else ()
        label = f"{self.arm} / {self.to}" if self.to else f"{self.arm}"
        limits = self.limits(dataset)
        return [Quantity(label, ((self.arm, 1),), limits, over, self.column, exact=True, inclusive=True)]


class Equivalence(Frozen):
    """The claim that |a - b| is less than a margin."""

    kind: Literal["equivalence"]
    a: Arm
    b: Arm
    margin: float = Field(gt=0)
    column: str = "accuracy"

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        limits = (-self.margin, self.margin)
        return [
            Quantity(f"{self.a} − {self.b}", ((self.a, 1), (self.b, -1)), limits, column=self.column, level=TOST_LEVEL)
        ]


class Ordering(Frozen):
    """The claim that every arm of a tier exceeds every arm of the next."""

    kind: Literal["ordering"]
    tiers: tuple[tuple[Arm, ...], ...] = Field(min_length=2)
    column: str = "accuracy"

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [
            Quantity(f"{better} − {worse}", ((better, 1), (worse, -1)), (0, math.inf), column=self.column)
            for upper, lower in zip(self.tiers, self.tiers[1:], strict=False)
            for better in upper
            for worse in lower
        ]


class Count(Frozen):
    """The claim on the number of runs, seeds or hours of a study, in all or by the values of a column."""

    kind: Literal["count"]
    study: str
    of: Literal["runs", "seeds", "hours"] = "runs"
    where: dict[str, Any] = {}
    by: str | None = None
    equals: int | dict[str, int] | None = None
    between: Limits | None = None

    @model_validator(mode="after")
    def _has_a_goal(self) -> "Count":
        if (self.equals is None) == (self.between is None):
            raise ValueError("give equals or between")
        if (self.by is not None) != isinstance(self.equals, dict):
            raise ValueError("`by` needs a mapping in equals, and the other way round")
        return self


Statistical = Difference | Interaction | Ratio | Recovery | Threshold | Size | Equivalence | Ordering
Predicate = Annotated[Statistical | Count, Field(discriminator="kind")]
