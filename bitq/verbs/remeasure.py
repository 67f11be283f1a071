"""Count and measure anew what the report needs and only torch can tell: the records in results/measured/.

python -m bitq.verbs.remeasure costs             operations and parameters of every network of the grid
python -m bitq.verbs.remeasure backends RESULTS  packed files of the study on precision under other engines
python -m bitq.verbs.remeasure efficiency        latency, throughput, memory and bytes of all methods on this machine;
                                                 call it again to go on
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bitq import models
from bitq.grid.paper import config
from bitq.grid.select import find_run, grid
from bitq.grid.study import scales
from bitq.io import sha256_file, write_json
from bitq.measure.efficiency import efficiency
from bitq.measure.packed_file import evaluate_file
from bitq.paths import measured_dir
from bitq.results import costs
from bitq.results.folder import MODEL, folder_of
from bitq.run import Run
from bitq.studies.precision import backends
from bitq.studies.precision import efficiency as printed_efficiency

PRECISION, SEED = "precision", 42  # of the files that are measured under other engines


def counted(runs: Iterable[Run]) -> dict[str, dict[str, int]]:
    """Count operations and parameters of the networks of these runs."""
    return dict(map(_counted, runs))


def _counted(run: Run) -> tuple[str, dict[str, int]]:
    found = models.flops(run.model, models.Geometry.of(run.data, run.width, run.stem))
    return costs.key_of(run), {"macs": found.forward_macs, "parameters": found.params}


def measured(results: Path) -> list[dict[str, Any]]:
    """Measure every arm under every engine, at the scale that the paper shows, where its file is there."""
    rows, scale = [], config().studies[PRECISION]
    for arm, backend in backends.ENGINES:
        run = find_run(f"{PRECISION}/cifar100/vgg11/{arm}/s{SEED}", scale)
        path = folder_of(run, results) / MODEL
        if path.exists():
            found = evaluate_file(path, None, None, "cpu", backend)
            keys = ("weights", "multiplications", "accuracy", "same_predictions", "largest_difference")
            # By these the paper knows whether the file is the one that it shows.
            of = {"hash": run.hash, "file_sha256": sha256_file(path), "arm": arm, "seed": SEED}
            row = of | {"backend": backend, "ours": found["accuracy"]}
            rows.append(row | {key: found["backend"][key] for key in keys})
    return rows


def main(what: str, *results: str) -> None:
    """Write one of the files."""
    if what == "costs":
        write_json(measured_dir() / costs.FILE, counted(run for scale in scales() for run in grid(scale)))
    elif what == "efficiency":
        efficiency(measured_dir() / printed_efficiency.FILE)
    else:
        write_json(measured_dir() / backends.FILE, measured(Path(*results)))


if __name__ == "__main__":
    main(*sys.argv[1:])
