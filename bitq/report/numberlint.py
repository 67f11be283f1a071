"""Find typed numbers that the pipeline computes: they would stay when the results change."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from bitq.errors import UsageError
from bitq.grid.study import studies
from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.report import names
from bitq.report.numbers import Numbers
from bitq.report.printed import Printed
from bitq.report.values import Number

EXCEPTIONS = "typed-numbers.yaml"
TEMPLATES = Path(__file__).with_name("templates")
TEXTS = ("README.md", "paper/*.tex", "paper/sections/*.tex")
SHOWN = 3  # keys that a message suggests

DIGITS = r"(?<![\w.])\d+(?:\.\d+)?(?![\w]|\.\d)"
# The first end of a range is a percentage too: 30--74 %.
PERCENTAGE = re.compile(rf"(?:({DIGITS})\s*(?:--|–|-|to|and)\s*)?({DIGITS})\$?(?:\s|~|\\,)*\\?%")
DECIMAL = re.compile(r"(?<![\w.])(\d+\.\d+)(?![\w]|\.\d)")
KEY = re.compile(r"\\(bq|pub|verdict|whenknown)\{([^{}]*)\}")

WORD = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|"
    "nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million"
)
# What the grid, the results and the records can be asked for; levels, bits and points define a method instead.
COUNTED = (
    r"runs|seeds|claims|accuracies|arms|studies|works|data sets|sets|phases|verdicts|contrasts|checks|pages|teachers|"
    r"hours|tables|figures|networks|test images|commands|times"
)
COUNT = re.compile(rf"\b(?:{WORD})(?:[- ](?:{WORD}))*\s+(?:[a-z-]+\s+){{0,2}}?(?:{COUNTED})\b", re.I)
SHARE = re.compile(
    rf"\b(?:a|one|{WORD}) (?:third|quarter|fifth|tenth|twentieth)s?\b(?! of a )|\bhalf of\b|\bone in (?:{WORD})\b|"
    r"\bthree in four\b",
    re.I,
)

TEX_COMMENT = re.compile(r"(?<!\\)%.*")
# No prose: labels, files, addresses, lengths.
TEX_NAMES = re.compile(
    r"\\(?:bq|pub|verdict|when\w+|label|\w*ref|cite\w*|input|includegraphics|url|href|setlength|[hv]space\*?)"
    r"(?:\[[^\]]*\])*\{[^{}]*\}"
)
TEX_LENGTH = re.compile(r"\d*\.?\d+\s*(?:\\(?:text|line|column)width|(?:em|ex|pt|mm|cm)\b)")
# Neither is code, nor what a program writes between its marks.
MARKDOWN_CODE = re.compile(r"<!-- results -->.*?<!-- end of results -->|```.*?```|`[^`]*`", re.S)


class Allowed(Frozen):
    """A number that may be typed in a text although the pipeline computes an equal one."""

    file: str  # glob
    number: str  # as messages print it: 1.58, or 95 %
    why: str


class Exceptions(Frozen):
    """The contents of config/typed-numbers.yaml."""

    allowed: tuple[Allowed, ...]


@dataclass(frozen=True)
class Typed:
    """A number in a text."""

    line: int
    digits: str
    percent: bool

    def __str__(self) -> str:
        return f"{self.digits} %" if self.percent else self.digits


class Computed:
    """The numbers that the pipeline computes, searched by their printed form."""

    def __init__(self, numbers: Iterable[Number]) -> None:
        self.numbers = tuple(numbers)
        self.keys = frozenset(number.key for number in self.numbers)
        self._printed: dict[tuple[int, bool], dict[str, list[str]]] = {}

    def knows(self, key: str) -> bool:
        """Return whether a key exists, at any data set where it names all of them."""
        return any(key.replace(".*.", f".{dataset}.") in self.keys for dataset in names.DATASETS)

    def like(self, typed: Typed) -> list[str]:
        """Find the keys whose value, rounded like the typed number, equals it up to sign."""
        decimals = len(typed.digits.partition(".")[2])
        kind = decimals, typed.percent
        if kind not in self._printed:
            self._printed[kind] = self._print(*kind)
        return self._printed[kind].get(f"{float(typed.digits):.{decimals}f}", [])

    def _print(self, decimals: int, percent: bool) -> dict[str, list[str]]:
        """Group keys by printed value; a percentage is compared with percentages, a decimal with everything."""
        printed: dict[str, list[str]] = defaultdict(list)
        for number in self.numbers:
            for value in number.values if number.percent or not percent else ():
                printed[f"{abs(value):.{decimals}f}"].append(number.key)
        return printed


def check_numbers(root: Path, numbers: Numbers) -> None:
    """Raise, with the list, if a text below `root` types what the pipeline computes or names what it does not."""
    allowed = read_yaml(Exceptions, config_dir() / EXCEPTIONS).allowed
    there = set(numbers.sources.all_runs["study"])
    unread = {f"{kind}-{study}.tex" for kind in ("study", "result") for study in studies() if study not in there}
    if found := list(problems(root, Computed(numbers), allowed, unread)):
        raise UsageError("\n".join(found))


def asked(root: Path, printed: Iterable[Printed]) -> set[str]:
    """Collect the keys that the texts below `root`, the templates of tables and the captions ask for."""
    files = [path for pattern in TEXTS for path in root.glob(pattern)] + sorted(TEMPLATES.rglob("*.j2"))
    captions = [each.caption for of in printed for each in (*of.tables, *of.figures)]
    texts = [*(path.read_text(encoding="utf-8") for path in files), *captions]
    return {key for text in texts for _, key in keys(text)}


def problems(root: Path, computed: Computed, allowed: Iterable[Allowed], unread: Collection[str] = ()) -> Iterator[str]:
    """Yield one sentence for each number that should be a key, each unknown key, and each unused exception.

    `unread` are the sections of studies without results, which the paper does not read and whose keys do not exist.
    """
    unused = {each for each in allowed if Path(each.file).name not in unread}
    for path in sorted(path for pattern in TEXTS for path in root.glob(pattern)):
        if path.name in unread:
            continue
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        for line, key in keys(text):
            if not computed.knows(key):
                yield f"{name}:{line}: there is no number {key!r}; {_nearest(key, computed)}."
        for count in counts(text, markdown=path.suffix == ".md"):
            fitting = {each for each in allowed if fnmatch(name, each.file) and each.number == count.digits}
            unused -= fitting
            if not fitting:
                yield f"{name}:{count.line}: {count.digits!r} is typed in words; {REMEDY}."
        for typed in typed_numbers(text, markdown=path.suffix == ".md"):
            fitting = {each for each in allowed if fnmatch(name, each.file) and each.number == str(typed)}
            unused -= fitting
            if not fitting and (like := computed.like(typed)):
                yield f"{name}:{typed.line}: {typed} is typed, and computed as {_some(like)}; {REMEDY}."
    for each in sorted(unused, key=str):
        yield f"config/{EXCEPTIONS}: {each.number} is no longer typed in {each.file}; delete the exception."


REMEDY = rf"write \bq{{key}}, or list it in config/{EXCEPTIONS} with the reason"


def _some(like: list[str]) -> str:
    more = f" and {len(like) - SHOWN} more" if len(like) > SHOWN else ""
    return ", ".join(like[:SHOWN]) + more


def _nearest(key: str, computed: Computed) -> str:
    near = get_close_matches(key, computed.keys, n=SHOWN)
    return f"did you mean {', '.join(near)}?" if near else "numbers.md lists the keys"


def keys(text: str) -> Iterator[tuple[int, str]]:
    """Yield the keys that a LaTeX text asks for, with their lines."""
    prefix = {"bq": "", "pub": "pub.", "verdict": "verdict.", "whenknown": ""}
    for found in KEY.finditer(_blank(text, TEX_COMMENT)):
        if "#" not in found[2]:  # a parameter of a macro is no key
            yield _line(text, found.start()), prefix[found[1]] + " ".join(found[2].split())


def typed_numbers(text: str, markdown: bool = False) -> list[Typed]:
    """Find every percentage, and every decimal of three or more significant digits, in the prose of a text."""
    for pattern in (MARKDOWN_CODE,) if markdown else (TEX_COMMENT, TEX_NAMES, TEX_LENGTH):
        text = _blank(text, pattern)
    found = {
        found.start(group): Typed(_line(text, found.start(group)), found[group], percent=True)
        for found in PERCENTAGE.finditer(text)
        for group in (1, 2)
        if found[group]
    }
    for each in DECIMAL.finditer(text):
        if len(each[1].replace(".", "").lstrip("0")) >= 3:
            found.setdefault(each.start(1), Typed(_line(text, each.start(1)), each[1], percent=False))
    return [found[start] for start in sorted(found)]


def counts(text: str, markdown: bool = False) -> list[Typed]:
    """Find counts and shares in words, such as eight accuracies, six times or a third."""
    for pattern in (MARKDOWN_CODE,) if markdown else (TEX_COMMENT, TEX_NAMES):
        text = _blank(text, pattern)
    found = {match.start(): match for kind in (COUNT, SHARE) for match in kind.finditer(text)}
    return [
        Typed(_line(text, start), " ".join(match[0].lower().split()), percent=False)
        for start, match in sorted(found.items())
    ]


def _blank(text: str, pattern: re.Pattern[str]) -> str:
    """Replace what matches by spaces, keeping everything else in its place."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
