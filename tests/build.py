"""A build folder as the pipeline leaves it before tables, figures and TeX, from invented results."""

from collections.abc import Sequence
from pathlib import Path

from bitq.results.aggregate import aggregate
from bitq.run import Run
from bitq.stats.judge import write_claims
from bitq.stats.summary import write_stats
from bitq.studies.catalogue import questions
from tests.synthetic import pretend_all


def build_of(runs: Sequence[Run], folder: Path) -> Path:
    """Invent the results of runs, collect them, and compute statistics and verdicts."""
    pretend_all(runs, folder / "results")
    aggregate(folder / "results", runs, folder)
    write_stats(folder / "runs.parquet", folder / "stats.json", questions())
    write_claims(folder / "runs.parquet", folder / "claims.json")
    return folder
