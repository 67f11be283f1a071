"""List every table of the paper with the function of its rows and its template, and write them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bitq.io import write_atomic
from bitq.report import accuracy, atq, claimed, contrasts, cost, multimodal, names, precision, protocol, ring
from bitq.report.fragments import CONTRASTS
from bitq.report.notes import Notes
from bitq.report.query import Query
from bitq.report.sources import STUDY, Sources, load
from bitq.report.tex import render


@dataclass(frozen=True)
class Table:
    """A table whose template `<name>.tex.j2` makes `<name>.tex`, labelled tab:<name>, if its study has results."""

    name: str
    rows: Callable[[Query], Any]
    study: str = STUDY


TABLES = (
    Table("configuration", protocol.configuration),
    Table("run_counts", protocol.run_counts),
    Table("stem_effect", accuracy.stem_effect),
    Table("accuracy", accuracy.accuracy),
    Table("layer_ablation", accuracy.layer_ablation),
    Table("kd_effect", accuracy.kd_effect),
    Table("recipe_vs_fp32", accuracy.recipe_vs_fp32),
    Table("model_size", cost.model_size),
    Table("recipe_vs_ttq", accuracy.recipe_vs_ttq),
    Table("efficiency", cost.efficiency),
    Table("significance", partial(accuracy.tests, families=("bitnet_vs_fp32", "bitnet_vs_ttq"))),
    Table("controls", contrasts.controls),
    Table("ring_accuracy", ring.headline, "ring"),
    Table("ring_codebooks", ring.codebooks, "ring"),
    Table("ring_methods", ring.methods, "ring"),
    Table("atq_headline", atq.headline, "atq"),
    Table("atq_ablations", atq.ablations, "atq"),
    Table("atq_sparsity", atq.sparsity, "atq"),
    Table("atq_sizes", atq.sizes, "atq"),
    Table("precision_training", precision.training, "precision"),
    Table("precision_casts", precision.casts, "precision"),
    Table("precision_bits", precision.bits, "precision"),
    Table("precision_linear", precision.linear, "precision"),
    Table("precision_components", precision.components, "precision"),
    Table("precision_backends", precision.backends, "precision"),
    Table("multimodal_accuracy", multimodal.accuracy, "multimodal"),
    Table("multimodal_bytes", multimodal.sizes, "multimodal"),
    # Of all studies.
    Table("contrasts", contrasts.everything),
    Table("deviations", protocol.deviations),
    Table("claims", claimed.claims),
    Table("published_vs_ours", claimed.published_vs_ours),
)


def write_tables(tables: Path, stats: Path, claims: Path, out: Path) -> list[Path]:
    """Write every table into `out`, and all contrasts as one file; equal results give equal bytes."""
    sources = load(tables, stats, claims)
    written = []
    for table in TABLES:
        if not sources.shows(table.study):
            continue
        written.append(out / f"{table.name}.tex")
        write_atomic(written[-1], table_text(table, sources).encode())
    written.append(out / CONTRASTS)
    write_atomic(written[-1], contrasts.csv(sources))
    return written


def table_text(table: Table, sources: Sources) -> str:
    """Render one table as LaTeX."""
    query = Query(sources.of(table.study))
    values = {"rows": table.rows(query), "query": query, "notes": Notes(), "names": names}
    return render(f"{table.name}.tex.j2", name=table.name, source=place(table.rows), **values)


def place(function: Callable[..., Any]) -> str:
    """Name the module and function of a table, as the margin of the paper prints it."""
    plain = function.func if isinstance(function, partial) else function
    return f"{plain.__module__.replace('.', '/')}.py:{plain.__name__}"
