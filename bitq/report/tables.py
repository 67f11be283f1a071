"""List the tables of all studies together, and write them and those of each study."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bitq.io import write_atomic
from bitq.report import claimed, contrasts, protocol
from bitq.report.query import Query
from bitq.report.sources import Sources
from bitq.report.table import Template

TABLES = (
    Template("configuration", protocol.configuration),
    Template("run_counts", protocol.run_counts),
    contrasts.Pivot(
        "contrasts",
        contrasts.everything,
        "All contrasts, by the family within which Holm's correction was made: << rows.significant >> of "
        f"<< rows.tests >> differ from zero after it. {contrasts.EXPLAINED} Everything else that was computed ($p$ "
        "before the correction, Welch's $p$, $d_z$, Hedges' $g$, intervals over seeds and test images, "
        "$p_\\mathrm{eq}$) is in \\code{contrasts.csv} beside this document's sources. "
        "<< query.everywhere() >> << query.counts() >>",
        gap="3pt",
    ),
    Template("deviations", protocol.deviations),
    Template("claims", claimed.claims),
    Template("published_vs_ours", claimed.published_vs_ours),
)


def write_tables(sources: Sources, out: Path) -> list[Path]:
    """Write every table into `out`, and all contrasts as one file; equal results give equal bytes."""
    written = []
    for name, text in tables(sources).items():
        written.append(out / f"{name}.tex")
        write_atomic(written[-1], text().encode())
    written.append(out / contrasts.FILE)
    write_atomic(written[-1], contrasts.csv(sources))
    return written


def tables(sources: Sources) -> dict[str, Callable[[], str]]:
    """Return what renders each table as LaTeX; one of a study without results says so."""
    found: dict[str, Callable[[], str]] = {table.name: partial(table.text, Query(sources)) for table in TABLES}
    for printed in sources.printed:
        of_study = sources.of(printed.study)
        found |= {table.name: partial(table.text, Query(of_study)) for table in printed.tables}
    return found
