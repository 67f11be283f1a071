"""Collect the results of finished one-off runs."""

from pathlib import Path

from bitq.errors import BitqError
from bitq.grid.oneoff import one_off_ids
from bitq.paths import results_dir
from bitq.results.folder import Finished, read


def one_off_results(scale: str, results: Path | None = None) -> tuple[list[Finished], list[str]]:
    """Read all one-off runs at a scale; a sentence for each whose files do not belong together."""
    found, complaints = [], []
    for name in one_off_ids(scale, results):
        try:
            found.append(read((results or results_dir()) / scale / name))
        except BitqError as error:
            complaints.append(str(error))
    return found, complaints


def result_table(runs: list[Finished]) -> str:
    """Lay out one line a run: id, accuracy of the packed file, its bytes."""
    width = max((len(run.config.id) for run in runs), default=0)
    return "\n".join(f"{run.config.id:<{width}}  {_outcome(run)}" for run in runs)


def _outcome(run: Finished) -> str:
    packed = run.results.packed
    return f"{packed.accuracy:6.2f} %  {packed.file_bytes:>12,} bytes" if packed else run.results.status
