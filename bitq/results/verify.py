"""Is what lies on the disk what the grid asked for? Every run against grid, schema, digests, ranges and manifest."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from bitq.errors import DataError, UsageError
from bitq.grid.commands import command
from bitq.io import read_bytes, write_atomic
from bitq.records import Frozen
from bitq.results.folder import MODEL, Finished, read, text
from bitq.results.manifest import (
    NAME,
    RESULTS,
    Files,
    Manifest,
    by_run,
    read_manifest,
    root_digest,
    run_files,
    under,
)
from bitq.results.schema import PARTS, Env, History, Packed, Results, parse
from bitq.run import Run

Kind = Literal["missing", "extra", "duplicated", "swapped", "damaged", "foreign", "unlisted"]


class Problem(Frozen):
    """What is wrong with one folder, in one sentence."""

    kind: Kind
    path: str  # relative to the results folder
    text: str


class Verdict(Frozen):
    """What `verify` found. Equal results give an equal verdict: it knows no time and no place."""

    ok: bool
    allow_missing: bool
    expected: int
    present: int  # runs that are whole
    missing: int
    root: str  # digest over all files of the whole runs
    manifest: str | None  # the digest that the manifest states; null without a manifest
    environments: dict[str, dict[str, int]]  # where it ran: for each property, how many runs have which value
    problems: tuple[Problem, ...]
    outside: tuple[str, ...] = ()  # finished runs of other scales and studies: listed, no error, not in the file


def verify(root: Path, runs: Sequence[Run], allow_missing: bool = False) -> Verdict:
    """Check that all of `runs` are below `root`, whole, and nothing else of their scales and studies is."""
    if not runs:
        raise UsageError("no run was selected, so there is nothing to verify; name a study and a scale that it has.")
    survey = _Survey(root, runs)
    problems = tuple(sorted(survey.problems(), key=lambda problem: (problem.kind, problem.path)))
    missing = sum(problem.kind == "missing" for problem in problems)
    return Verdict(
        ok=not problems or (allow_missing and missing == len(problems) and bool(survey.whole)),
        allow_missing=allow_missing,
        expected=len(survey.expected),
        present=len(survey.whole),
        missing=missing,
        root=root_digest(survey.files),
        manifest=survey.manifest.root if survey.manifest else None,
        environments=_environments(survey.whole),
        problems=problems,
        outside=tuple(survey.outside),
    )


def require(verdict: Verdict) -> None:
    """Raise with the list unless the results are what they have to be."""
    if verdict.ok:
        return
    raise DataError(
        f"{verdict.present} of {verdict.expected} runs are whole, {len(verdict.problems)} folders are not as they "
        f"have to be:\n{_listing(verdict)}\nMend these, or train what is missing; then verify again."
    )


def save(verdict: Verdict, path: Path) -> None:
    """Write the verdict's file if its content changes, since all that is downstream depends on it."""
    content = text(verdict.model_copy(update={"outside": ()}))
    if not path.exists() or read_bytes(path) != content:
        write_atomic(path, content)


def read_verdict(path: Path) -> Verdict:
    """What `save` wrote."""
    return parse(Verdict, read_bytes(path), path, f"Write it with: bitq verify --out {path}.")


def describe(verdict: Verdict) -> str:
    """The verdict for people; what makes it fail is told by `require`."""
    sealed = "there is no manifest" if verdict.manifest is None else f"manifest {verdict.manifest[:12]}"
    lines = [f"{verdict.present} of {verdict.expected} runs are whole, root digest {verdict.root[:12]}, {sealed}"]
    lines += [_distinct(name, values) for name, values in verdict.environments.items()]
    elsewhere = Counter("/".join(path.split("/")[:2]) for path in verdict.outside)
    lines += [f"outside the selection, not used: {count} in {place}" for place, count in elsewhere.items()]
    return "\n".join(lines + ([_listing(verdict)] if verdict.ok and verdict.problems else []))


def _distinct(name: str, values: Mapping[str, int]) -> str:
    shown = (f"{value[:12] if name == 'code' else value} × {runs}" for value, runs in values.items())
    return f"{len(values)} distinct {name}: {', '.join(shown)}"


def _listing(verdict: Verdict) -> str:
    return "\n".join(f"  {problem.kind:<10}  {problem.path}: {problem.text}" for problem in verdict.problems)


def _environments(environments: Sequence[Env]) -> dict[str, dict[str, int]]:
    properties: dict[str, list[str]] = {
        "mode": [env.mode for env in environments],
        "device": [env.device for env in environments],
        "machine": [env.machine for env in environments],
        "threads": [str(env.threads) for env in environments],
        "code": [env.code_sha256 for env in environments],
        "torch": [env.versions["torch"] for env in environments],
    }
    return {name: dict(sorted(Counter(values).items())) for name, values in properties.items()}


class _Survey:
    """What is found while walking through a results folder."""

    def __init__(self, root: Path, runs: Sequence[Run]) -> None:
        self.root = root
        self.expected = {run.path: run for run in runs}
        self.place_of = {run.hash: run.path for run in runs}
        self.selected = {(run.scale, run.study) for run in runs}
        self.claims = {path: _claim(root / path) for path in _folders(root, self.expected)}
        self.manifest: Manifest | None = None
        self.listed: dict[str, Files] = {}  # by the manifest, for each run
        self.files: Files = {}
        self.whole: list[Env] = []
        self.outside: list[str] = []

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong; what is right is collected on the way."""
        try:
            self.manifest = read_manifest(self.root)
        except DataError as error:
            yield Problem(kind="damaged", path=NAME, text=_without(self.root, error))
        self.listed = by_run(self.manifest.files) if self.manifest else {}
        yield from filter(None, (self._of_expected(path, run) for path, run in self.expected.items()))
        strangers = ((path, claim) for path, claim in self.claims.items() if path not in self.expected)
        yield from filter(None, (self._of_stranger(path, claim) for path, claim in strangers))

    def _of_expected(self, path: str, run: Run) -> Problem | None:
        if path not in self.claims:
            return Problem(kind="missing", path=path, text=f"not trained yet; {command(run)} does it.")
        claim = self.claims[path]
        if claim and claim.hash != run.hash:
            another = f"a run of another grid (hash {claim.hash[:12]}, wanted {run.hash[:12]}); move it away."
            return self._misplaced(path, claim) or Problem(kind="foreign", path=path, text=another)
        try:
            found = read(self.root / path)
        except (DataError, ValueError) as error:  # ValueError: a number too large for JSON
            return Problem(kind="damaged", path=path, text=_without(self.root / path, error))
        return self._of_content(path, found)

    def _of_content(self, path: str, found: Finished) -> Problem | None:
        wrong = next(implausible(found), None)
        if wrong:
            return Problem(kind="damaged", path=path, text=f"{wrong}; delete the folder and train the run again.")
        files = run_files(found)
        if self.manifest and files != self.listed.get(path):
            return _unlike_manifest(path, files, self.listed.get(path))
        self.files |= under(path, files)
        self.whole.append(found.env)
        return None

    def _of_stranger(self, path: str, claim: Run | None) -> Problem | None:
        """A folder that no selected run asks for; by its content it may be one of them all the same."""
        if claim and (misplaced := self._misplaced(path, claim)):
            return misplaced
        if claim and claim.path in self.expected:
            twin = f"claims to be {claim.path}, with another configuration; move it away."
            return Problem(kind="duplicated", path=path, text=twin)
        places = {tuple(path.split("/")[:2])} | ({(claim.scale, claim.study)} if claim else set())
        if places & self.selected:
            return Problem(kind="extra", path=path, text="no run of the selected grid; move it away.")
        self.outside.append(path)
        return None

    def _misplaced(self, path: str, claim: Run) -> Problem | None:
        owner = self.place_of.get(claim.hash)
        if owner is None:
            return None
        own = self.claims.get(owner)
        if own and own.hash == claim.hash:
            return Problem(kind="duplicated", path=path, text=f"holds {owner} a second time; delete this copy.")
        return Problem(kind="swapped", path=path, text=f"holds {owner}; move it there.")


def _folders(root: Path, expected: Iterable[str]) -> list[str]:
    """Where results lie. The walk follows no links, but an expected folder may be one."""
    walked = (Path(folder) for folder, _, names in os.walk(root) if RESULTS in names)
    expected_there = (root / path for path in expected if (root / path / RESULTS).exists())
    return sorted({folder.relative_to(root).as_posix() for folder in (*walked, *expected_there)})


def _claim(folder: Path) -> Run | None:
    """The run that a folder says it holds; None if that cannot be read."""
    try:
        run = Run.model_validate_json(read_bytes(folder / "config.json"))
        return run if run.hash else None
    except (DataError, ValueError):
        return None


def _without(folder: Path, error: Exception) -> str:
    """An error's sentence without the folder that the problem names already."""
    return str(error).replace(f"{folder}/", "").replace(f"{folder}: ", "")


def _unlike_manifest(path: str, files: Files, listed: Files | None) -> Problem:
    if listed is None:
        unlisted = f"whole, but {NAME} does not list it; write the manifest again if the run belongs here."
        return Problem(kind="unlisted", path=path, text=unlisted)
    name = min(name for name in files.keys() | listed.keys() if files.get(name) != listed.get(name))
    differs = f"{name} is not the file that {NAME} lists; restore it from where the results came."
    return Problem(kind="damaged", path=path, text=differs)


def implausible(run: Finished) -> Iterator[str]:
    """What cannot be true of a run although its files fit each other."""
    yield from _implausible_curves(run.config, run.results, run.history)
    if run.results.parents != run.config.parents:
        yield "results.json and config.json name different parents"
    if "torch" not in run.env.versions:
        yield "env.json does not say which torch it ran on"
    if run.results.packed:
        yield from _implausible_file(run.results.packed, run.folder / MODEL)
        if run.results.packed.accuracy != run.results.accuracy:
            yield "the packed file and the network in memory have different accuracies"
    elif (run.folder / MODEL).exists():
        yield f"{MODEL} lies beside a run that diverged and ships nothing"


def _curves_of(run: Run, results: Results, history: History) -> set[str]:
    """The curves that such a run has."""
    curves = {"lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}
    if run.distillation:
        curves |= {"hard_loss", "soft_loss"} | (set() if run.distillation.teacher else {"teacher_loss"})
    if run.recipe.validation:
        curves.add("validation_accuracy")
    if run.precision == "fp16":
        curves |= {"loss_scale", "skipped_share"}
    # Whether a network ships codes is known from its file; of one that diverged it is not.
    ships_codes = bool(results.packed.audit.layers) if results.packed else bool(history.zeros)
    return curves | ({"zeros"} if ships_codes else set())


def _implausible_curves(run: Run, results: Results, history: History) -> Iterator[str]:
    epochs, wanted = len(history.test_accuracy), _curves_of(run, results, history)
    for name, curve in history:
        if len(curve) != (epochs if name in wanted else 0):
            yield f"the curve {name} has {len(curve)} epochs, not {epochs if name in wanted else 0}"
        if name.endswith("accuracy") and curve and not 0 <= min(curve) <= max(curve) <= 100:
            yield f"the curve {name} leaves 0 … 100 percent"
    if epochs > run.recipe.epochs:
        yield f"history has {epochs} epochs, the recipe {run.recipe.epochs}"
    best = max(history.test_accuracy, default=None)
    if (results.best_accuracy, results.best_epoch) != (best, history.test_accuracy.index(best) if epochs else None):
        yield "the best epoch is not where the history has its maximum"


def _implausible_file(packed: Packed, model: Path) -> Iterator[str]:
    correct, images, size = packed.correct, packed.images, packed.file_bytes
    if not 0 <= correct <= images or packed.accuracy != 100 * correct / max(images, 1):
        yield f"accuracy {packed.accuracy} is not {correct} of {images} images"
    if packed.parts.keys() != set(PARTS) or sum(packed.parts.values()) != size:
        yield f"the parts of the file do not add up to its {size} bytes"
    if packed.compression != packed.float_bytes / max(size, 1):
        yield f"compression {packed.compression} is not {packed.float_bytes} over {size} bytes"
    if sum(layer.weights for layer in packed.audit.layers) != packed.audit.packed_weights:
        yield "the audited layers do not add up to the packed weights"
    if model.exists() and model.stat().st_size != size:
        yield f"{MODEL} does not have the {size} bytes that results.json says"
