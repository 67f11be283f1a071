"""Draw four plots of one trained network, from its packed file and the records beside it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bitq.grid.oneoff import STUDY
from bitq.io import write_atomic
from bitq.report import draw, names
from bitq.report.figures import pdf, png
from bitq.report.style import RC, WIDTH
from bitq.results.folder import MODEL, Finished, read
from bitq.run import Run

HEIGHT = 2.6  # inches
MOST_ARMS = len(draw.MARKS)
NEEDED = ("history.json", "results.json", "config.json", "env.json")


Plot = Callable[[Figure], None]
Label = Callable[[str], str]
Histograms = Mapping[str, draw.Histogram]


def write_plots(
    file: Path, out: Path, histograms: Histograms, label: Label = names.arm
) -> tuple[list[Path], list[str]]:
    """Write the plots that a file allows into `out`, as PDF and PNG; return their paths, and why one is left out.

    `histograms` are the signs of the codes' values and how many weights have each, by layer; a float network has none.
    `label` names an arm in print.
    """
    written, left_out = [], []
    for name, plot in plots_of(file, histograms, label).items():
        if isinstance(plot, str):
            left_out.append(f"no {name}: {plot}")
            continue
        with matplotlib.rc_context(RC):
            canvas = Figure(figsize=(WIDTH, HEIGHT))
            plot(canvas)
            for ending, render in (("pdf", pdf), ("png", png)):
                written.append(out / f"{name}.{ending}")
                write_atomic(written[-1], render(canvas))
    return written, left_out


def _wanting(file: Path) -> str:
    """Say what keeps a file from being that of a run with its records; empty where nothing does."""
    if file.name != MODEL:
        return f"these are of {MODEL} alone; give the file under that name"
    missing = [name for name in NEEDED if not (file.parent / name).exists()]
    return f"no {missing[0]} lies beside {file}" if missing else ""


def plots_of(file: Path, histograms: Histograms, label: Label = names.arm) -> dict[str, Plot | str]:
    """Return the drawing function of each plot, or the reason why it cannot be drawn."""
    wanting = _wanting(file)
    run = None if wanting else read(file.parent)
    floats = "" if histograms else "a float network ships no codes"
    drawn: dict[str, Plot | str] = {
        "level_distribution": floats or partial(codes, histograms, _title(run, label) if run else file.name)
    }
    if run is None:
        rest = ("accuracy_comparison", "training_curve", "sparsity_schedule")
        return drawn | dict.fromkeys(rest, f"it needs the records of a run, and {wanting}")
    untrained = "" if run.history.test_accuracy else "it was trained for no epoch"
    return drawn | {
        "accuracy_comparison": partial(accuracy, run, label),
        "training_curve": untrained or partial(training, run, label),
        "sparsity_schedule": floats or untrained or partial(zeros, run, label),
    }


def comparable(one: Run, other: Run) -> bool:
    """Return whether two runs saw the same images at the same width and, without a study, trained equally long."""
    lengths = {run.recipe.epochs for run in (one, other)} - {0}
    return one.data == other.data and one.width == other.width and (one.study != STUDY or len(lengths) < 2)


def accuracy(run: Finished, label: Label, figure: Figure) -> None:
    """Draw the packed file, and the other arms of its data set, network and seed that were trained beside it."""
    axes = figure.subplots()
    folders = run.folder.parent.parent.glob(f"*/{run.folder.name}")
    others = [read(folder) for folder in sorted(folders) if (folder / "results.json").exists()]
    others = [other for other in others if comparable(run.config, other.config)]
    first = [run, *(other for other in others if other.config.arm == "fp32"), *others]
    scores = {label(each.config.arm).replace(", ", "\n"): each.results.accuracy for each in first}
    shown = list(scores.items())[:MOST_ARMS]
    draw.dots(axes, {label: [score] for label, score in shown if score is not None})
    axes.set_ylabel(draw.PERCENT)
    axes.set_title(_title(run, label))


def training(run: Finished, label: Label, figure: Figure) -> None:
    """Draw accuracy over the epochs."""
    axes = figure.subplots()
    draw.curves(axes, draw.accuracies(run.history))
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.set_title(_title(run, label))
    axes.legend(loc="lower right")


def zeros(run: Finished, label: Label, figure: Figure) -> None:
    """Draw the share of zeros among the weights that ship as codes."""
    axes = figure.subplots()
    draw.curves(axes, {"zeros": [100 * share for share in run.history.zeros]}, draw.MARKS[1:])
    axes.set_ylim(0, 1.15 * max(axes.get_ylim()[1], 1))  # the marks are wider than the curve
    axes.set_ylabel("zero weights, %")
    axes.set_title(_title(run, label))


def codes(histograms: Histograms, title: str, figure: Figure) -> None:
    """Draw the shares of the codes of each layer in the file."""
    figure.set_figheight(1.0 + 0.3 * len(histograms))
    axes = figure.subplots()
    draw.codes(axes, histograms)
    draw.code_legend(figure)
    axes.set_title(title)


def _title(run: Finished, label: Label) -> str:
    return f"{label(run.config.arm)} on {names.dataset(run.config.data.dataset)}, seed {run.config.seed}"
