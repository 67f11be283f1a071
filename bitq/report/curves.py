"""Draw the learning curves of one run as a PNG."""

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bitq.io import write_atomic
from bitq.report import draw
from bitq.results.folder import Finished

SIZE = (7.0, 2.8)  # inches
DPI = 150
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def write_curves(run: Finished, path: Path) -> None:
    """Draw loss and accuracy over the epochs of a finished run that was trained."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=SIZE, layout="constrained")
        canvas.suptitle(run.config.id, fontsize=9)
        loss, accuracy = canvas.subplots(1, 2)
        history = run.history
        draw.curves(loss, {"training": history.train_loss, "test": history.test_loss})
        loss.set_ylabel("loss")
        draw.curves(accuracy, draw.accuracies(history))
        accuracy.set_ylabel("accuracy, %")
        if run.results.packed:
            accuracy.axhline(run.results.packed.accuracy, color="0.6", linewidth=0.8, zorder=0)
            accuracy.plot([], [], color="0.6", linewidth=0.8, label="packed file")
        accuracy.legend(loc="lower right")
        image = io.BytesIO()
        canvas.savefig(image, format="png", dpi=DPI)
    write_atomic(path, image.getvalue())
