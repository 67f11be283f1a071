"""A finished run on disk: its folder, how it is written, and how it is read with every promise checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bitq.errors import DataError
from bitq.io import pretty_json, read_bytes, sha256, sha256_file, write_atomic
from bitq.records import Frozen
from bitq.results.predictions import PREDICTIONS
from bitq.results.schema import Env, History, Results, parse
from bitq.run import Run

MODEL = "model.safetensors"
CARDS = "cards"
DIGESTED = ("config.json", "results.json", "history.json", PREDICTIONS, MODEL)


Record = TypeVar("Record", bound=Frozen)


@dataclass(frozen=True)
class Finished:
    """The records and predictions of one run, consistent with each other."""

    folder: Path
    config: Run
    results: Results
    history: History
    env: Env
    predictions: bytes | None = None  # none of a run that diverged


def folder_of(run: Run, root: Path) -> Path:
    """Return the folder of a run's files."""
    return root / run.path


def card_of(run: Run, root: Path) -> Path:
    """Name the file of a run's model card."""
    return root / CARDS / f"{run.path.replace('/', '-')}.md"


def text(record: Frozen) -> bytes:
    """Return the bytes of a record's file."""
    return pretty_json(record.model_dump(mode="json")).encode()


def publish(folder: Path, run: Run, results: Results, history: History, env: Env) -> None:
    """Write the four records; results.json comes last, so that its presence means that the run is complete.

    A run that was trained again for its packed file, with the same result, keeps its env.json: a manifest may list it.
    """
    records: dict[str, Frozen] = {"config": run, "history": history, "env": env, "results": results.sealed()}
    there, kept = folder / "results.json", folder / "env.json"
    if kept.exists() and there.exists() and read_bytes(there) == text(records["results"]):
        del records["env"]
    for name, record in records.items():
        write_atomic(folder / f"{name}.json", text(record))


def read(folder: Path) -> Finished:
    """Read a run and check that its files belong together; the model file may be absent."""
    config, config_sha256 = _load(folder, "config", Run)
    results, _ = _load(folder, "results", Results)
    history, history_sha256 = _load(folder, "history", History)
    env, _ = _load(folder, "env", Env)
    predictions = folder / PREDICTIONS
    shipped = read_bytes(predictions) if results.packed and predictions.exists() else None
    finished = Finished(folder, config, results, history, env, shipped)
    for problem in _problems(finished, (config_sha256, history_sha256)):
        raise DataError(f"{folder}: {problem}; delete the folder and train the run again.")
    return finished


def _load(folder: Path, name: str, kind: type[Record]) -> tuple[Record, str]:
    """Load a record with the digest of the very bytes it was read from."""
    path = folder / f"{name}.json"
    data = read_bytes(path)
    return parse(kind, data, path), sha256(data)


def _problems(run: Finished, digests: tuple[str, str]) -> list[str]:
    results, history = run.results, run.history
    found = []
    if results.seal != results.sealed().seal:
        found.append("results.json was changed after it was written")
    if results.hash != run.config.hash or results.id != run.config.id:
        found.append(f"results.json belongs to {results.id} ({results.hash[:12]}), config.json to {run.config.id}")
    if (results.config_sha256, results.history_sha256) != digests:
        found.append("config.json or history.json is not the one that results.json was written with")
    if results.status == "done" and len(history.test_accuracy) != run.config.recipe.epochs:
        found.append(f"history has {len(history.test_accuracy)} epochs, the recipe {run.config.recipe.epochs}")
    if results.best_accuracy is not None and results.best_accuracy != max(history.test_accuracy):
        found.append("best_accuracy is not the maximum of the history")
    if results.packed and run.predictions is None:
        found.append(f"{PREDICTIONS} is missing")
    elif results.packed and sha256(run.predictions or b"") != results.packed.predictions_sha256:
        found.append(f"{PREDICTIONS} is damaged or from another run")
    model = run.folder / MODEL
    if results.packed and model.exists() and sha256_file(model) != results.packed.sha256:
        found.append(f"{MODEL} is damaged or from another run")
    return found


def finished(run: Run, root: Path, need_model: bool = False) -> Finished | None:
    """Return the run's results if they are complete and of this very run; None if it has to be trained.

    Results of a different configuration in the same place are never overwritten.
    """
    folder = folder_of(run, root)
    if not (folder / "results.json").exists():
        return None
    found = read(folder)
    if found.config.hash != run.hash:
        raise DataError(
            f"{folder} holds results of another grid (hash {found.config.hash[:12]}, wanted {run.hash[:12]}); "
            f"move the folder away or choose another --results folder."
        )
    if need_model and found.results.packed and not (folder / MODEL).exists():
        return None
    return found


def run_digest(folder: Path) -> str:
    """Digest what the same run must reproduce: config, results, history, predictions and model."""
    return sha256("\n".join(sha256_file(folder / name) for name in DIGESTED if (folder / name).exists()))
