"""Print the study on BitNet and its extension: figures, numbers and the names of its arms; tables.py has the tables."""

from collections.abc import Iterator

from bitq.report.figures import Figure
from bitq.report.printed import Printed
from bitq.report.query import Query
from bitq.report.tex import number
from bitq.report.values import Number, measure
from bitq.results.costs import cost_of, counted
from bitq.studies.bitnet import figures
from bitq.studies.bitnet.places import MODELS
from bitq.studies.bitnet.tables import TABLES

PARTS = {
    "alpha01": "α = 0.1",
    "alpha03": "α = 0.3",
    "alpha05": "α = 0.5",
    "unit_one": "values from one",
}

POINTS = "Whiskers are 95\\,\\% $t$ intervals over seeds"
BEYOND = "; an arrow says that one reaches beyond 0 or 100\\,\\%."

FIGURES = (
    Figure(
        "accuracy",
        figures.accuracy,
        2.3,
        f"Accuracy of the packed file, last epoch. Small points are seeds, large ones their means. {POINTS}{BEYOND}",
    ),
    Figure(
        "arm_gaps",
        figures.arm_gaps,
        3.0,  # the drawing sets it by its rows
        "Every arm of the published grid minus the FP32 network of its data set and network, paired by seed; arms by "
        "their mean. The axis is linear within five points and logarithmic beyond. Full marks are ResNet-18, open ones "
        f"ResNet-50. {POINTS}.",
    ),
    Figure(
        "layer_recovery",
        figures.layer_recovery,
        2.2,
        "Points won by leaving one group of layers of ResNet-18 in full precision, without and with distillation. The "
        f"horizontal lines are the gaps to FP32, that is a recovery of 100\\,\\%. {POINTS}.",
    ),
    Figure(
        "conv1_bytes",
        figures.conv1_bytes,
        2.0,
        "What a kept group of ResNet-18 costs and wins: accuracy over the fully ternary network against the KiB that "
        f"the group adds to the file (logarithmic), undistilled. {POINTS}.",
    ),
    Figure(
        "kd_plane",
        figures.kd_plane,
        2.3,
        "Distilled minus undistilled: effect on the ternary ResNet-18 against the effect on its full-precision twin. "
        f"Below the dashed diagonal distillation does less for the ternary network than for its twin. {POINTS}, in "
        "both directions.",
    ),
)


def numbers(query: Query) -> Iterator[Number]:
    """Yield the share of the first convolution, of 3×3 weights a channel, in the published networks."""
    for run in query.sources.grid_arms.values():
        if run.model in MODELS and run.arm == "fp32" and counted(run):
            share = 100 * 9 * run.data.channels * run.width / cost_of(run)["parameters"]
            yield measure(f"stemshare.bitnet.{run.data.dataset}.{run.model}", share, number(share, 4), percent=True)


PRINTED = Printed(
    tables=TABLES,
    figures=FIGURES,
    numbers=numbers,
    parts=PARTS,
)
