"""Verifying and aggregating many synthetic runs (goals: 153 verified in 2 s; 15,300 aggregated in 3 s, and in 6 s when
each has curves of 300 epochs; all with the predictions of 10,000 images).

python -m benchmarks.aggregate [RUNS] [EPOCHS …]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from bitq.grid.select import grid
from bitq.results.aggregate import aggregate
from bitq.results.manifest import write_manifest
from bitq.results.verify import require, verify
from bitq.run import Run
from tests import synthetic
from tests.synthetic import pretend_all


def many(count: int, epochs: int) -> list[Run]:
    """The published grid again and again, with other seeds and so many epochs."""
    base = grid("smoke", ["bitnet"])
    recipe = {"epochs": epochs}
    copies = range(-(-count // len(base)))
    return [
        run.model_copy(update={"seed": 1000 * copy + run.seed, "recipe": run.recipe.model_copy(update=recipe)})
        for copy in copies
        for run in base
    ][:count]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(runs: list[Run], root: Path, out: Path) -> None:
    print(f"{len(runs)} runs of {runs[0].recipe.epochs} epochs")
    with mock.patch("os.fsync"):  # the files need not outlive the benchmark
        print(f"  written        {seconds(lambda: pretend_all(runs, root)):6.2f} s")
    print(f"  verified       {seconds(lambda: require(verify(root, runs))):6.2f} s")
    print(f"  manifest       {seconds(lambda: write_manifest(root, runs)):6.2f} s")
    print(f"  verified       {seconds(lambda: require(verify(root, runs))):6.2f} s, with the manifest")
    print(f"  aggregated     {seconds(lambda: aggregate(root, runs, out)):6.2f} s")
    for table in sorted(out.iterdir()):
        print(f"  {table.name:<14} {table.stat().st_size / 1e6:6.1f} MB")


def main(count: int = 15_300, *lengths: int) -> None:
    synthetic.IMAGES = 10_000
    for epochs in lengths or (2, 300):
        with tempfile.TemporaryDirectory() as folder:
            measure(many(count, epochs), Path(folder) / "results", Path(folder) / "build")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
