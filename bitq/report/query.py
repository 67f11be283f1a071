"""Query the sources, recording the runs behind every answer."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pandas as pd

from bitq.catalogue import PUBLISHED_WIDTH
from bitq.errors import one_of
from bitq.io import canonical_json, sha256
from bitq.report import names
from bitq.report.sources import Record, Sources
from bitq.report.tex import counted, listed
from bitq.stats.cells import Cell
from bitq.stats.contrast import contrast
from bitq.stats.families import Family

# Columns of the table of runs that the data of a table or figure have.
BEHIND = (
    "scale", "id", "hash", "study", "dataset", "variant", "model", "width", "arm", "seed", "epochs", "status",
    "accuracy", "best_accuracy", "file_bytes", "compression", "bits_per_packed_weight", "zeros", "coverage",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """The accuracy of one arm, with its missing and diverged seeds."""

    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    n: int
    by_seed: dict[int, float]
    diverged: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


@dataclass
class Query:
    """The queries of one table or figure, with the runs that they used."""

    sources: Sources
    hashes: set[str] = field(default_factory=set)
    others: list[Record] = field(default_factory=list)  # records other than runs
    n: set[int] = field(default_factory=set)

    def of(self, study: str) -> "Query":
        """Return a query of another study that records its runs here too."""
        return replace(self, sources=self.sources.of(study))

    def each(self) -> Iterator["Query"]:
        """Yield a query for every study that has results."""
        return (self.of(study) for study in self.sources.groups if self.sources.shows(study))

    def cell(self, dataset: str, model: str, arm: str) -> Cell | None:
        """Return the runs of an arm; None if it was not run, an error if the study does not know it."""
        self.sources.check(dataset, model, arm)
        found = self.sources.arms.get((dataset, model, arm))
        if found is not None:
            self.hashes.update(found.rows["hash"])
            self.n.add(len(found.values()))
        return found

    def score(self, dataset: str, model: str, arm: str) -> Score | None:
        """Return the accuracy of an arm; None if no run of it is there."""
        found = self.cell(dataset, model, arm)
        if found is None:
            return None
        planned = self.sources.planned_seeds.get((dataset, model, arm), set())
        record = self.sources.cells[dataset, model, arm]
        return Score(
            mean=record["mean"],
            sd=record["sd"],
            interval=record["interval"],
            n=record["n"],
            by_seed=found.by_seed(),
            diverged=found.diverged,
            missing=tuple(sorted(planned - set(found.seeds))),
        )

    def contrast(self, family: str, dataset: str, model: str, a: str, b: str) -> Record | None:
        """Return the first arm minus the second from a family of contrasts; None if one of them was not run."""
        self._check_pair(family, a, b)
        record = self.sources.contrasts.get((family, dataset, model, a, b))
        return None if record is None else self._noted(record)

    def family(self, name: str) -> Iterator[Record]:
        """Yield all contrasts of a family."""
        self._check_family(name)
        if name in self.sources.families:
            yield from map(self._noted, self.sources.families[name]["contrasts"])

    def difference(self, dataset: str, model: str, a: str, b: str) -> Record | None:
        """Compute the first arm minus the second, whether or not a family contains it."""
        first, second = self.cell(dataset, model, a), self.cell(dataset, model, b)
        if first is None or second is None:
            return None
        return contrast(first, second, across=self.sources.stats["across"]).model_dump()

    def recovery(self, dataset: str, model: str, kept: str, low: str, high: str) -> Record | None:
        """Return the share of the gap between two arms that a third one recovers."""
        for arm in (kept, low, high):
            self.cell(dataset, model, arm)
        return self.sources.recoveries.get((dataset, model, kept, low, high))

    def curves(self, dataset: str, model: str, arm: str) -> pd.DataFrame:
        """Return all epochs of an arm's runs, with their seeds; empty if it was not run."""
        return self._rows_of(self.sources.all_curves, self.cell(dataset, model, arm))

    def layers(self, dataset: str, model: str, arm: str) -> pd.DataFrame:
        """Return all packed layers of an arm's runs, with their seeds, e.g. their histograms of codes."""
        return self._rows_of(self.sources.all_layers, self.cell(dataset, model, arm))

    def everything(self) -> pd.DataFrame:
        """Return all runs that the paper shows of the study and its extension."""
        self.hashes.update(self.sources.runs["hash"])
        return self.sources.runs

    def track(self, record: Record) -> Record:
        """Add a record that is no run to the provenance digest."""
        self.others.append(record)
        return record

    def digest(self) -> str:
        """Compute twelve hex digits that change with everything that was read."""
        rows = self._rows().sort_values("hash")
        return sha256(rows.to_csv(index=False) + canonical_json(self.others))[:12]

    def data(self) -> bytes:
        """Write as CSV what was read: the runs, or where there are none the records."""
        runs = self._rows().sort_values(["scale", "id"])
        columns = [name for name in BEHIND if name in runs.columns]
        table = runs[columns] if len(runs) else pd.json_normalize(self.others)
        text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
        return text.encode()

    def where(self) -> str:
        """Describe the scale, its data and its size in one sentence."""
        runs = self._rows() if self.hashes else self.sources.runs
        return _where(self.sources.scale, runs) or f"No run of the study is there at scale {self.sources.scale}."

    def everywhere(self) -> str:
        """Describe the scales of all studies, one sentence a scale."""
        runs = pd.concat([self.sources.of(study).runs for study in self.sources.groups])
        sentences = [_where(str(scale), rows) for scale, rows in runs.groupby("scale")]
        return " ".join(sentences) or self.where()

    def counts(self) -> str:
        """Describe the runs that were used; nothing if none were."""
        if not self.hashes:
            return ""
        diverged = int((self._rows()["status"] == "diverged").sum())
        return f"{counted(len(self.hashes), 'run')}, {diverged or 'none'} diverged."

    def seeds(self) -> str:
        """Return the number of seeds of the arms, or its range."""
        return least_to_most(pd.Series(sorted(self.n)))

    def seeds_behind(self) -> str:
        """Describe the number of seeds in a sentence; nothing if no arm was queried."""
        return f"n = {self.seeds()} {'seed' if self.n == {1} else 'seeds'}." if self.n else ""

    def hardware(self) -> str:
        """List the devices and machines that trained the runs used."""
        kinds = self._rows().groupby(["device", "machine", "threads"], sort=True).size()
        return listed(
            [f"{device} ({machine}, {counted(threads, 'thread')})" for device, machine, threads in kinds.index]
        )

    def verdicts(self) -> str:
        """List the numbers of claims by verdict."""
        return listed([f"{count} {names.verdict(verdict)}" for verdict, count in self.sources.verdicts.items()])

    def _check_family(self, name: str) -> Family:
        known = {each.name: each for each in self.sources.prints.families}
        if name not in known:
            raise one_of(f"family of contrasts of study {self.sources.study!r}:", name, known)
        return known[name]

    def _check_pair(self, family: str, a: str, b: str) -> None:
        pairs = {f"{first} - {second}" for first, second in self._check_family(family).pairs}
        if f"{a} - {b}" not in pairs:
            raise one_of(f"contrast of family {family!r}:", f"{a} - {b}", pairs)

    def _noted(self, record: Record) -> Record:
        runs = self.sources.runs
        arms = runs["arm"].isin((record["arm_a"], record["arm_b"]))
        here = (runs["dataset"] == record["dataset"]) & (runs["model"] == record["model"])
        seeds = [*record["seeds"], *record["diverged_a"], *record["diverged_b"]]
        self.hashes.update(runs.loc[here & arms & runs["seed"].isin(seeds), "hash"])
        self.n.add(record["n"])
        return self.track(record)

    def _rows_of(self, table: pd.DataFrame, of: Cell | None) -> pd.DataFrame:
        seeds = of.rows.set_index("hash")["seed"] if of else pd.Series(dtype="int64")
        rows = table[table["hash"].isin(seeds.index)]
        return rows.assign(seed=rows["hash"].map(seeds).astype("int64"))

    def _rows(self) -> pd.DataFrame:
        runs = self.sources.all_runs
        return runs[runs["hash"].isin(self.hashes)]


def _where(scale: str, runs: pd.DataFrame) -> str:
    if runs.empty:
        return ""
    return f"Scale {scale}: {_images(runs)}, {_width(runs)}, {_epochs(runs)}, {_seeds(runs)}."


def _images(runs: pd.DataFrame) -> str:
    variants = runs.groupby("dataset", sort=False)["variant"].first()
    usual = variants.mode().iloc[0]
    others = [f"{names.dataset(str(name))} as {variant}" for name, variant in variants.items() if variant != usual]
    kind = "textures in place of each data set's images" if usual.startswith("procedural") else "images"
    return f"{usual} {kind}{f' ({listed(others)})' if others else ''}"


def _width(runs: pd.DataFrame) -> str:
    return f"width {least_to_most(runs['width'])} of {least_to_most(runs['model'].map(PUBLISHED_WIDTH))}"


def _epochs(runs: pd.DataFrame) -> str:
    epochs = least_to_most(runs["epochs"])
    return f"{epochs} epoch{'' if epochs == '1' else 's'}"


def _seeds(runs: pd.DataFrame) -> str:
    seeds = least_to_most(runs.groupby(["study", "dataset", "model", "arm"])["seed"].nunique())
    return f"{seeds} seed{'' if seeds == '1' else 's'} an arm"


def least_to_most(values: "pd.Series[int]") -> str:
    """Format a number that all share, or the smallest and the largest."""
    if values.empty:
        return "0"
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low}–{high}"
