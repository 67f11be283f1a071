"""List verdicts for people: a line a claim with its limit, our number, n, the weakest place and what it would take."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from textwrap import fill, indent

from bitq.stats.claims import ALL_ARMS, OURS, TWO_SEEDS, claims, needs
from bitq.stats.judge import Verdict, limits, number, sentence, wanting
from bitq.stats.published import published
from bitq.terminal import UNLIMITED, table, width_of_terminal

Row = tuple[str, ...]
HEAD: Row = ("verdict", "claim", "limit", "published", "ours", "n", "weakest place", "why")
PUBLISHED_SCALE = "full"


def listing(found: Mapping[str, Sequence[Verdict]], scales: Collection[str]) -> str:
    """Format verdicts by work, then the checks of the grid, then the counts; `scales` are those that were asked for."""
    works = dict.fromkeys(each.work for each in sorted(found["verdicts"], key=lambda each: each.work == OURS))
    blocks = [
        _block(_title(work), [_row(each, scales) for each in found["verdicts"] if each.work == work]) for work in works
    ]
    checks = [_row(each, scales) for each in found["checks"]]
    blocks.append(_block("Checks of the grid, true or false by construction, not counted", checks))
    counts = Counter(_word(each, scales) for each in found["verdicts"])
    total = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return "\n\n".join([*filter(None, blocks), f"{len(found['verdicts'])} claims: {total}"])


def _title(work: str) -> str:
    known = published().works
    return "This work" if work == OURS or work not in known else known[work].title


def _block(title: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    wide = table(HEAD, rows, left=len(HEAD), width=UNLIMITED)
    columns = width_of_terminal() - 2
    fits = all(len(line) <= columns for line in wide.splitlines())
    return f"{title}\n{indent(wide if fits else _paragraphs(rows, columns), '  ')}"


def _paragraphs(rows: list[Row], columns: int) -> str:
    """Write a paragraph a claim, where a table would be too wide for the terminal."""
    margin = max(len(verdict) for verdict, *_ in rows) + 2
    return "\n".join(_paragraph(row, margin, columns) for row in rows)


def _paragraph(row: Row, margin: int, columns: int) -> str:
    verdict, claim, *rest = row
    said = "; ".join(f"{title} {text}" for title, text in zip(HEAD[2:], rest, strict=True) if text)
    below = " " * margin
    return f"{verdict:<{margin}}{claim}\n{fill(said, columns, initial_indent=below, subsequent_indent=below)}"


def _row(of: Verdict, scales: Collection[str]) -> Row:
    word = _word(of, scales)
    stated = ", ".join(dict.fromkeys(_figure(value) for value in of.published.values() if value is not None))
    if of.weakest is None:
        return (word, of.id, _limits(of), _short(stated), "", "", "", _why(of, word))
    each = of.evidence[of.weakest]
    ours = "" if each.estimate is None else number(each.estimate)
    ours += f" [{number(each.interval[0])}, {number(each.interval[1])}]" if each.interval else ""
    place = "/".join(filter(None, (each.dataset, each.model)))
    same = sum(other.verdict == of.verdict for other in of.evidence)
    place += f" ({same} of {len(of.evidence)})" if len(of.evidence) > 1 else ""
    size = str(each.n) if each.column != "audited" else ""
    lost = f"{each.n_diverged} diverged" if each.n_diverged else ""
    ends = [wanting(of.needed) if of.needed else "", each.note, lost]
    return (word, of.id, limits(*each.limits), _short(stated), ours, size, place, "; ".join(filter(None, ends)))


def _limits(of: Verdict) -> str:
    """Format the limits of a claim that has no evidence yet; those of the first place, should they differ."""
    low, high = of.evidence[0].limits
    several = " (first place)" if len({each.limits for each in of.evidence}) > 1 else ""
    return "" if low is None and high is None else limits(low, high) + several


def _word(of: Verdict, scales: Collection[str]) -> str:
    """Return the verdict; without one, whether the runs are still to come or are none that could decide."""
    if of.verdict != "missing":
        return of.verdict
    off_protocol = _needs(of) != [ALL_ARMS] and PUBLISHED_SCALE not in scales
    return "not judged" if off_protocol else "not yet run"


def _why(of: Verdict, word: str) -> str:
    if word == "not yet run":
        return next((sentence(each) for each in of.evidence if each.verdict == "missing"), "")
    return f"needs {', '.join(_needs(of))}"


def _needs(of: Verdict) -> list[str]:
    if all(each.n for each in of.evidence):
        return [TWO_SEEDS]
    book = claims()
    claim = next((each for each in (*book.claims, *book.checks) if each.id == of.id), None)
    return needs(claim) if claim else [ALL_ARMS]


def _figure(value: object) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip(', ')}…"
