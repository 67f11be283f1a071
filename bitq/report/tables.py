"""List the tables of all studies together, and write them and those of each study."""

from functools import partial
from pathlib import Path

from bitq.io import write_atomic
from bitq.report import audit, claimed, contrasts, investigated, names, overview, protocol
from bitq.report.columns import BITS, BYTES, COMPRESSION, Column, accuracy, label
from bitq.report.query import Query
from bitq.report.sources import Sources
from bitq.report.table import HERE, SPACE, Table, Template
from bitq.report.tex import Tex, breakable, marked, number

TABLES = (
    Template("configuration", protocol.configuration),
    Template("run_counts", protocol.run_counts),
    contrasts.Pivot(
        "contrasts",
        contrasts.everything,
        "All contrasts, by the family within which Holm's correction was made: << rows.significant >> of "
        f"<< rows.tests >> differ from zero after it. {contrasts.EXPLAINED} Everything else that was computed ($p$ "
        "before the correction, Welch's $p$, $d_z$, Hedges' $g$, intervals over seeds and test images, "
        "$p_\\mathrm{eq}$) is in \\code{all-contrasts.csv} beside this document's sources.",
        gap="3pt",
    ),
    Template("deviations", protocol.deviations),
    Table(
        "main_deviations",
        protocol.main_deviations,
        (
            Column("What", lambda row, _: marked(row["what"]), r">{\raggedright}p{34mm}"),
            Column("Original", lambda row, _: marked(row["original"]), r">{\raggedright}p{58mm}"),
            Column("Here", lambda row, _: marked(row["here"]), r">{\raggedright\arraybackslash}p{58mm}"),
        ),
        "The deviations from the published protocols that change most, by study.",
        group=lambda row: row["study"],
        between=SPACE,
        size=r"\scriptsize",
    ),
    Table(
        "protocol",
        overview.designs,
        (
            Column("Study", lambda row, _: Tex(rf"\code{{{row.study}}}"), "l"),
            Column("Networks", lambda row, _: row.values("model"), r">{\raggedright}p{23mm}"),
            Column("Data", lambda row, _: row.values("dataset"), r">{\raggedright}p{30mm}"),
            Column("Width", lambda row, _: row.values("width")),
            Column("Epochs", lambda row, _: row.values("epochs")),
            Column("Arms", lambda row, _: row.runs["arm"].nunique()),
            Column("Seeds", lambda row, _: row.seeds),
            Column("Runs", lambda row, _: len(row.runs)),
            Column("Hours", lambda row, _: number(overview.hours(row), 1)),
        ),
        "The protocol in one table, as the runs shown have it. Seeds are those of one arm; hours of training, packing "
        "and reading back are added over processes.",
    ),
    Table(
        "fronts",
        overview.fronts,
        (
            label("Arm"),
            Column("Network", lambda line, _: names.model(line.model), "l"),
            accuracy(),
            BYTES,
            COMPRESSION,
            BITS,
            Column("n", lambda line, _: line.n),
        ),
        "The Pareto front: arms for which no file of the same size or smaller is as accurate, from small to large. "
        "Accuracy of the packed file in percent, mean and sample standard deviation over n seeds; its bytes; the "
        "factor by which it is smaller than the same network in 32-bit floating point; the bits of a packed weight.",
        group=lambda line: line.group,
        between=SPACE,
        size=r"\scriptsize",
        breaks=True,
    ),
    Template("verdicts", claimed.verdicts),
    Table(
        "audit",
        audit.rows,
        (
            Column("Defect", lambda row, _: row["defect"], r">{\raggedright}p{74mm}"),
            Column("Shown by", lambda row, _: row["shown_by"], r">{\raggedright}p{34mm}"),
            Column("Test", lambda row, _: breakable(row["test"].removeprefix("test_")), r"p{48mm}"),
        ),
        "What the originals' programs and texts do, each with the test in \\code{tests/test\\_audit.py} that derives "
        "it anew: from the published arithmetic, by counting, or from recorded figures. They run with the test suite.",
        group=lambda row: row["title"],
        between=SPACE,
        size=r"\scriptsize",
    ),
    Table(
        "checks",
        claimed.checks,
        (
            Column("Check", lambda row, _: row["claim"], r">{\raggedright}p{100mm}"),
            Column("Work", lambda row, _: row["work"], "l"),
            Column("Outcome", lambda row, _: names.verdict(row["verdict"]), "l"),
        ),
        "Statements that are true or false by construction, of our grid, format or rules. No count of verdicts "
        "includes them.",
        position=HERE,  # a long table follows, which would send a float to a page of its own
    ),
    Table(
        "investigated",
        investigated.rows,
        (
            Column("Seen", lambda row, _: row["seen"], r">{\raggedright}p{29mm}"),
            Column("Accuracy, \\%", lambda row, _: row["evidence"], r">{\raggedright}p{45mm}"),
            Column("Verdict", lambda row, _: row["verdict"], "l"),
            Column("Found", lambda row, _: row["found"], r">{\raggedright\arraybackslash}p{72mm}"),
        ),
        "Arms that did worse than their method should, or than their neighbours, and what was found: a bug, a recipe "
        "that was changed, a budget that is too small, or a finding. Accuracies are means over the seeds of this "
        "build; those of runs that were made to investigate are of one seed.",
        size=r"\scriptsize",
        breaks=True,
    ),
    Template("claims", claimed.claims),
    Template("published_vs_ours", claimed.published_vs_ours),
)


def write_tables(sources: Sources, out: Path) -> list[Path]:
    """Write every table and its data into `out`, and all contrasts as one file; equal results give equal bytes."""
    written = []
    for name, text in tables(sources).items():
        (query,) = text.args  # what the rendering asks of it is the data
        for kind, content in (("tex", text().encode()), ("csv", query.data())):
            written.append(out / f"{name}.{kind}")
            write_atomic(written[-1], content)
    written.append(out / contrasts.FILE)
    write_atomic(written[-1], contrasts.csv(sources))
    return written


def tables(sources: Sources) -> dict[str, partial[str]]:
    """Return what renders each table as LaTeX; one of a study without results says so."""
    found: dict[str, partial[str]] = {table.name: partial(table.text, Query(sources)) for table in TABLES}
    for printed in sources.printed:
        of_study = sources.of(printed.study)
        found |= {table.name: partial(table.text, Query(of_study)) for table in printed.tables}
    return found
