"""The kinds of claims; each kind defines quantities over arms and the limits between which they must lie."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bitq.records import Frozen
from bitq.stats.inference import LEVEL, TOST_LEVEL
from bitq.stats.published import published

Limits = tuple[float, float]
About = Literal["direction", "magnitude", "size", "hardware", "record"]
HARDWARE_COLUMNS = ("wall_seconds", "images_per_second", "peak_memory_bytes")


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
class PublishedMean:
    """A published mean with the spread and the number of its runs, as far as they are known."""

    value: float
    sd: float | None
    n: int | None


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
    published: PublishedMean | None = None  # that the quantity must reach, with an uncertainty of its own
    new_images: bool = True  # False where the published mean is of the same test images

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

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide: only a sign can be seen away from the published protocol."""
        if self.column in HARDWARE_COLUMNS:
            return "hardware"
        limits = {limit for limit in (self.above, self.below) if limit is not None}
        return "direction" if limits == {self.nothing} else "magnitude"

    @property
    def nothing(self) -> float | None:
        """Value at which two arms do not differ, if there is one."""
        return None

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

    @property
    def nothing(self) -> float | None:
        """Value at which two arms do not differ."""
        return 0.0

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

    @property
    def nothing(self) -> float | None:
        """Value at which two arms do not differ."""
        return 0.0

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        label = f"({self.a} − {self.b}) − ({self.c} − {self.d})"
        return [self.quantity(dataset, label, ((self.a, 1), (self.b, -1), (self.c, -1), (self.d, 1)))]


class Ratio(Limited):
    """The claim that a / b lies between limits."""

    kind: Literal["ratio"]
    a: Arm
    b: Arm

    @property
    def nothing(self) -> float | None:
        """Value at which two arms do not differ."""
        return 1.0

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [self.quantity(dataset, f"{self.a} / {self.b}", ((self.a, 1),), ((self.b, 1),))]


class Recovery(Limited):
    """The claim on the share of a gap that an arm recovers, (kept - low) / (high - low)."""

    kind: Literal["recovery"]
    kept: Arm
    low: Arm
    high: Arm

    @property
    def nothing(self) -> float | None:
        """Value at which two arms do not differ."""
        return 0.0

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

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide: a file of the published width."""
        return "size"

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

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide: a margin is a magnitude."""
        return "magnitude"

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

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide."""
        return "direction"

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        return [
            Quantity(f"{better} − {worse}", ((better, 1), (worse, -1)), (0, math.inf), column=self.column)
            for upper, lower in zip(self.tiers, self.tiers[1:], strict=False)
            for better in upper
            for worse in lower
        ]


class Reached(Frozen):
    """The claim that an arm, or the difference of two, has the mean that was published, within a margin."""

    kind: Literal["reached"]
    a: Arm
    b: Arm | None = None
    figures: dict[str, str]  # of published.yaml, by data set
    within: float = Field(gt=0)
    n: int | None = Field(default=None, gt=0)  # runs behind the published mean, if its source says so
    column: str = "accuracy"

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide."""
        return "magnitude"

    def quantities(self, dataset: str) -> list[Quantity]:
        """List the quantities to test at a data set."""
        figure = published().figures[self.figures[dataset]]
        assert isinstance(figure.value, int | float)
        of = PublishedMean(float(figure.value), figure.sd, figure.n or self.n)
        terms: tuple[Term, ...] = ((self.a, 1.0), (self.b, -1.0)) if self.b else ((self.a, 1.0),)
        label = f"{self.a} − {self.b}" if self.b else f"{self.a}"
        limits = (of.value - self.within, of.value + self.within)
        return [
            Quantity(label, terms, limits, (), self.column, TOST_LEVEL, published=of, new_images=False),
        ]


class Audited(Frozen):
    """The claim on what a work's own repository holds or does, which was counted there and not in any run."""

    kind: Literal["audited"]
    what: str  # that was counted
    found: float
    evidence: str  # where, so that anybody can count again
    equals: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide."""
        return "record"

    @property
    def limits(self) -> Limits:
        """Limits of what was found, inclusive."""
        if self.equals is not None:
            return self.equals, self.equals
        return -math.inf if self.above is None else self.above, math.inf if self.below is None else self.below

    @model_validator(mode="after")
    def _has_a_goal(self) -> "Audited":
        if (self.equals is None) == (self.above is None and self.below is None):
            raise ValueError("give equals, or above and/or below")
        return self


class Count(Frozen):
    """The claim on the number of runs, seeds or hours of a study, in all or by the values of a column."""

    kind: Literal["count"]
    study: str
    of: Literal["runs", "seeds", "hours"] = "runs"
    where: dict[str, Any] = {}
    by: str | None = None
    equals: int | dict[str, int] | None = None
    between: Limits | None = None

    @property
    def about(self) -> About:
        """Return what kind of evidence can decide."""
        return "hardware" if self.of == "hours" else "record"

    @model_validator(mode="after")
    def _has_a_goal(self) -> "Count":
        if (self.equals is None) == (self.between is None):
            raise ValueError("give equals or between")
        if (self.by is not None) != isinstance(self.equals, dict):
            raise ValueError("`by` needs a mapping in equals, and the other way round")
        return self


Statistical = Difference | Interaction | Ratio | Recovery | Threshold | Size | Equivalence | Ordering | Reached
Predicate = Annotated[Statistical | Count | Audited, Field(discriminator="kind")]
