"""Four plots of one trained network, from its packed file and the records that lie beside it."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bitq.errors import DataError
from bitq.io import write_atomic
from bitq.report import draw, names
from bitq.report.figures import pdf
from bitq.report.style import RC, WIDTH
from bitq.results.folder import MODEL, Finished, read

HEIGHT = 2.6  # inches
MOST_ARMS = len(draw.MARKS)
NEEDED = ("history.json", "results.json", "config.json", "env.json")


def write_plots(file: Path, out: Path) -> list[Path]:
    """Write what can be drawn of a file into `out`; a float network has neither zeros nor codes to show."""
    run = beside(file)
    plots: dict[str, Callable[[Finished, Figure], None]] = {"accuracy_comparison": accuracy, "training_curve": training}
    if run.history.zeros:
        plots |= {"sparsity_schedule": zeros, "ternary_distribution": codes}
    written = []
    for name, plot in plots.items():
        with matplotlib.rc_context(RC):
            canvas = Figure(figsize=(WIDTH, HEIGHT))
            plot(run, canvas)
            written.append(out / f"{name}.pdf")
            write_atomic(written[-1], pdf(canvas))
    return written


def beside(file: Path) -> Finished:
    """The run that a file is the result of."""
    missing = [name for name in NEEDED if not (file.parent / name).exists()]
    if missing or file.name != MODEL:
        lack = f"{missing[0]} is not beside it" if missing else f"it is not called {MODEL}"
        raise DataError(
            f"{file} cannot be plotted, {lack}; give the {MODEL} in the folder of a finished run, where its history is."
        )
    run = read(file.parent)
    if not run.history.test_accuracy:
        raise DataError(f"{file} was trained for no epoch, so it has no curves to plot; give the file it started from.")
    return run


def accuracy(run: Finished, figure: Figure) -> None:
    """The packed file, and the other arms of its data set, network and seed that were trained beside it."""
    axes = figure.subplots()
    folders = run.folder.parent.parent.glob(f"*/{run.folder.name}")
    others = [read(folder) for folder in sorted(folders) if (folder / "results.json").exists()]
    first = [run, *(other for other in others if other.config.arm == "fp32"), *others]
    scores = {names.arm(each.config.arm).replace(", ", "\n"): each.results.accuracy for each in first}
    shown = list(scores.items())[:MOST_ARMS]
    draw.dots(axes, {label: [score] for label, score in shown if score is not None})
    axes.set_ylabel(draw.PERCENT)
    axes.set_title(_title(run))


def training(run: Finished, figure: Figure) -> None:
    """Accuracy over the epochs."""
    axes = figure.subplots()
    series = {"training": run.history.train_accuracy, "test": run.history.test_accuracy}
    if run.history.validation_accuracy:
        series["held out"] = run.history.validation_accuracy
    draw.curves(axes, series)
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy, %")
    axes.set_title(_title(run))
    axes.legend(loc="lower right")


def zeros(run: Finished, figure: Figure) -> None:
    """The share of zeros among the weights that ship as codes."""
    axes = figure.subplots()
    draw.curves(axes, {"zeros": [100 * share for share in run.history.zeros]}, draw.MARKS[1:])
    axes.set_ylim(0, None)
    axes.set_ylabel("zero weights, %")
    axes.set_title(_title(run))


def codes(run: Finished, figure: Figure) -> None:
    """Which share of the weights of each layer has which code in the file."""
    assert run.results.packed is not None
    layers = run.results.packed.audit.layers
    figure.set_figheight(1.0 + 0.3 * len(layers))
    axes = figure.subplots()
    draw.codes(axes, {layer.name: layer.histogram for layer in layers})
    draw.code_legend(figure)
    axes.set_title(_title(run))


def _title(run: Finished) -> str:
    return f"{names.arm(run.config.arm)} on {names.dataset(run.config.data.dataset)}, seed {run.config.seed}"
