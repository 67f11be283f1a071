"""Find one-off runs, which no study describes, by what they left in the folder of results."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from bitq.errors import DataError, UsageError, did_you_mean
from bitq.io import read_bytes
from bitq.paths import results_dir
from bitq.records import explain
from bitq.run import Run

STUDY = "adhoc"
DEPTH = 4  # folders below that of the study: data set, network, arm, seed


def one_off_ids(scale: str, results: Path | None = None) -> tuple[str, ...]:
    """List the finished one-off runs at a scale."""
    return tuple(f"{STUDY}/{'/'.join(folder.parts[-DEPTH:])}" for folder in _folders(scale, results))


def one_off_run(name: str, scale: str, results: Path | None = None) -> Run:
    """Read a finished one-off run by its name."""
    known = one_off_ids(scale, results)
    if name not in known:
        hint = did_you_mean(name, list(known))
        listed = f"bitq results --study {STUDY} --scale {scale} lists all {len(known)}"
        raise UsageError(f"there is no finished one-off run {name!r}; {listed}.{hint}")
    path = _root(scale, results).joinpath(*name.split("/")[1:], "config.json")
    try:
        return Run.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise DataError(f"{path} describes no run: {explain(error)} Delete its folder and train it again.") from error


def _folders(scale: str, results: Path | None) -> Iterator[Path]:
    pattern = "/".join(["*"] * DEPTH)
    return (path.parent for path in sorted(_root(scale, results).glob(f"{pattern}/results.json")))


def _root(scale: str, results: Path | None) -> Path:
    return (results or results_dir()) / scale / STUDY
