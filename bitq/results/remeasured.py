"""Which packed files were evaluated again, and found to be as their results say."""

from pathlib import Path
from typing import Literal

from bitq.io import read_bytes, write_atomic
from bitq.records import Frozen
from bitq.results.folder import text
from bitq.results.manifest import RESULTS, Files
from bitq.results.schema import parse

NAME = "remeasured.json"  # in the folder of results


class Remeasured(Frozen):
    """Runs whose packed file was evaluated again, by the results that it confirmed."""

    schema_version: Literal[1] = 1
    runs: dict[str, str]  # folder: sha256 of its results.json, which names the file and all that was compared
    machines: tuple[str, ...]  # where

    def confirms(self, path: str, files: Files) -> bool:
        """Tell whether a run still has the results that were confirmed."""
        results = files.get(f"{path}/{RESULTS}")
        return results is not None and self.runs.get(path) == results.sha256


def read_remeasured(root: Path) -> Remeasured:
    """Read the record of a folder of results; an empty one if there is none."""
    path = root / NAME
    if not path.exists():
        return Remeasured(runs={}, machines=())
    return parse(Remeasured, read_bytes(path), path, "Delete it, then call bitq verify --remeasure all.")


def add_remeasured(root: Path, runs: dict[str, str], machine: str) -> Remeasured:
    """Add runs to the record, in the place of what was confirmed of them before."""
    before = read_remeasured(root)
    machines = tuple(sorted({*before.machines, machine}))
    record = Remeasured(runs=dict(sorted((before.runs | runs).items())), machines=machines)
    write_atomic(root / NAME, text(record))
    return record
