"""Evaluate packed files again and compare with their results: seals can be computed anew, accuracy only measured."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bitq.deploy.load import load
from bitq.errors import BitqError, UsageError
from bitq.io import read_bytes, sha256, sha256_file
from bitq.machine import fingerprint, machine
from bitq.measure.packed_file import evaluate_file
from bitq.results.folder import MODEL, Finished, folder_of, read
from bitq.results.manifest import RESULTS
from bitq.results.predictions import count_equal
from bitq.results.schema import Packed
from bitq.run import Run

# Share of the test images whose nearly equal logits another kind of machine may put into another order.
TOLERATED = 0.005


class Measured(NamedTuple):
    """A run whose packed file was evaluated again."""

    path: str
    results_sha256: str
    differences: tuple[str, ...]


def remeasure(root: Path, runs: Sequence[Run], count: int | None, seed: int, device: str) -> list[Measured]:
    """Evaluate so many packed files again, drawn by the seed; all that are there, without a count."""
    # A run that is being finished has its packed file first.
    there = [run for run in runs if all((folder_of(run, root) / name).exists() for name in (MODEL, RESULTS))]
    if not there:
        raise UsageError(
            f"{root} holds no packed file of the selected runs, so none can be measured again; train with --models, or "
            "bring the files from where they were trained."
        )
    drawn = there if count is None else random.Random(seed).sample(there, min(count, len(there)))
    return [_measured(run, root, device) for run in sorted(drawn, key=lambda run: run.path)]


def _measured(run: Run, root: Path, device: str) -> Measured:
    folder = folder_of(run, root)
    try:
        found = tuple(differences(read(folder), device))
    except BitqError as error:
        found = (str(error),)
    return Measured(run.path, sha256_file(folder / RESULTS), found)


def differences(run: Finished, device: str) -> Iterator[str]:
    """Yield what the packed file of a run contradicts in its results."""
    packed, path = run.results.packed, run.folder / MODEL
    if packed is None:
        yield f"{MODEL} lies beside a run that diverged and ships nothing"
        return
    _, spec = load(path)
    if (spec.get("run"), spec.get("hash")) != (run.config.id, run.config.hash):
        yield f"{MODEL} is of {spec.get('run')} ({str(spec.get('hash'))[:12]}), not of {run.config.id}"
        return
    with tempfile.TemporaryDirectory() as scratch:
        predictions = Path(scratch) / "predictions.bin"
        found = evaluate_file(path, None, None, device, predictions=predictions)
        yield from _sizes(packed, found)
        yield from _answers(run, packed, found, read_bytes(predictions), device)


def _sizes(packed: Packed, found: dict[str, Any]) -> Iterator[str]:
    now = (found["bytes"], found["float_bytes"], found["audit"])
    then = (packed.file_bytes, packed.float_bytes, packed.audit.model_dump(mode="json"))
    for what, measured, recorded in zip(("bytes", "bytes in fp32", "level audit"), now, then, strict=True):
        if measured != recorded:
            yield f"its {what} differ" + (
                f": {measured} measured, {recorded} recorded" if what != "level audit" else ""
            )


def _answers(run: Finished, packed: Packed, found: dict[str, Any], predictions: bytes, device: str) -> Iterator[str]:
    """Compare accuracy and predictions: to the bit on the kind of machine that recorded them."""
    tolerated = 0 if run.env.machine == fingerprint(machine(device)) else int(TOLERATED * packed.images)
    if found["images"] != packed.images:
        yield f"{found['images']} images measured, {packed.images} recorded"
        return
    if abs(found["correct"] - packed.correct) > tolerated:
        yield f"accuracy {found['accuracy']:.2f} % measured, {packed.accuracy:.2f} % recorded"
    if sha256(predictions) == packed.predictions_sha256:
        return
    differing = packed.images - count_equal(predictions, run.predictions or bytes(packed.images))
    if differing > tolerated:
        yield f"{differing} of {packed.images} predictions differ, tolerated on this machine: {tolerated}"
