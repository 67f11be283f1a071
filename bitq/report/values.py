"""One number of the prose: its printed text, and the values that the check for typed numbers compares."""

from collections.abc import Sequence
from dataclasses import dataclass

from bitq.report.tex import escape, interval, whole


@dataclass(frozen=True)
class Number:
    """A printed number or text under its key."""

    key: str
    text: str  # LaTeX
    values: tuple[float, ...] = ()  # what the check for typed numbers compares with; none for texts and whole numbers
    percent: bool = False


def inline(text: str) -> str:
    """Wrap mathematics so that it works in text as well as in a formula."""
    return rf"\ensuremath{{{text[1:-1]}}}" if text.startswith("$") else text


def measure(key: str, number: float | None, text: str, percent: bool = False) -> Number:
    """Build a number printed as `text`, e.g. `measure("acc.x", mean, tex.number(mean), percent=True)`."""
    return Number(key, inline(text), () if number is None else (number,), percent)


def interval_number(key: str, bounds: Sequence[float] | None, digits: int = 2, sign: bool = False) -> Number:
    """Build an interval."""
    return Number(key, inline(interval(bounds, digits, sign)), tuple(bounds or ()))


def count(key: str, number: float | None) -> Number:
    """Build a whole number."""
    return Number(key, whole(number))


def words(key: str, *texts: object) -> Number:
    """Build a list of texts, each once."""
    return Number(key, escape(", ".join(str(text) for text in dict.fromkeys(texts)) or None))
