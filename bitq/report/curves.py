"""Draw the learning curves of one run as a PNG."""

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bitq.io import write_atomic
from bitq.results.folder import Finished
from bitq.results.schema import History

SIZE = (7.0, 2.8)  # inches
DPI = 150
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def write_curves(run: Finished, path: Path) -> None:
    """Draw loss and accuracy over the epochs of a finished run."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=SIZE, layout="constrained")
        canvas.suptitle(run.config.id, fontsize=9)
        loss, accuracy = canvas.subplots(1, 2)
        history = run.history
        _draw(loss, "loss", {"training": history.train_loss, "test": history.test_loss})
        _draw(accuracy, "accuracy, %", _accuracies(history))
        if run.results.packed:
            accuracy.axhline(run.results.packed.accuracy, color="0.6", linewidth=0.8, zorder=0)
            accuracy.plot([], [], color="0.6", linewidth=0.8, label="packed file")
        accuracy.legend(loc="lower right")
        image = io.BytesIO()
        canvas.savefig(image, format="png", dpi=DPI)
    write_atomic(path, image.getvalue())


def _accuracies(history: History) -> dict[str, tuple[float, ...]]:
    series = {"training": history.train_accuracy, "test": history.test_accuracy}
    return series | ({"held out": history.validation_accuracy} if history.validation_accuracy else {})


def _draw(axes: matplotlib.axes.Axes, label: str, series: dict[str, tuple[float, ...]]) -> None:
    for (name, values), marker in zip(series.items(), "os^", strict=False):
        axes.plot(range(1, len(values) + 1), values, marker=marker, markersize=3, linewidth=1, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
