"""Compare all that a stored result depends on with what is there now."""

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from bitq.data.registry import variant
from bitq.engine import code_sha256
from bitq.errors import BitqError
from bitq.grid.commands import command
from bitq.io import read_json, sha256_file
from bitq.records import Frozen
from bitq.results.folder import MODEL, Finished, folder_of, read
from bitq.results.manifest import RESULTS
from bitq.results.schema import Env
from bitq.run import Parent, Run
from bitq.status.failures import failure_of
from bitq.status.unfinished import holder_of, progress_of

Aspect = Literal["files", "config", "data", "parent", "code", "environment", "state"]
# stale: its result is not that of the run as it is defined now; changed: trained here again it may get other bits.
Judgement = Literal["same", "stale", "changed", "unknown"]


class Reason(Frozen):
    """One thing that a result depends on."""

    aspect: Aspect
    judgement: Judgement
    text: str


class Why(Frozen):
    """All that a result depends on."""

    id: str
    hash: str
    trained: bool
    reasons: tuple[Reason, ...]

    @property
    def conclusion(self) -> str:
        """Say in one sentence what follows."""
        stale = [reason.aspect for reason in self.reasons if reason.judgement == "stale"]
        changed = [reason.aspect for reason in self.reasons if reason.judgement == "changed"]
        if not self.trained:
            return "It has no result yet."
        if stale:
            return f"Its result is stale, by {' and '.join(dict.fromkeys(stale))}: move its folder away and train it."
        if changed:
            causes = " and ".join(dict.fromkeys(changed))
            return f"Its result is current; trained again here it may get other bits, by another {causes}."
        return "Its result is current, and trained again here it gets the same bytes."


def why(run: Run, results: Path, state: Path) -> Why:
    """Compare the stored record of a run with configuration, data, parents, code and environment as they are now."""
    folder = folder_of(run, results)
    if not (folder / RESULTS).exists():
        return Why(id=run.id, hash=run.hash, trained=False, reasons=tuple(_unfinished(run, results, state / run.hash)))
    try:
        found = read(folder)
    except BitqError as error:
        damaged = Reason(aspect="files", judgement="stale", text=str(error))
        return Why(id=run.id, hash=run.hash, trained=True, reasons=(damaged,))
    return Why(id=run.id, hash=run.hash, trained=True, reasons=tuple(_finished(run, found, results)))


def _finished(run: Run, found: Finished, results: Path) -> Iterator[Reason]:
    yield _of_files(found)
    yield _of_config(found.config, run)
    yield _of_data(found.config, run)
    yield from _of_parents(found.config, run, results)
    yield _of_code(found.env.code_sha256)
    yield _of_environment(found.env)


def _of_files(found: Finished) -> Reason:
    model = "with its packed file" if (found.folder / MODEL).exists() else "without its packed file, known by digest"
    shipped = model if found.results.packed else "diverged, so nothing shipped"
    return Reason(aspect="files", judgement="same", text=f"belong together, {shipped}")


def _of_config(then: Run, now: Run) -> Reason:
    """Compare everything but data and parents, which have lines of their own."""
    changes = list(changed(_own(then), _own(now)))
    if not changes:
        return Reason(aspect="config", judgement="same", text="every key as it is defined now")
    return Reason(aspect="config", judgement="stale", text="; ".join(changes))


def _own(run: Run) -> dict[str, Any]:
    fields = run.model_dump(mode="json")
    for parent in (fields["start"], (fields["distillation"] or {}).get("teacher")):
        if parent:
            del parent["hash"]
    del fields["data"]["digest"]
    return fields


def changed(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name the keys that differ, with what was stored and what is there now.

    >>> list(changed({"recipe": {"lr": 0.1, "batch": 8}}, {"recipe": {"lr": 0.2, "batch": 8}}))
    ['recipe.lr 0.1, now 0.2']
    """
    for key in sorted(then.keys() | now.keys()):
        before, after = then.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from changed(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} {before}, now {after}"


def _of_data(then: Run, now: Run) -> Reason:
    name = f"{now.data.dataset}/{now.data.variant}"
    try:
        here = variant(now.data.dataset, now.data.variant).digest
    except BitqError as error:
        return Reason(aspect="data", judgement="unknown", text=str(error))
    if here == then.data.digest:
        return Reason(aspect="data", judgement="same", text=f"{name}, digest {here[:12]}")
    return Reason(aspect="data", judgement="stale", text=f"{name} had digest {then.data.digest[:12]}, now {here[:12]}")


def _of_parents(then: Run, now: Run, results: Path) -> Iterator[Reason]:
    if not then.parents and not now.parents:
        yield Reason(aspect="parent", judgement="same", text="none")
    before = {parent.id: parent for parent in then.parents}
    for parent in now.parents:
        yield _of_parent(before.get(parent.id), parent, now, results)


def _of_parent(then: Parent | None, now: Parent, run: Run, results: Path) -> Reason:
    if then and then.hash != now.hash:
        text = f"{now.id} had hash {then.hash[:12]}, now {now.hash[:12]}"
        return Reason(aspect="parent", judgement="stale", text=text)
    if now.is_file:
        return _of_file(now)
    if hash_at(results / run.scale / now.id) != now.hash:
        return Reason(aspect="parent", judgement="unknown", text=f"{now.id} ({now.hash[:12]}) has no result here")
    return Reason(aspect="parent", judgement="same", text=f"{now.id}, hash {now.hash[:12]}")


def hash_at(folder: Path) -> str | None:
    """Read the hash of the run whose results a folder holds; None where it holds none."""
    try:
        return str(read_json(folder / RESULTS)["hash"])
    except (BitqError, LookupError, TypeError):
        return None


def _of_file(parent: Parent) -> Reason:
    path = Path(parent.id)
    if not path.exists():
        return Reason(aspect="parent", judgement="unknown", text=f"{path} is not there")
    same = sha256_file(path) == parent.hash
    text = f"{path}, sha256 {parent.hash[:12]}" if same else f"{path} is another file than the one it was trained from"
    return Reason(aspect="parent", judgement="same" if same else "stale", text=text)


def _of_code(then: str) -> Reason:
    now = code_sha256()
    if then == now:
        return Reason(aspect="code", judgement="same", text=f"engine {now[:12]}")
    return Reason(aspect="code", judgement="changed", text=f"engine {then[:12]}, now {now[:12]}")


def _of_environment(env: Env) -> Reason:
    now = environment_of(env)
    if now is None:
        return Reason(aspect="environment", judgement="unknown", text=f"{env.machine}; there is no torch here")
    then = {"machine": env.machine, **env.versions}
    changes = list(changed(then, now))
    if changes:
        return Reason(aspect="environment", judgement="changed", text="; ".join(changes))
    return Reason(aspect="environment", judgement="same", text=f"{env.machine}, torch {env.versions.get('torch')}")


def environment_of(env: Env) -> dict[str, str] | None:
    """Describe this machine as the record describes its own; None without torch."""
    try:
        from bitq.machine import fingerprint, machine
    except ImportError:
        return None
    device = "cuda" if env.device.startswith("cuda") else "cpu"
    try:
        now = fingerprint(machine(device))
    except BitqError:  # no such device here
        now = fingerprint(machine("cpu"))
    return {"machine": now, **{name: _version(name) for name in env.versions}}


def _version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _unfinished(run: Run, results: Path, folder: Path) -> Iterator[Reason]:
    holder, progress, failure = holder_of(folder), progress_of(folder), failure_of(folder)
    if failure:
        yield Reason(aspect="state", judgement="unknown", text=f"failed last ({failure.kind}): {failure.text}")
    elif holder:
        yield Reason(aspect="state", judgement="unknown", text=f"{holder.host} {holder.pid} works on it")
    if progress:
        text = f"saved in epoch {progress.epoch} of {run.recipe.epochs}, step {progress.step}"
        if progress.made_by and progress.made_by[0] != code_sha256():
            text += ", by another engine: it will start over"
        yield Reason(aspect="state", judgement="unknown", text=text)
    elif not holder:
        yield Reason(aspect="state", judgement="unknown", text=f"not begun; {command(run)} does it")
    yield from _of_parents(run, run, results)
