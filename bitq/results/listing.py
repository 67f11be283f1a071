"""Collect the finished runs of a folder, whether the grid has them or not, as rows."""

from pathlib import Path
from typing import Any

from bitq.errors import BitqError
from bitq.results.folder import Finished, read


def finished_below(folder: Path) -> tuple[list[Finished], list[str]]:
    """Read every finished run below a folder; a sentence for each whose files do not belong together."""
    found, complaints = [], []
    for path in sorted(folder.rglob("results.json")):
        try:
            found.append(read(path.parent))
        except BitqError as error:
            complaints.append(str(error))
    return found, complaints


def outcome_row(run: Finished) -> dict[str, Any]:
    """Return what came of a run: status, and accuracy, bytes and compression of the packed file."""
    packed = run.results.packed
    return {
        "run": run.config.id,
        "status": run.results.status,
        "accuracy": packed.accuracy if packed else None,
        "file_bytes": packed.file_bytes if packed else None,
        "compression": packed.compression if packed else None,
    }
