"""Measure the files of the study on precision under other engines; the paper's table reads what this writes."""

import sys
from pathlib import Path
from typing import Any

from bitq.grid.select import find_run
from bitq.io import sha256_file, write_json
from bitq.report.precision import BACKENDS, ENGINES
from bitq.results.folder import MODEL, folder_of
from bitq.train.evaluate import evaluate_file


def measured(results: Path, scale: str, seed: int) -> list[dict[str, Any]]:
    """One row for every arm and engine whose file is there."""
    rows = []
    for arm, backend in ENGINES:
        run = find_run(f"precision/cifar100/vgg11/{arm}/s{seed}", scale)
        path = folder_of(run, results) / MODEL
        if path.exists():
            found = evaluate_file(path, None, None, "cpu", backend)
            other = found["backend"]
            keys = ("weights", "multiplications", "accuracy", "same_predictions", "largest_difference")
            # By these the paper knows whether the file is the one that it shows.
            of = {"hash": run.hash, "file_sha256": sha256_file(path), "arm": arm, "seed": seed}
            row = of | {"backend": backend, "ours": found["accuracy"]}
            rows.append(row | {key: other[key] for key in keys})
    return rows


if __name__ == "__main__":
    write_json(BACKENDS, measured(Path(sys.argv[1]), sys.argv[2], seed=123))
