"""Render the parts of the paper's text that are data: title, first page, scales, sections, the last appendix."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bitq.errors import DataError
from bitq.grid.expand import expand
from bitq.grid.paper import Config
from bitq.grid.study import by_size
from bitq.grid.study import scale as read_scale
from bitq.grid.study import scales as all_scales
from bitq.io import sha256_file, write_atomic
from bitq.paths import config_dir
from bitq.report import contrasts, names, prose
from bitq.report.query import Query, least_to_most
from bitq.report.sources import Sources
from bitq.report.tex import Tex, render
from bitq.stats.families import group_of

Row = dict[str, Any]
# The mark in a caption, and the label behind it.
PROVENANCE = re.compile(
    r"\\provenance\{(?P<place>[^}]+)\}\{(?P<digest>\w+)\}(?:(?!\\provenance\{).)*?"
    r"\\label\{(?P<label>(?:tab|fig):[^}]+)\}",
    re.S,
)
DOCUMENTS = ("main", "supplement")
MAKERS = {"tab": "bitq tables", "fig": "bitq figures"}
DERIVED = (
    "runs.parquet",
    "curves.parquet",
    "layers.parquet",
    "stats.json",
    "claims.json",
    f"paper/tables/{contrasts.FILE}",
)
LIBRARIES = ("numpy", "pandas", "pyarrow", "scipy", "statsmodels", "matplotlib", "jinja2")


class Artefact(NamedTuple):
    """A table or figure of the paper, and its provenance."""

    label: str
    maker: str
    place: Tex  # the function, as LaTeX
    digest: str


def write_fragments(sources: Sources, build_dir: Path, folder: Path, chosen: Config) -> list[Path]:
    """Write the fragments to `folder`, which holds the paper's sources, the tables and the figures."""
    shown = [study for study in chosen.studies if study in set(sources.all_runs["study"])]
    values = {"config": chosen, "sources": sources, "query": Query(sources), "names": names, "scale": sources.scale}
    values |= {"scales": sources.by_scale({}), "trained_on": sources.by_scale(chosen.images)}
    parts: dict[str, Callable[[], Row]] = {
        "title": lambda: {"version": version("bitq"), "shown": shown},
        "notice": lambda: {"rows": images(sources)},
        "scales": lambda: {"rows": scales(shown)},
        "studies": lambda: {"studies": [checked_section(folder, study) for study in shown]},
        "results": lambda: {"studies": [study for study in shown if _section(folder, f"result-{study}").exists()]},
        "availability": lambda: {"version": version("bitq"), **compute(sources.all_runs)},
    }
    for name, more in parts.items():
        write_atomic(folder / f"{name}.tex", render(f"paper/{name}.tex.j2", **values, **more()).encode())
    prose.prune(folder, DOCUMENTS, shown)
    # Last, since it lists what is read after that.
    appendix = render("paper/reproducibility.tex.j2", **values, **behind(build_dir, folder, sources))
    write_atomic(folder / "reproducibility.tex", appendix.encode())
    return [folder / f"{name}.tex" for name in (*parts, "reproducibility")]


def behind(build_dir: Path, folder: Path, sources: Sources) -> Row:
    """Collect the contents of the last appendix."""
    return {
        "artefacts": list(artefacts(folder)),
        "machines": machines(sources.all_runs),
        "seeds": seeds(sources.all_runs),
        "inputs": digests(build_dir),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def _section(folder: Path, name: str) -> Path:
    return folder / "sections" / f"{name}.tex"


def checked_section(folder: Path, study: str) -> str:
    """Return the study if its section is written; results without a section are an error."""
    if not _section(folder, f"study-{study}").exists():
        raise DataError(f"study {study!r} has results, but paper/sections/study-{study}.tex does not exist; write it.")
    return study


def images(sources: Sources) -> list[Row]:
    """Describe the data sets at the scale at which they are shown, those of one kind together."""
    columns = ["variant", "classes", "image_size"]
    runs = pd.concat([sources.of(study).runs[["dataset", *columns]] for study in sources.groups])
    kinds = runs.groupby(columns, sort=False)["dataset"].unique()
    return [
        dict(zip(columns, kind, strict=True)) | {"datasets": [names.dataset(name) for name in datasets]}
        for kind, datasets in kinds.items()
    ]


def scales(studies: list[str]) -> list[Row]:
    """List all scales, from large to small, with their settings in each study."""
    return [
        {
            "scale": name,
            "summary": read_scale(name).summary,
            "studies": [_scale(study, name) for study in studies if study == group_of(study)],
        }
        for name in by_size(all_scales())
    ]


def _scale(study: str, name: str) -> Row:
    """Describe the runs of a study at a scale; networks that are only converted have no epochs."""
    runs = expand(study, name)
    trained = [run for run in runs if run.recipe.epochs]
    return {
        "study": study,
        "variants": sorted({run.data.variant for run in runs}),
        "widths": sorted({run.width for run in runs}),
        "epochs": sorted({run.recipe.epochs for run in trained}),
        "batches": sorted({run.recipe.batch for run in trained}),
        "rates": sorted({run.recipe.lr_every for run in trained}),
        "precisions": sorted({run.precision for run in trained}),
        "seeds": sorted(set(Counter((run.data.dataset, run.model, run.arm) for run in runs).values())),
    }


def artefacts(folder: Path) -> Iterator[Artefact]:
    """Yield every table and figure that the paper and its supplement read, in the order of their text."""
    for document in DOCUMENTS:
        for found in PROVENANCE.finditer("\n".join(in_order(folder, document))):
            yield Artefact(found["label"], MAKERS[found["label"][:3]], Tex(found["place"]), found["digest"])


def in_order(folder: Path, name: str) -> Iterator[str]:
    """Yield a TeX file, then those that it reads; a file that does not exist is left for LaTeX to report."""
    yield from (path.read_text(encoding="utf-8") for path in prose.read_by(folder, name))


def machines(runs: pd.DataFrame) -> list[Row]:
    """Summarise the machines that trained the runs, with runs and hours."""
    kinds = runs.groupby(["device", "machine", "threads", "mode", "torch", "code_sha256"], sort=True)
    totals = kinds.agg(runs=("id", "size"), hours=("wall_seconds", lambda seconds: seconds.sum() / 3600))
    found: list[Row] = totals.reset_index().to_dict("records")
    return found


def compute(runs: pd.DataFrame) -> Row:
    """Summarise devices, seeds of an arm and diverged runs for the statement on compute and the checklist."""
    kinds = runs.groupby(["device", "machine"], sort=True)
    totals = kinds.agg(runs=("id", "size"), hours=("wall_seconds", lambda seconds: seconds.sum() / 3600))
    counts = runs.groupby(["study", "dataset", "model", "arm"])["seed"].nunique()
    return {
        "compute": totals.reset_index().to_dict("records"),
        "seeds": least_to_most(counts),
        "diverged": int((runs["status"] == "diverged").sum()),
    }


def seeds(runs: pd.DataFrame) -> list[Row]:
    """List the seeds of each study."""
    return [
        {"study": study, "seeds": sorted(int(seed) for seed in rows["seed"].unique())}
        for study, rows in runs.groupby("study", sort=True)
    ]


def digests(build_dir: Path) -> dict[str, str]:
    """Compute the digests of results, statistics, verdicts, and the files that define the questions."""
    configs = [config_dir() / f"{name}.yaml" for name in ("paper", "claims", "published")]
    derived = [build_dir / name for name in DERIVED]
    found = {f"config/{path.name}": path for path in configs} | {f"build/{path.name}": path for path in derived}
    return {name: sha256_file(path) for name, path in found.items()}
