"""The claims of the four works, and of this one, as data: statement, source, and the test that decides it."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal

from pydantic import model_validator

from bitq.catalogue import published_width
from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.stats.families import group_of
from bitq.stats.predicates import About, ArmAt, Audited, Count, Predicate

OURS = "ours"  # claims of this work itself, which is no study


class Requires(Frozen):
    """The places where a claim is judged: every data set with every model, among the runs that meet `where`."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    where: dict[str, Any] = {}
    need: Literal["all", "any"] = "all"  # of these places, for the claim to hold


def protocol(about: About, model: str) -> dict[str, Any]:
    """Return the properties of runs that can decide a claim about a direction, a magnitude, a size or hardware."""
    published = {"scale": "full", "variant": "official", "width": published_width(model)}
    needed: dict[About, dict[str, Any]] = {
        "direction": {},
        "size": {"width": published_width(model)},  # a file has its size whatever trained it
        "magnitude": published,
        "hardware": published | {"device": "cuda"},
        "record": {},
    }
    return needed[about]


class Claim(Frozen):
    """One statement that the runs can refute."""

    id: str
    work: str
    study: str = ""  # whose runs decide, with its extension; empty if it has the name of the work
    source: str
    claim: str
    published: tuple[str, ...] = ()  # figures of published.yaml
    note: str = ""  # what the claim leaves out, or how it was made checkable
    requires: Requires | None = None
    predicate: Predicate

    @property
    def about(self) -> About:
        """Kind of evidence that can decide the claim."""
        return self.predicate.about

    def where(self, model: str) -> dict[str, Any]:
        """Return what runs must be like to decide the claim: the published protocol, unless it is about a direction."""
        if self.requires is None:
            return {}
        return protocol(self.about, model) | self.requires.where

    @model_validator(mode="after")
    def _has_places(self) -> "Claim":
        if (self.requires is None) != isinstance(self.predicate, Count | Audited):
            raise ValueError("every kind but count and audited needs `requires`, and these take none")
        if self.work == OURS and self.requires and not self.study:
            raise ValueError("a claim of ours needs `study`: whose runs decide")
        return self


ALL_ARMS = "all arms of the claim"
TWO_SEEDS = "two seeds of every arm"  # one has no interval
NEEDS = {
    "scale": "the schedule of the publication",
    "variant": "the official images",
    "width": "the published width",
    "device": "a GPU",
}


def needs(claim: Claim) -> list[str]:
    """List in words what the runs must be like, or that all arms must be there."""
    if isinstance(claim.predicate, Count):
        where, classes, whole = claim.predicate.where, set[int](), "a whole study with the seeds that it lists"
    elif claim.requires is None or isinstance(claim.predicate, Audited):
        return []
    else:
        where, whole = claim.where(claim.requires.models[0]), ALL_ARMS
        quantities = claim.predicate.quantities(claim.requires.datasets[0])
        classes = {arm.classes for quantity in quantities for arm in quantity.arms if arm.classes}
    words = sorted(NEEDS.get(name, f"{name} {value}") for name, value in where.items())
    return [*words, *(f"{number} classes" for number in sorted(classes))] or [whole]


class Question(Frozen):
    """A question that several analyses answer: the first one that has runs is primary, the others are shown beside."""

    question: str
    study: str
    pairs: tuple[tuple[str, str], ...]  # first arm minus second
    families: tuple[str, ...]  # named before the runs, the largest n first
    claims: tuple[str, ...] = ()  # that the same contrasts decide, over the same seeds


class ClaimSet(Frozen):
    """All claims, the checks of the grid, and the arms that have no name of their own in the grid."""

    arms: dict[str, dict[str, Any]]  # criteria by name; any other name is an arm of the grid
    questions: tuple[Question, ...] = ()
    claims: tuple[Claim, ...]
    checks: tuple[Claim, ...] = ()  # true or false by construction: printed apart, and counted nowhere

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "ClaimSet":
        ids = [claim.id for claim in (*self.claims, *self.checks)]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"two claims are called {name!r}")
        return self

    def of_studies(self, studies: Collection[str]) -> "ClaimSet":
        """Return the claims and checks that the runs of these studies decide, or of their extensions."""
        groups = {group_of(study) for study in studies}

        def concern(each: Claim) -> bool:
            counted = each.predicate.study if isinstance(each.predicate, Count) else ""
            return not groups.isdisjoint({each.study or each.work, group_of(counted)})

        return self.model_copy(
            update={"claims": tuple(filter(concern, self.claims)), "checks": tuple(filter(concern, self.checks))}
        )

    def where(self, claim: Claim, model: str) -> dict[str, Any]:
        """Return what runs must be like to decide a claim; a check of the grid is made wherever there are runs."""
        if claim.requires and claim in self.checks:
            return claim.requires.where
        return claim.where(model)

    def criteria(self, arm: ArmAt, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return the criteria that select the runs of an arm at a place."""
        said = (("dataset", arm.dataset), ("model", arm.model), ("classes", arm.classes))
        elsewhere = {key: value for key, value in said if value}
        return {**place, **elsewhere, **self.arms.get(arm.arm, {"arm": arm.arm})}


@cache
def claims() -> ClaimSet:
    """Read config/claims.yaml."""
    book: ClaimSet = read_yaml(ClaimSet, config_dir() / "claims.yaml")
    return book
