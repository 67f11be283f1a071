"""Compare two sets of results cell by cell: the same bytes, numbers that seeds explain, or another result."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from bitq.errors import DataError, UsageError
from bitq.paths import results_dir
from bitq.records import Frozen
from bitq.results.folder import Finished
from bitq.results.listing import finished_below
from bitq.results.per_image import correct_of
from bitq.stats.cells import Values
from bitq.stats.inference import ALPHA, holm, mean, spread

Answer = Literal["identical", "compatible", "different"]
Key = tuple[str, ...]  # scale (where a side has several), study, data set, model, arm
BySeed = dict[int, Finished]
Cells = dict[Key, BySeed]


class CellComparison(Frozen):
    """One arm of a network on a data set, on both sides."""

    cell: str
    runs_a: int
    runs_b: int
    equal: int  # runs of the same seed that are equal in every byte that a run must reproduce
    accuracy_a: float | None  # mean of the packed files, percent; null if none was shipped
    accuracy_b: float | None
    test: Literal["none", "seeds", "images"]  # what the p value knows of: spread over seeds, or over test images alone
    p: float | None = None  # adjusted by Holm's method over all cells
    answer: Answer


class Comparison(Frozen):
    """All cells that both sides have, and the names of those that one of them lacks."""

    a: str
    b: str
    cells: tuple[CellComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    def count(self, answer: Answer) -> int:
        """Count the cells with this answer."""
        return sum(cell.answer == answer for cell in self.cells)


def compare(a: str, b: str) -> Comparison:
    """Compare the finished runs below two folders; a word that is no folder is a scale of the folder of results."""
    places = [place_of(name) for name in (a, b)]
    found = [runs_below(place) for place in places]
    several = any(len({run.config.scale for run in runs}) > 1 for runs in found)
    one, other = (cells_of(runs, several) for runs in found)
    common = sorted(one.keys() & other.keys())
    if not common:
        raise DataError(
            f"{a} and {b} have no arm of a network on a data set in common; give results of the same study."
        )
    compared = [_compare(key, one[key], other[key]) for key in common]
    return Comparison(
        a=a,
        b=b,
        cells=tuple(_answered(compared)),
        only_a=_names(one.keys() - other.keys()),
        only_b=_names(other.keys() - one.keys()),
    )


def place_of(name: str) -> Path:
    """Find the folder that a word of the command means."""
    for place in (Path(name), results_dir() / name):
        if place.is_dir():
            return place
    raise UsageError(f"{name} is neither a folder nor a scale in {results_dir()}; give two folders, or two scales.")


def runs_below(place: Path) -> list[Finished]:
    """Read every finished run below a folder."""
    found, complaints = finished_below(place)
    if complaints:
        raise DataError(complaints[0])
    if not found:
        raise DataError(f"{place} holds no finished run; give a folder of results, or one in it.")
    return found


def root_of(run: Finished) -> Path:
    """Find the folder of results, which holds the labels, from one of its runs."""
    folder, path = run.folder.resolve(), Path(run.config.path)
    if folder.parts[-len(path.parts) :] != path.parts:
        raise DataError(
            f"{run.folder} does not lie in a folder of results, as {path}, so its labels cannot be found; give the "
            "folder that bitq wrote it to."
        )
    return folder.parents[len(path.parts) - 1]


def cells_of(runs: Iterable[Finished], by_scale: bool) -> Cells:
    """Group runs by all but their seed."""
    cells: Cells = {}
    for run in runs:
        config = run.config
        key = (config.study, config.data.dataset, config.model, config.arm)
        cells.setdefault((config.scale, *key) if by_scale else key, {})[config.seed] = run
    return cells


def _names(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(sorted(map("/".join, keys)))


def _compare(key: Key, a: BySeed, b: BySeed) -> CellComparison:
    common = a.keys() & b.keys()
    equal = sum(a[seed].results == b[seed].results for seed in common)
    values = accuracies(a), accuracies(b)
    test, p = ("none", None) if common and equal == len(common) else tested(a, b)
    return CellComparison(
        cell="/".join(key),
        runs_a=len(a),
        runs_b=len(b),
        equal=equal,
        accuracy_a=mean(values[0]),
        accuracy_b=mean(values[1]),
        test=test,  # type: ignore[arg-type]
        p=p,
        answer="identical" if common and equal == len(common) else "compatible",
    )


def tested(one: BySeed, other: BySeed) -> tuple[str, float | None]:
    """Compute how probable such a difference is where there is none: by seeds, or by test images where those lack."""
    a, b = accuracies(one), accuracies(other)
    if not len(a) or not len(b):
        return "none", None if len(a) == len(b) else 0.0
    if min(len(a), len(b)) > 1 and (spread(a) or spread(b)):
        return "seeds", float(stats.ttest_ind(a, b, equal_var=False).pvalue)
    return "images", by_images(one, other)


def by_images(one: BySeed, other: BySeed) -> float:
    """Compare one run of each side on their test images: pairwise if these are the same, else as two shares."""
    a, b = ({seed: run for seed, run in side.items() if run.results.packed} for side in (one, other))
    seed = min(a.keys() & b.keys(), default=None)
    first, second = (runs[min(runs) if seed is None else seed] for runs in (a, b))
    right = correct_of(first.folder, root_of(first)), correct_of(second.folder, root_of(second))
    if labels_of(first) == labels_of(second):
        gained, missed = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
        return float(stats.binomtest(gained, gained + missed).pvalue) if gained + missed else 1.0
    counts = [(int(each.sum()), len(each) - int(each.sum())) for each in right]
    return float(stats.fisher_exact(counts).pvalue)


def labels_of(run: Finished) -> str | None:
    """Return the digest of the labels that a run was measured against."""
    return run.results.packed.labels_sha256 if run.results.packed else None


def accuracies(runs: BySeed) -> Values:
    """Collect the accuracies of packed files, in the order of the seeds."""
    packed = (runs[seed].results.packed for seed in sorted(runs))
    return np.array([each.accuracy for each in packed if each])


def _answered(cells: list[CellComparison]) -> Iterable[CellComparison]:
    """Adjust the p values, and call different what is improbable under the same law."""
    for cell, p in zip(cells, holm([cell.p for cell in cells]), strict=True):
        differs = p is not None and p < ALPHA
        yield cell.model_copy(update={"p": p} | ({"answer": "different"} if differs else {}))
