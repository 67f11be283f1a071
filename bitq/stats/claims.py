"""The claims of the four works, and of this one, as data: statement, source, and the test that decides it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.stats.predicates import ArmAt, Count, Predicate

OURS = "ours"  # claims of this work itself, which is no study


class Requires(Frozen):
    """The places where a claim is judged: every data set with every model, among the runs that meet `where`."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    where: dict[str, Any] = {}
    need: Literal["all", "any"] = "all"  # of these places, for the claim to hold


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

    @model_validator(mode="after")
    def _has_places(self) -> "Claim":
        if (self.requires is None) != isinstance(self.predicate, Count):
            raise ValueError("every kind but count needs `requires`, and count takes none")
        if self.work == OURS and self.requires and not self.study:
            raise ValueError("a claim of ours needs `study`: whose runs decide")
        return self


class Book(Frozen):
    """All claims, and the arms that have no name of their own in the grid."""

    arms: dict[str, dict[str, Any]]  # criteria by name; any other name is an arm of the grid
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Book":
        ids = [claim.id for claim in self.claims]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"two claims are called {name!r}")
        return self

    def criteria(self, arm: ArmAt, place: Mapping[str, Any]) -> dict[str, Any]:
        """Return the criteria that select the runs of an arm at a place."""
        said = (("dataset", arm.dataset), ("model", arm.model), ("classes", arm.classes))
        elsewhere = {key: value for key, value in said if value}
        return {**place, **elsewhere, **self.arms.get(arm.arm, {"arm": arm.arm})}


def claims() -> Book:
    """Read config/claims.yaml."""
    book: Book = read_yaml(Book, config_dir() / "claims.yaml")
    return book
