"""Footnotes of a table: incomplete cells, each explained once and marked where it matters."""

from collections.abc import Collection
from string import ascii_lowercase

from bitq.report.query import Score
from bitq.report.sources import Record
from bitq.report.tex import NONE, Tex, counted, listed, mean_sd, signed


class Notes:
    """The footnotes that a table has collected so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def lines(self) -> list[tuple[Tex, str]]:
        """Every mark with its text."""
        return [(self.mark(text), text) for text in self.texts]

    def mark(self, text: str) -> Tex:
        """Return the mark of a footnote; nothing for no text."""
        if not text:
            return Tex("")
        if text not in self.texts:
            self.texts.append(text)
        return Tex(rf"\textsuperscript{{{_letters(self.texts.index(text))}}}")

    def score(self, score: Score | None) -> Tex:
        """Format mean and standard deviation of an arm, marked if runs of it diverged or are missing."""
        if score is None:
            return Tex(NONE)
        return Tex(mean_sd(score.mean, score.sd) + self.mark(_incomplete(score.n, score.diverged, score.missing)))

    def difference(self, contrast: Record | None) -> Tex:
        """Format the mean difference of a contrast, marked if pairs of it are incomplete."""
        return Tex(NONE) if contrast is None else Tex(signed(contrast["difference"]) + self.pairs(contrast))

    def pairs(self, contrast: Record) -> Tex:
        """Return the mark of a contrast whose pairs are incomplete."""
        diverged = {*contrast["diverged_a"], *contrast["diverged_b"]}
        return self.mark(_incomplete(contrast["n"], diverged, unpaired=contrast["unpaired"] - len(diverged)))


def _incomplete(n: int, diverged: Collection[int], missing: Collection[int] = (), unpaired: int = 0) -> str:
    lost = [f"seed {listed(sorted(diverged))} diverged"] if diverged else []
    lost += [f"seed {listed(sorted(missing))} missing"] if missing else []
    lost += [f"{counted(unpaired, 'seed')} without a partner"] if unpaired else []
    return f"n = {n}: {', '.join(lost)}" if lost else ""


def _letters(index: int) -> str:
    """Convert an index to letters: a … z, aa, ab …"""
    more, last = divmod(index, 26)
    return (_letters(more - 1) if more else "") + ascii_lowercase[last]
