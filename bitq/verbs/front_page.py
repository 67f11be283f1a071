"""Write what the README shows of the results: one figure, one table, the verdicts in one line.

python -m bitq.verbs.front_page          writes both
python -m bitq.verbs.front_page --check  writes neither, and fails if they are not what the results say
"""

import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bitq.grid.paper import config, paper_runs
from bitq.grid.study import study
from bitq.io import write_atomic
from bitq.paths import CHECKOUT
from bitq.report import draw, names
from bitq.results.folder import Finished
from bitq.results.listing import finished_below
from bitq.stats import judge
from bitq.studies.catalogue import printed
from bitq.verbs.claims import collected

README, FIGURE = CHECKOUT / "README.md", CHECKOUT / "docs" / "headline.svg"
START, END = "<!-- results -->\n", "<!-- end of results -->\n"
# One network of each study, with its headline arms.
PLACES = (
    ("bitnet", "cifar10", "resnet18"),
    ("ring", "cifar10", "resnet20"),
    ("precision", "cifar100", "vgg11"),
    ("atq", "fashion_mnist", "atq_cnn"),
)
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",  # letters stay letters, so the file does not depend on a font's outlines
    "svg.hashsalt": "bitq",
}


@dataclass(frozen=True)
class Row:
    """An arm in one network: the accuracies of its packed files, their mean size, and how much smaller than fp32."""

    label: str
    accuracies: tuple[float, ...]
    file_bytes: float
    compression: float


def rows_of(found: Sequence[Finished], study_name: str, dataset: str, model: str) -> list[Row]:
    """Collect the headline arms that are finished in one network, in the study's order."""
    arms: dict[str, list[Finished]] = {arm: [] for arm in study(study_name).headline.get(model, ())}
    for run in found:
        here = (run.config.study, run.config.data.dataset, run.config.model) == (study_name, dataset, model)
        if here and run.config.arm in arms and run.results.packed:
            arms[run.config.arm].append(run)
    label = next((each.label for each in printed() if each.study == study_name), names.arm)
    return [_row(label(arm), runs) for arm, runs in arms.items() if runs]


def _row(label: str, runs: Sequence[Finished]) -> Row:
    packed = [run.results.packed for run in runs if run.results.packed]
    return Row(
        label,
        tuple(each.accuracy for each in packed),
        mean(each.file_bytes for each in packed),
        mean(each.compression for each in packed),
    )


def table(places: Sequence[tuple[str, list[Row]]]) -> str:
    """Lay the rows of every network out as Markdown."""
    lines = ["| network, images | weights | accuracy, % | n | file, kB | smaller |", "|---|---|--:|--:|--:|--:|"]
    for title, rows in places:
        lines += [_line(title, row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(title: str, row: Row) -> str:
    accuracy, size = f"{mean(row.accuracies):.2f}", f"{row.file_bytes / 1e3:,.0f}"
    return f"| {title} | {row.label} | {accuracy} | {len(row.accuracies)} | {size} | {row.compression:.1f}× |"


def drawing(places: Sequence[tuple[str, list[Row]]]) -> bytes:
    """Draw accuracy against the bytes of the file, a panel for each network and a mark for each seed."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(9.6, 2.9 * -(-len(places) // 2)), layout="constrained")
        panels = list(canvas.subplots(-(-len(places) // 2), 2, squeeze=False).flat)
        for axes, (title, rows) in zip(panels, places, strict=False):
            _panel(axes, title, rows)
        for axes in panels[len(places) :]:
            axes.set_visible(False)
        image = io.BytesIO()
        canvas.savefig(image, format="svg", metadata={"Date": None})
    return image.getvalue()


def _panel(axes: Axes, title: str, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):  # marks come again, hollow, where there are more arms
        mark, fill = draw.MARKS[place % len(draw.MARKS)], "full" if place < len(draw.MARKS) else "none"
        at = [row.file_bytes / 1e3] * len(row.accuracies)
        axes.plot(at, row.accuracies, mark.marker, color=mark.color, markersize=4, fillstyle=fill, label=row.label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("file, kB")
    axes.set_ylabel("accuracy of the packed file, %")
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def verdicts(results: Path) -> str:
    """Count the verdicts on the published claims in one sentence."""
    with TemporaryDirectory() as folder:
        found = judge.verdicts(collected(paper_runs(), results, Path(folder)))["verdicts"]
    counts = Counter(names.verdict(each.verdict) for each in found)
    return f"Verdicts on {len(found)} claims: {', '.join(f'{word} {counts[word]}' for word in sorted(counts))}.\n"


def front_page(results: Path) -> tuple[str, bytes]:
    """Return the README with its table, and the figure."""
    places, scales = [], config().studies
    found = {scale: finished_below(results / scale)[0] for scale in set(scales.values())}
    for study_name, dataset, model in PLACES:
        if rows := rows_of(found[scales[study_name]], study_name, dataset, model):
            places.append((f"{names.model(model)}, {names.dataset(dataset)}", rows))
    text = README.read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + table(places) + "\n" + verdicts(results) + END + after, drawing(places)


def main(*options: str) -> None:
    """Write README and figure, or check them."""
    text, figure = front_page(CHECKOUT / "results")
    if options != ("--check",):
        write_atomic(README, text.encode())
        write_atomic(FIGURE, figure)
    elif (README.read_text("utf-8"), FIGURE.read_bytes()) != (text, figure):
        sys.exit("README.md or docs/headline.svg is not what the results say; run python -m bitq.verbs.front_page.")


if __name__ == "__main__":
    main(*sys.argv[1:])
