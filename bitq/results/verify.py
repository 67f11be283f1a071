"""Compare stored runs with the grid: schema, digests, ranges, predictions and manifest."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from bitq.errors import DataError, UsageError
from bitq.grid.commands import command
from bitq.io import is_unfinished_write, read_bytes, write_atomic
from bitq.records import Frozen
from bitq.results.folder import MODEL, Finished, read, text
from bitq.results.manifest import (
    NAME,
    RESULTS,
    Files,
    Manifest,
    by_run,
    label_files,
    read_manifest,
    root_digest,
    run_files,
    scales_of,
    under,
)
from bitq.results.plausible import implausible
from bitq.results.predictions import PREDICTIONS, labels_name, read_labels
from bitq.results.remeasured import read_remeasured
from bitq.results.schema import RECORDS, Env, Results, parse
from bitq.run import Run

Kind = Literal["missing", "lost", "extra", "duplicated", "swapped", "damaged", "foreign", "unlisted", "stray"]
MOST_LISTED = 20  # missing runs of a study; more are counted
RUN_FILES = {f"{record}.json" for record in RECORDS} | {PREDICTIONS, MODEL}


class Problem(Frozen):
    """What is wrong with one folder or file, in one sentence."""

    kind: Kind
    path: str  # relative to the results folder
    text: str


class Verdict(Frozen):
    """What `verify` found. Equal results give an equal verdict: it knows no time and no place."""

    ok: bool
    allow_missing: bool
    expected: int
    present: int  # complete runs
    missing: int
    root: str  # digest over all files of the complete runs
    manifest: str | None  # the digest that the manifest states; null without a manifest
    environments: dict[str, dict[str, int]]  # where it ran: for each property, how many runs have which value
    problems: tuple[Problem, ...]
    outside: tuple[str, ...] = ()  # finished runs of other scales and studies: listed, no error, not in the file
    unfinished: tuple[str, ...] = ()  # folders without results.json and writes cut short: likewise
    packed: int = 0  # complete runs that ship a file
    remeasured: int = 0  # of these, whose file was evaluated again and confirmed their results as they are now
    unlisted: tuple[str, ...] = ()  # complete runs for which no manifest vouches, where that is no error: likewise


def verify(root: Path, runs: Sequence[Run], allow_missing: bool = False) -> Verdict:
    """Check that all of `runs` are complete below `root`, and nothing else of their scales and studies is there."""
    if not runs:
        raise UsageError("no run was selected, so there is nothing to verify; name a study and a scale that it has.")
    survey = _Survey(root, runs, allow_missing)
    problems = tuple(sorted(survey.problems(), key=lambda problem: (problem.kind, problem.path)))
    missing = sum(problem.kind == "missing" for problem in problems)
    return Verdict(
        ok=not problems or (allow_missing and missing == len(problems) and bool(survey.complete)),
        allow_missing=allow_missing,
        expected=len(survey.expected),
        present=len(survey.complete),
        missing=missing,
        root=root_digest(survey.files),
        manifest=survey.manifest.root if survey.manifest else None,
        environments=_environments(survey.complete),
        problems=problems,
        outside=tuple(survey.outside),
        unfinished=tuple(survey.unfinished),
        unlisted=tuple(survey.unlisted),
        packed=len(survey.packed),
        remeasured=survey.count_remeasured(),
    )


def require(verdict: Verdict) -> None:
    """Raise with the list of problems, if there are any that are not allowed."""
    if verdict.ok:
        return
    remedy = "Fix what is listed or train what is missing, then verify again."
    if {problem.kind for problem in verdict.problems} == {"missing"}:
        remedy = "Train what is missing, or go on with what there is: --allow-missing."
    raise DataError(
        f"{verdict.present} of {verdict.expected} runs are complete; problems: {len(verdict.problems)}\n"
        f"{_listing(verdict)}\n{remedy}"
    )


def save(verdict: Verdict, path: Path) -> None:
    """Write the verdict's file if its content changes, since all that is downstream depends on it."""
    content = text(verdict.model_copy(update={"outside": (), "unfinished": (), "unlisted": ()}))
    if not path.exists() or read_bytes(path) != content:
        write_atomic(path, content)


def read_verdict(path: Path) -> Verdict:
    """Read what `save` wrote."""
    return parse(Verdict, read_bytes(path), path, f"Write it with: bitq verify --out {path}.")


def describe(verdict: Verdict) -> str:
    """Describe a verdict for people; `require` lists what makes it fail."""
    sealed = "there is no manifest" if verdict.manifest is None else f"manifest {verdict.manifest[:12]}"
    lines = [f"{verdict.present} of {verdict.expected} runs are complete, root digest {verdict.root[:12]}, {sealed}"]
    lines.append(
        f"{verdict.remeasured} of {verdict.packed} packed files were evaluated again and confirmed their results"
    )
    lines += [_distinct(name, values) for name, values in verdict.environments.items()]
    elsewhere = Counter("/".join(path.split("/")[:2]) for path in verdict.outside)
    lines += [f"outside the selection, not used: {count} in {place}" for place, count in elsewhere.items()]
    if verdict.unlisted:
        lines.append(
            f"{len(verdict.unlisted)} complete runs are not in {NAME}, {verdict.unlisted[0]} for one: only their own "
            "digests vouch for them; bitq verify --manifest adds them."
        )
    if verdict.ok and (missing := _missing(verdict)):
        lines.append(f"not there yet: {', '.join(f'{count} of {place}' for place, count in missing.items())}")
    return "\n".join(lines + [_unfinished(path) for path in verdict.unfinished if verdict.ok])


def _distinct(name: str, values: Mapping[str, int]) -> str:
    shown = (f"{value[:12] if name == 'code' else value} × {runs}" for value, runs in values.items())
    return f"{len(values)} distinct {name}: {', '.join(shown)}"


def _listing(verdict: Verdict) -> str:
    many = {place: count for place, count in _missing(verdict).items() if count > MOST_LISTED}
    rows = [
        f"  {problem.kind:<10}  {problem.path}: {problem.text}"
        for problem in verdict.problems
        if problem.kind != "missing" or _study_of(problem.path) not in many
    ]
    for place, count in many.items():
        scale, study = place.split("/")
        call = f"bitq train --study {study} --scale {scale}"
        rows.append(f"  {'missing':<10}  {place}: {count} runs are not finished; {call} does it.")
    return "\n".join(rows + [_unfinished(path) for path in verdict.unfinished])


def _unfinished(path: str) -> str:
    return f"  {'unfinished':<10}  {path}"


def _missing(verdict: Verdict) -> Counter[str]:
    """Count the missing runs of each scale and study."""
    return Counter(_study_of(each.path) for each in verdict.problems if each.kind == "missing")


def _study_of(path: str) -> str:
    return "/".join(path.split("/")[:2])


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
    """Problems and complete runs of a results folder."""

    def __init__(self, root: Path, runs: Sequence[Run], growing: bool) -> None:
        self.root, self.growing = root, growing
        self.expected = {run.path: run for run in runs}
        self.place_of = {run.hash: run.path for run in runs}
        self.selected = {(run.scale, run.study) for run in runs}
        self.names = _file_names(root, self.expected)
        self.claims = {path: _claim(root / path) for path, names in sorted(self.names.items()) if RESULTS in names}
        self.manifest: Manifest | None = None
        self.listed: dict[str, Files] = {}  # by the manifest, for each run
        self.covered: set[str] = set()  # scales of which the manifest lists runs
        self.files: Files = {}
        self.labels: dict[str, bytes | None] = {}  # by digest; None where the file is missing or damaged
        self.complete: list[Env] = []
        self.outside: list[str] = []
        self.unfinished: list[str] = []
        self.unlisted: list[str] = []
        self.packed: list[str] = []

    def problems(self) -> Iterator[Problem]:
        """Yield everything that is wrong and collect what is complete."""
        try:
            self.manifest = read_manifest(self.root)
        except DataError as error:
            yield Problem(kind="damaged", path=NAME, text=_without(self.root, error))
        self.listed = by_run(self.manifest.files) if self.manifest else {}
        self.covered = scales_of(self.manifest) if self.manifest else set()
        yield from filter(None, (self._of_expected(path, run) for path, run in self.expected.items()))
        others = ((path, claim) for path, claim in self.claims.items() if path not in self.expected)
        yield from filter(None, (self._of_unexpected(path, claim) for path, claim in others))
        yield from self._of_labels()
        yield from self._of_files()

    def _of_expected(self, path: str, run: Run) -> Problem | None:
        if path not in self.claims:
            if path in self.listed:
                lost = f"{NAME} lists it, but its files are gone; restore them from where the results came."
                return Problem(kind="lost", path=path, text=lost)
            begun = "begun, not finished" if self.names.get(path) else "not trained yet"
            return Problem(kind="missing", path=path, text=f"{begun}; {command(run)} does it.")
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
        wrong = next(implausible(found, self._labels_of(found.results)), None)
        if wrong:
            return Problem(kind="damaged", path=path, text=f"{wrong}; delete the folder and train the run again.")
        files = run_files(found)
        if self.manifest and files != self.listed.get(path):
            if not self._may_be_unlisted(path):
                return _unlike_manifest(path, files, self.listed.get(path))
            self.unlisted.append(path)
        self.files |= under(path, files) | label_files(found.results)
        self.complete.append(found.env)
        self.packed += [path] if found.results.packed else []
        return None

    def count_remeasured(self) -> int:
        """Count the runs whose packed file was evaluated again since their results last changed."""
        record = read_remeasured(self.root)
        return sum(record.confirms(path, self.files) for path in self.packed)

    def _may_be_unlisted(self, path: str) -> bool:
        """Tell whether a manifest may lack a run: of a grid that still grows, or of a scale that it does not cover."""
        return path not in self.listed and (self.growing or path.partition("/")[0] not in self.covered)

    def _labels_of(self, results: Results) -> bytes | None:
        digest = results.packed.labels_sha256 if results.packed else None
        if digest is not None and digest not in self.labels:
            try:
                self.labels[digest] = read_labels(self.root, digest)
            except DataError:
                self.labels[digest] = None
        return self.labels[digest] if digest else None

    def _of_labels(self) -> Iterator[Problem]:
        for name in sorted(labels_name(digest) for digest, labels in self.labels.items() if labels is None):
            wrong = "missing or damaged; restore it from where the results came, or train one of its runs again."
            yield Problem(kind="damaged", path=name, text=wrong)

    def _of_files(self) -> Iterator[Problem]:
        """Yield files that belong to no run, in folders of the selection; collect what is merely unfinished."""
        for path, names in sorted(self.names.items()):
            if tuple(path.split("/")[:2]) not in self.selected and path not in self.expected:
                continue
            cut_short = {name for name in names if is_unfinished_write(name)}
            self.unfinished += [f"{path}/{name}" for name in sorted(cut_short)]
            if RESULTS not in names and names & RUN_FILES:
                self.unfinished.append(path)
            for name in sorted(names - RUN_FILES - cut_short):
                yield Problem(kind="stray", path=f"{path}/{name}", text="no file of a run; move it away.")

    def _of_unexpected(self, path: str, claim: Run | None) -> Problem | None:
        """Judge a folder that no selected run asks for; by its content it may be one of them all the same."""
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


def _file_names(root: Path, expected: Mapping[str, Run]) -> dict[str, set[str]]:
    """List the files of each folder. No links are followed, but an expected folder may be one."""
    found = {Path(folder).relative_to(root).as_posix(): set(names) for folder, _, names in os.walk(root)}
    linked = (path for path in expected.keys() - found.keys() if (root / path).is_dir())
    return found | {path: set(os.listdir(root / path)) for path in linked}


def _claim(folder: Path) -> Run | None:
    """Read the run that a folder says it holds; None if that cannot be read."""
    try:
        run = Run.model_validate_json(read_bytes(folder / "config.json"))
        return run if run.hash else None
    except (DataError, ValueError):
        return None


def _without(folder: Path, error: Exception) -> str:
    """Drop the folder, which the problem names already, from an error's sentence."""
    return str(error).replace(f"{folder}/", "").replace(f"{folder}: ", "")


def _unlike_manifest(path: str, files: Files, listed: Files | None) -> Problem:
    if listed is None:
        unlisted = f"complete, but {NAME} does not list it; write the manifest again if the run belongs here."
        return Problem(kind="unlisted", path=path, text=unlisted)
    name = min(name for name in files.keys() | listed.keys() if files.get(name) != listed.get(name))
    differs = f"{name} is not the file that {NAME} lists; restore it from where the results came."
    return Problem(kind="damaged", path=path, text=differs)
