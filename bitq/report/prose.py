r"""Leave out of the text what no result is behind, so that no sentence has a gap and no reference leads nowhere.

A sentence goes if one of its numbers has no value, if all that it says are verdicts that were not reached, or if it
refers to a table, figure or section that is not shown; a heading goes with the last of its text. Sentences that lean on
another one say so: `\whenknown{key}{text}`. Text of a study stands in `\whenstudy{name}{text}`. A number or label that
no file knows is a slip of the pen: its sentence stays, and LaTeX reports it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitq.errors import DataError
from bitq.io import write_atomic
from bitq.report import names
from bitq.report.tex import NONE

INPUT = re.compile(r"\\input\{([^}]+)\}")
QUOTED = re.compile(r"\\(bq|pub|verdict)\{([^{}#]+)\}")
REFERENCE = re.compile(r"\\(?:eq|page)?ref\{([^{}#]+)\}")
LABEL = re.compile(r"\\label\{([^{}#]+)\}")
NUMBER = re.compile(r"^\\bqset\{([^{}]+)\}\{(.*)\}$", re.M)
CONDITION = re.compile(r"\\when(study|known)\{([^{}]*)\}\{")
CURLY = re.compile(r"(?<!\\)[{}]")
BRACE = re.compile(r"(?<!\\)[{}]|\\(?:begin|end)\{")
# The brace behind \begin and \end closes by itself.
OPENED = {"{": 1, "}": -1, r"\begin{": 2, r"\end{": 0}
END = re.compile(r"(?<=[.!?])(?:''|\)|\])*\s+(?=[A-Z`$\\(])")
HEADING = re.compile(r"\s*\\(section|subsection)\{")
TITLE = re.compile(r"\s*(?:\\noindent\s*)?\\paragraph\{[^{}]*\}\s*")
KINDS = {"tables": "tab", "figures": "fig"}
LEVELS = ("section", "subsection")
NOT_JUDGED = names.verdict("missing")


@dataclass(frozen=True)
class Known:
    """What a text can rest on: printed numbers by key, studies with results, and labels that other builds have."""

    values: Mapping[str, str]
    studies: Collection[str]
    hidden: Collection[str]

    def has(self, key: str) -> bool:
        """Return whether a number has a value, or a claim a verdict."""
        return self.values.get(" ".join(key.split())) not in (NONE, NOT_JUDGED)

    def bears(self, sentence: str) -> bool:
        """Return whether all is there that a sentence says."""
        if any(label in self.hidden for label in REFERENCE.findall(sentence)):
            return False
        quoted = QUOTED.findall(sentence)
        if not all(self.has(key) for kind, key in quoted if kind == "bq"):
            return False
        verdicts = [key for kind, key in quoted if kind == "verdict"]
        return len(verdicts) < len(quoted) or not verdicts or any(self.has(f"verdict.{key}") for key in verdicts)

    def meets(self, kind: str, name: str) -> bool:
        """Return whether the condition of a part of the text is met."""
        return name in self.studies if kind == "study" else self.has(name)


def prune(folder: Path, documents: Collection[str], studies: Collection[str]) -> None:
    """Rewrite the sections that documents read so that they say only what results are behind."""
    numbers = folder / "numbers.tex"
    if not numbers.exists():
        raise DataError(f"{numbers} does not exist; write it with: bitq numbers.")
    values = dict(NUMBER.findall(numbers.read_text(encoding="utf-8")))
    files = {path: path.read_text(encoding="utf-8") for name in documents for path in read_by(folder, name)}
    possible, texts, shown = possible_labels(folder), files, labels_of(files.values())
    while True:
        known = Known(values, studies, possible - shown)
        texts = {path: pruned(text, known, folder) if _is_prose(path) else text for path, text in files.items()}
        if (left := labels_of(texts.values())) == shown:
            break
        shown = left
    for path, text in texts.items():
        write_atomic(path, text.encode())


def _is_prose(path: Path) -> bool:
    return path.parent.name == "sections"


def read_by(folder: Path, name: str) -> Iterator[Path]:
    """Yield a TeX file, then those that it reads; a file that does not exist is left for LaTeX to report."""
    path = folder / f"{name.removesuffix('.tex')}.tex"
    if path.exists():
        yield path
        for inner in INPUT.findall(path.read_text(encoding="utf-8")):
            yield from read_by(folder, inner)


def labels_of(texts: Collection[str]) -> set[str]:
    """Collect all labels of some texts."""
    return {label for text in texts for label in LABEL.findall(text)}


def possible_labels(folder: Path) -> set[str]:
    """Collect the labels of all sections of all builds, and those of the tables and figures that they read."""
    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.tex")]
    floats = (Path(name) for text in texts for name in INPUT.findall(text))
    return labels_of(texts) | {f"{KINDS[path.parent.name]}:{path.stem}" for path in floats if path.parent.name in KINDS}


def pruned(text: str, known: Known, folder: Path | None = None) -> str:
    r"""Prune a section, paragraph by paragraph.

    >>> pruned("It is \\bq{a}. It was \\bq{b}.", Known({"a": "1", "b": "--"}, (), ()))
    'It is \\bq{a}.'
    """
    if folder:
        text = INPUT.sub(lambda found: found[0] if _shows(folder, found[1]) else "", text)
    paragraphs = [_paragraph(each, known) for each in re.split(r"\n\s*\n", text)]
    kept = "\n\n".join(_with_text([each for each in paragraphs if each.strip()]))
    return kept.rstrip("\n") + text[len(text.rstrip("\n")) :]


def _shows(folder: Path, name: str) -> bool:
    """Return whether a file that is read shows something: a table or figure without data has no label."""
    path = folder / f"{name.removesuffix('.tex')}.tex"
    return path.parent.name not in KINDS or not path.exists() or bool(LABEL.search(path.read_text()))


def _paragraph(text: str, known: Known) -> str:
    text = _conditions(text, known)
    title = TITLE.match(text)
    head = title[0] if title else ""
    kept = [each for each in sentences(text[len(head) :]) if known.bears(each)]
    body = "".join(kept)
    return head + body.rstrip() + ("\n" if text.endswith("\n") else "") if body.strip() else ""


def _conditions(text: str, known: Known) -> str:
    """Replace each conditional part by its text, itself pruned, or by nothing."""
    found = CONDITION.search(text)
    if found is None:
        return text
    end = _closing(text, found.end())
    inner = text[found.end() : end]
    kept = _inside(inner, known) if known.meets(found[1], found[2]) else ""
    return text[: found.start()] + kept + _conditions(text[end + 1 :], known)


def _inside(text: str, known: Known) -> str:
    return "".join(each for each in sentences(_conditions(text, known)) if known.bears(each))


def _closing(text: str, start: int) -> int:
    """Find the brace that closes the one before `start`."""
    depth = 1
    for found in CURLY.finditer(text, start):
        depth += OPENED[found[0]]
        if not depth:
            return found.start()
    where = text[max(start - 40, 0) : start + 40]
    raise DataError(f"the text {where!r} opens a brace that nothing closes; give its closing brace.")


def sentences(text: str) -> list[str]:
    r"""Split a text into sentences, each with the space behind it; braces and environments stay whole.

    >>> sentences("One. \\emph{Two. Three} and. Four.")
    ['One. ', '\\emph{Two. Three} and. ', 'Four.']
    """
    found, start = [], 0
    for end in END.finditer(text):
        if _depth(text[start : end.start()]) == 0:
            found.append(text[start : end.end()])
            start = end.end()
    return [*found, text[start:]]


def _depth(text: str) -> int:
    """Count the braces and environments that a text leaves open."""
    return sum(OPENED[found[0]] for found in BRACE.finditer(text))


def _with_text(paragraphs: list[str]) -> Iterator[str]:
    """Drop headings that nothing follows."""
    for place, text in enumerate(paragraphs):
        heading = HEADING.match(text)
        follower = HEADING.match(paragraphs[place + 1]) if place + 1 < len(paragraphs) else None
        last = place + 1 == len(paragraphs)
        if heading and heading[1] != LEVELS[0] and (last or (follower and _not_below(follower[1], heading[1]))):
            continue
        yield text


def _not_below(level: str, other: str) -> bool:
    return LEVELS.index(level) <= LEVELS.index(other)
