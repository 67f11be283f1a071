"""Describe the questions of a study as families of contrasts; the studies themselves are in bitq/studies/."""

from dataclasses import dataclass

PARITY = 0.5  # points of accuracy; two arms closer than this count as equal
EXTENSION = "n10"  # a phase of this name adds seeds to arms of the study that it extends


def group_of(study: str) -> str:
    """Return the study that a study extends, or its own name; the two are read together.

    >>> group_of("bitnet-extended"), group_of("ring")
    ('bitnet', 'ring')
    """
    return study.removesuffix("-extended")


@dataclass(frozen=True)
class Family:
    """Contrasts that are corrected together: first arm minus second, at every place of the study that has both."""

    name: str
    question: str
    pairs: tuple[tuple[str, str], ...]  # arms named as in the ids of runs
    margin: float | None = None  # of equivalence, where parity is claimed
    all_seeds: bool = False  # also count the seeds that the phase EXTENSION adds
    study: str = ""  # with its extension; filled in from the folder that lists the family


@dataclass(frozen=True)
class Gap:
    """The share of the gap from `low` to `high` that the arm `kept` recovers."""

    kept: str
    low: str
    high: str
    study: str = ""
