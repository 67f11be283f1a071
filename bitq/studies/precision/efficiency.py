"""Print what the packed file of every method costs to run on one machine: no number of it is claimed."""

from collections.abc import Callable, Iterator
from typing import Any

from matplotlib.figure import Figure as Canvas

from bitq.io import read_json
from bitq.paths import measured_dir
from bitq.report import draw, names
from bitq.report.columns import Column
from bitq.report.figures import Figure
from bitq.report.query import Query
from bitq.report.table import Table
from bitq.report.tex import number, whole

FILE = "efficiency.json"  # python -m bitq.verbs.remeasure efficiency writes it
NETWORKS = ("vgg11", "resnet18")
Row = dict[str, Any]


def measured(query: Query) -> list[Row]:
    """List the methods with the measurements of their files, by network; nothing where not all were measured."""
    path = measured_dir() / FILE
    record = read_json(path) if path.exists() else {"rows": []}
    found: dict[tuple[str, str], Row] = {}
    for row in record["rows"]:
        key = row["method"], row["activations"]
        found.setdefault(key, {"engines": [], "machine": record["machine"], "versions": record["versions"]})
        found[key][row["model"]] = row
        found[key]["engines"].append(row["engine"])
    done = [row | {"label": label(*key)} for key, row in found.items() if all(name in row for name in NETWORKS)]
    return [query.track(row) for row in done]


def label(method: str, activations: str) -> str:
    """Name a method in print, with static activations where they are not its own."""
    return names.arm(method) + (", static activations" if activations == "static" else "")


def engine(row: Row) -> str:
    """Say how files were run; both networks' alike."""
    return ", ".join(sorted(set(row["engines"])))


def _of(name: str, key: str, form: Callable[[float], object]) -> Callable[[Row, object], object]:
    def cell(row: Row, _: object) -> object:
        value = row[name][key]
        return whole(None) if value is None else form(value)

    return cell


def _columns(name: str) -> Iterator[Column]:
    over = names.model(name)
    yield Column("kB", _of(name, "file_bytes", lambda value: whole(value / 1000)), over=over)
    yield Column("ms", _of(name, "latency_ms", lambda value: number(value, 1)), over=over)
    yield Column("images/s", _of(name, "images_per_second", whole), over=over)
    yield Column("MiB", _of(name, "peak_bytes", lambda value: whole(value / 2**20)), over=over)


TABLE = Table(
    "efficiency_measured",
    measured,
    (
        Column("Weights", lambda row, _: row["label"], "l"),
        Column("run", lambda row, _: engine(row), "l"),
        *(column for name in NETWORKS for column in _columns(name)),
    ),
    "What a packed file costs to run, of networks at their published width on images of $32\\times32$: kilobytes of "
    "the file, milliseconds of one image, images per second of a batch of 32, and peak memory above that of the "
    "libraries; CPU time of the fastest pass on one thread, all on one machine"
    "<% if rows %> (<< rows[0]['machine'] >>)<% endif %>. Files run in integers (fast), with weights decoded once to "
    "floating point (decoded), or as they were loaded, where a layer normalises or rounds its input in floating point.",
    size=r"\scriptsize",
    breaks=True,
)


def pace_against_bytes(query: Query, figure: Canvas) -> None:
    """Draw images per second over the bytes of the file, a mark for each way in which files are run."""
    rows = measured(query)
    if not rows:
        return
    panels = figure.subplots(1, len(NETWORKS))
    for axes, name in zip(panels, NETWORKS, strict=True):
        for way, mark in zip(sorted({each for row in rows for each in row["engines"]}), draw.MARKS, strict=False):
            points = [row[name] for row in rows if row[name]["engine"] == way]
            sizes = [point["file_bytes"] / 1000 for point in points]
            axes.plot(sizes, [point["images_per_second"] for point in points], mark.marker, color=mark.color, label=way)
        draw.log_scale(axes)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, None)
        axes.set_xlabel("kB on disk")
        axes.set_title(names.model(name))
    panels[0].set_ylabel("images/s")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


FIGURE = Figure(
    "efficiency",
    pace_against_bytes,
    2.3,
    "Images per second of a batch of 32 on one thread over the bytes of the file, a mark for each row of "
    "Table~\\ref{tab:efficiency_measured}, by the way in which the file is run.",
)
