"""Show all studies together: accuracy against bytes, the claims on one axis, and what each study runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from bitq.report import names
from bitq.report.claimed import of_grid
from bitq.report.columns import Line
from bitq.report.draw import MARKS, PERCENT, log_scale
from bitq.report.query import Query
from bitq.report.sources import Record
from bitq.report.style import BLACK, BLUE, VERMILLION, Mark
from bitq.stats.claims import claims as read_claims
from bitq.stats.published import published

COLUMNS = 3  # panels side by side
GREY = Mark("0.45", "o")
COLOURS = {"holds": BLUE, "fails": VERMILLION, "undecided": "0.45"}
# Families of methods that share a colour, in the order of the legend; every other method is grey.
FAMILIES = ("fp32", "bitnet", "ttq", "ring", "atq", "lsq", "int")


@dataclass(frozen=True)
class Point:
    """One arm: size and accuracy of its packed files, averaged over seeds, and the accuracy of every seed."""

    line: Line
    size: float  # bytes
    height: float
    seeds: tuple[float, ...]
    method: str
    factor: float  # how many times smaller than the same network in fp32


def points(query: Query) -> Iterator[Point]:
    """Yield every arm of every study that has a packed file."""
    for of in query.each():
        for dataset, model, arm in of.sources.arms:
            line = Line(of, dataset, model, arm)
            runs = line.runs
            size, height = line.mean("file_bytes"), line.mean("accuracy")
            if runs is not None and size is not None and height is not None:
                method = str(runs.rows["method"].iloc[0])
                factor = line.mean("compression") or 1.0
                yield Point(line, size, height, tuple(runs.by_seed().values()), method, factor)


def pareto(found: Sequence[Point]) -> list[Point]:
    """Keep the points that no smaller or equally large one reaches, from small to large."""
    front: list[Point] = []
    for point in sorted(found, key=lambda each: (each.size, -each.height)):
        if not front or point.height > front[-1].height:
            front.append(point)
    return front


def fronts(query: Query) -> list[Line]:
    """List, at every data set, the arms that no smaller file reaches."""
    return [
        Line(each.line.query, dataset, each.line.model, each.line.arm, group=names.dataset(dataset))
        for dataset, found in _by_dataset(query).items()
        for each in pareto(found)
    ]


def _by_dataset(query: Query) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points(query):
        found.setdefault(point.line.dataset, []).append(point)
    return {name: found[name] for name in names.DATASETS if name in found}


def accuracy_per_byte(query: Query, figure: Canvas) -> None:
    """Draw every arm of every study by the size of its file, a panel for each data set."""
    found = _by_dataset(query)
    rows = -(-max(len(found), 1) // COLUMNS)
    figure.set_figheight(0.5 + 2.0 * rows)
    panels = list(figure.subplots(rows, min(COLUMNS, max(len(found), 1)), squeeze=False).flat)
    marks = dict(zip(FAMILIES, MARKS, strict=True))
    for axes, (dataset, there) in zip(panels, found.items(), strict=False):
        axes.set_title(names.dataset(dataset))
        for point in there:
            _point(axes, point, marks.get(family(point.method), GREY))
        front = pareto(there)
        axes.step([each.size / 1024 for each in front], [each.height for each in front], where="post", c="0.6", lw=0.7)
        for point, size in claimed(there):
            _arrow(axes, point, size)
        log_scale(axes, base=10)
        if axes.get_xscale() == "log":
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("KiB on disk")
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    if figure.axes:
        figure.axes[0].set_ylabel(PERCENT)
    drawn = {family(point.method) for of_dataset in found.values() for point in of_dataset}
    handles = [_handle(names.METHODS.get(name, "INT"), mark) for name, mark in marks.items() if name in drawn]
    handles += [_handle("other", GREY), _handle("size by the published factor", Mark(BLACK, "D"))]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)


def family(method: str) -> str:
    """Return the family whose colour a method has.

    >>> family("ring_legacy"), family("int4"), family("twn")
    ('ring', 'int', 'twn')
    """
    return method.removesuffix("_legacy").rstrip("0123456789") if method != "fp32" else method


def _handle(label: str, mark: Mark) -> Line2D:
    return Line2D([], [], color=mark.color, marker=mark.marker, ls="none", ms=4, mfc="none", label=label)


def _point(axes: Axes, point: Point, mark: Mark) -> None:
    axes.plot([point.size / 1024] * len(point.seeds), point.seeds, ".", color=mark.color, ms=1.6, mew=0, alpha=0.6)
    axes.plot([point.size / 1024], [point.height], mark.marker, color=mark.color, ms=3.6, mfc="none", mew=0.8)


def claimed(found: Sequence[Point]) -> Iterator[tuple[Point, float]]:
    """Yield the arms whose work publishes a factor of compression, with the size that this factor gives."""
    factors = _factors()
    for point in found:
        for (work, model, arm), factor in factors.items():
            line = point.line
            if (work, model) == (line.query.sources.study, line.model) and line.arm in _ours(line, arm):
                yield point, point.size * point.factor / factor


def _ours(line: Line, arm: str) -> set[str]:
    """Return our arms that stand beside a published one."""
    asked = line.query.sources.prints.asked.get(arm, (arm,))
    return {of_grid(line.query, line.dataset, line.model, each) for each in asked}


def _factors() -> Mapping[tuple[str, str, str], float]:
    """Collect the published factors of compression by work, network and arm, the first of each."""
    found: dict[tuple[str, str, str], float] = {}
    for figure in published().figures.values():
        if figure.quantity == "compression" and isinstance(figure.value, float | int) and figure.value > 1:
            found.setdefault((figure.work, figure.model, figure.arm), figure.value)
    return found


def _arrow(axes: Axes, point: Point, size: float) -> None:
    axes.plot([size / 1024], [point.height], "D", color=BLACK, ms=3.5, mfc="white", mew=0.8, zorder=6)
    end, start = (point.size / 1024, point.height), (size / 1024, point.height)
    style = {"arrowstyle": "->", "lw": 0.7, "shrinkA": 2, "shrinkB": 2}
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=6)


# --- claims -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A claim at its weakest place: the distance to its limit, positive on the side of the claim."""

    id: str
    verdict: str
    middle: float
    low: float
    high: float
    published: float | None  # the same quantity from the work's own figures


def judged(query: Query) -> list[Judged]:
    """List the claims that runs decide by an interval, in the order of their works."""
    book = {claim.id for claim in read_claims().claims}
    found = [query.track(each) for each in query.sources.claims["verdicts"] if each["id"] in book]
    return [each for record in found if (each := _judged(record))]


def _judged(record: Record) -> Judged | None:
    if record["weakest"] is None:
        return None
    evidence = record["evidence"][record["weakest"]]
    bounds, estimate = evidence["interval"], evidence["estimate"]
    low, high = evidence["limits"]
    if bounds is None or estimate is None or evidence["column"] != "accuracy":
        return None
    upper = low is None or (high is not None and abs(high - estimate) < abs(estimate - low))
    limit, sign = (high, -1.0) if upper else (low, 1.0)
    low, high = sorted(sign * (end - limit) for end in bounds)
    own = _own_figure(record, evidence)
    middle = sign * (estimate - limit)
    return Judged(record["id"], record["verdict"], middle, low, high, None if own is None else sign * (own - limit))


def _own_figure(record: Record, evidence: Record) -> float | None:
    """Return what the work's own figures give for a quantity at the same place."""
    same = ("quantity", "dataset", "model")
    figures = record["own"]["figures"] if record["own"] else ()
    return next((each["estimate"] for each in figures if all(each[key] == evidence[key] for key in same)), None)


def claim_map(query: Query, figure: Canvas) -> None:
    """Draw every claim on accuracy with its interval, as the distance to its limit."""
    found = judged(query)
    half = -(-len(found) // 2) or 1
    figure.set_figheight(0.8 + 0.145 * half)
    for axes, some in zip(figure.subplots(1, 2), (found[:half], found[half:]), strict=True):
        axes.axvspan(0, 1e4, color="0.94", zorder=0)
        axes.axvline(0, color=BLACK, lw=0.6)
        for row, each in enumerate(some):
            axes.plot([each.low, each.high], [row, row], color=COLOURS[each.verdict], lw=1.0)
            axes.plot([each.middle], [row], "o", color=COLOURS[each.verdict], ms=3)
            if each.published is not None:
                axes.plot([each.published], [row], "D", color=BLACK, mfc="white", ms=3.2, mew=0.7, zorder=3)
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        ends = [abs(end) for each in found for end in (each.low, each.high, each.published or 0)]
        axes.set_xlim(-1.3 * max(ends, default=1), 1.3 * max(ends, default=1))
        axes.set_yticks(range(len(some)), [each.id.replace("_", " ") for each in some], fontsize=7)
        axes.set_ylim(half - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("distance to the limit, points")
    handles = [_handle(names.verdict(verdict), Mark(colour, "o")) for verdict, colour in COLOURS.items()]
    handles.append(_handle("from the work's own figures", Mark(BLACK, "D")))
    figure.legend(handles=handles, loc="outside upper center", ncols=4)


# --- protocol ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """What one study runs at the scale that is shown."""

    query: Query
    study: str

    def values(self, column: str) -> str:
        """List what the runs have in a column of the table of runs, a range for numbers."""
        runs = self.runs
        found = list(dict.fromkeys(runs[column]))
        if all(isinstance(each, str) for each in found):
            shown = names.PRINTED.get(column, {})
            short = [names.short(shown.get(each, each)) for each in found]
            return ("; " if any(", " in each for each in short) else ", ").join(short)
        return f"{min(found)}" if min(found) == max(found) else f"{min(found)}–{max(found)}"

    @property
    def runs(self) -> Any:
        """Runs of this study alone, without its extension."""
        everything = self.query.everything()
        return everything[everything["study"] == self.study]

    @property
    def seeds(self) -> str:
        """Number of seeds of an arm, or its range."""
        counts = self.runs.groupby(["dataset", "model", "arm"])["seed"].nunique()
        return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"


def designs(query: Query) -> list[Design]:
    """List every study that has results."""
    found = [Design(of, part) for of in query.each() for part in of.sources.parts]
    return [design for design in found if len(design.runs)]


def hours(design: Design) -> float:
    """Compute the hours that the runs of a study took, added over processes."""
    return float(design.runs["wall_seconds"].sum()) / 3600
