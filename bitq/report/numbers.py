r"""Every number that prose may need, under a key: `\bq{acc.cifar10.resnet18.bitnet}`, `\bq{expected runs of bitnet}`.

Keys are built from the names of the grid, and listed with their values in numbers.md:

  HEAD.<data set>.<network>.<arm>                acc sd ci n best bytes compression bits codebits zeros params
  HEAD.<family>.<data set>.<network>             diff diffci p holm dz mde, where a family has one pair of arms
  HEAD.<family>.<data set>.<network>.<arm>.<arm> the same, first arm minus second, where it has several
  HEAD.<data set>.<network>.<kept>.<low>         rec recci: percent of the gap that starts at <low>
  HEAD.full.<data set>.<network>                 macs params stemshare of the published network

Of a study other than the first, the data set comes after the study: `acc.ring.cifar10.resnet20.fp32`. Further numbers
of a study come from its own module (OF_STUDY), and exist when its results do.

  pub.<id>, verdict.<id>                         \pub{id} and \verdict{id}: config/published.yaml, config/claims.yaml
  words                                          runs, seeds, hours, claims, machines, settings

What does not exist at the scale shown is a dash, never an undefined key.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bitq.grid.expand import expand
from bitq.grid.study import by_size, studies
from bitq.io import write_atomic
from bitq.report import atq, multimodal, names, precision, ring
from bitq.report.cost import cost_of, counted, parameters
from bitq.report.names import BITNET_MODELS
from bitq.report.query import Query
from bitq.report.sources import STUDY, Arm, Record, Sources, load
from bitq.report.tex import as_written, at, escape, number, p_value, percent, signed
from bitq.report.values import Number, count, inline, measure, span, words
from bitq.run import Run
from bitq.stats.cells import Cell
from bitq.stats.families import Family, group_of
from bitq.stats.inference import mean
from bitq.stats.published import Figure, published
from bitq.studies.catalogue import families, gaps

# Further numbers of a study: one function in bitq/report/<study>.py, called if the study has results.
OF_STUDY: dict[str, Callable[[Query], Iterator[Number]]] = {
    "atq": atq.numbers,
    "multimodal": multimodal.numbers,
    "precision": precision.numbers,
    "ring": ring.numbers,
}

PERCENT_UNITS = ("%", "% of the gap", "% of parameters", "% of weights")
PREAMBLE = r"""% Written by: bitq numbers. A change here is lost; numbers.md lists the keys.
\makeatletter
\providecommand*{\bqset}[2]{\expandafter\def\csname bq:#1\endcsname{#2}}
\providecommand*{\bq}[1]{\ifcsname bq:#1\endcsname\csname bq:#1\endcsname\else\bqundefined{#1}\fi}
\providecommand*{\pub}[1]{\bq{pub.#1}}
\providecommand*{\verdict}[1]{\bq{verdict.#1}}
\protected\def\bqundefined#1{\errmessage{There is no number `#1'; numbers.md lists the keys}}
\makeatother
"""


def write_numbers(tables: Path, stats: Path, claims: Path, out: Path) -> list[Path]:
    """Write numbers.tex and its index numbers.md into `out`; equal results give equal bytes."""
    found = numbers(load(tables, stats, claims))
    texts = {"numbers.tex": tex_of(found), "numbers.md": index(found)}
    for name, text in texts.items():
        write_atomic(out / name, text.encode())
    return [out / name for name in texts]


def tex_of(found: Iterable[Number]) -> str:
    """Render the numbers as LaTeX definitions."""
    return PREAMBLE + "".join(f"\\bqset{{{of.key}}}{{{of.text}}}\n" for of in found)


def index(found: list[Number]) -> str:
    """Render the naming rule of the keys and all keys with their values, for whoever writes the prose."""
    rows = "".join(f"| `{of.key}` | {_readable(of.text)} |\n" for of in found)
    return f"```\n{__doc__}```\n\n| key | value |\n|---|---|\n{rows}"


def _readable(text: str) -> str:
    return re.sub(r"\\ensuremath\{([^{}]*)\}", r"\1", text).replace(r"\,", " ").replace("|", "\\|")


def numbers(sources: Sources) -> list[Number]:
    """Compute all numbers; but for a study's own, keys depend on grid and configuration, not on the runs there are."""
    parts = (_of_runs, _of_settings, _of_arms, _of_contrasts, _of_recoveries, _of_networks, _of_claims)
    found = [each for part in parts for each in part(sources)]
    found += [_published(figure) for figure in published().figures.values()]
    found += [each for study, own in OF_STUDY.items() if sources.shows(study) for each in own(Query(sources.of(study)))]
    assert len({each.key for each in found}) == len(found)
    return found


# --- runs and settings ------------------------------------------------------------------------------------------------


def _of_runs(sources: Sources) -> Iterator[Number]:
    census, runs = sources.census, sources.all_runs
    yield count("expected runs", census.expected)
    yield count("missing runs", census.missing)
    yield from _of_rows(runs, "")
    for study in studies():
        scales = census.scales.get(study, ())
        planned = expand(study, by_size(scales)[0] if scales else sources.scale)
        yield count(f"expected runs of {study}", len(planned))
        yield count(f"distilled runs of {study}", sum(run.distillation is not None for run in planned))
        yield words(f"scale of {study}", *scales)
        yield from _of_rows(runs[runs["study"] == study], f" of {study}")
    yield words("scale", sources.by_scale({}))
    yield words("root digest", census.root[:12])
    for column in ("device", "machine", "threads", "torch", "mode", "precision", "width", "epochs"):
        yield words(f"{column} of runs", *sorted(runs[column].unique()))
    yield words("code digest", *sorted(digest[:12] for digest in runs["code_sha256"].unique()))


def _of_rows(rows: Any, of: str) -> Iterator[Number]:
    hours = float(rows["wall_seconds"].sum()) / 3600
    yield count(f"present runs{of}", len(rows))
    yield count(f"diverged runs{of}", int((rows["status"] == "diverged").sum()))
    yield count(f"collapsed runs{of}", int(rows["collapsed"].fillna(False).astype(bool).sum()))
    yield measure(f"hours{of}", hours, number(hours))
    yield words(f"seeds{of}", *sorted(rows["seed"].unique()))


def _of_settings(sources: Sources) -> Iterator[Number]:
    settings = sources.stats["settings"]
    for key, name in (("level", "level"), ("alpha", "alpha"), ("power", "power")):
        share = 100 * settings[name]
        yield Number(key, f"{share:g}", (share,), percent=True)  # as in prose
    yield Number("parity margin", f"{settings['parity_margin']:g}")
    for family in families():
        yield count(f"tests of {family.name}", at(sources.of(family.study).families.get(family.name), "tests"))


# --- arms, contrasts, recoveries, networks ----------------------------------------------------------------------------


@cache
def _grid(study: str) -> tuple[Run, ...]:
    """List every run that a study and its extension have at full scale."""
    return tuple(run for part in studies() if group_of(part) == study for run in expand(part, "full"))


def _groups() -> list[str]:
    return list(dict.fromkeys(map(group_of, studies())))


def _arms(study: str) -> list[Arm]:
    """List every arm that the grid has at any scale."""
    return list(dict.fromkeys((run.data.dataset, run.model, run.arm) for run in _grid(study)))


def key_of(study: str, *place: str) -> str:
    """Build the part of a key that names the place; the first study is not named.

    >>> key_of("ring", "cifar10", "resnet20", "fp32"), key_of("bitnet", "cifar10", "resnet18", "fp32")
    ('ring.cifar10.resnet20.fp32', 'cifar10.resnet18.fp32')
    """
    return ".".join(place if study == STUDY else (study, *place))


def _of_arms(sources: Sources) -> Iterator[Number]:
    for study in _groups():
        query = Query(sources.of(study))
        for place in _arms(study):
            key, record = key_of(study, *place), query.sources.cells.get(place)
            yield from _accuracy(key, record)
            yield from _file(key, query.cell(*place))


def _accuracy(key: str, record: Record | None) -> Iterator[Number]:
    middle, best = at(record, "mean"), at(record, "best_mean")
    yield measure(f"acc.{key}", middle, number(middle), percent=True)
    yield measure(f"sd.{key}", at(record, "sd"), number(at(record, "sd")))
    yield span(f"ci.{key}", at(record, "interval"))
    yield measure(f"best.{key}", best, number(best), percent=True)
    yield count(f"n.{key}", at(record, "n"))


def _file(key: str, of: Cell | None) -> Iterator[Number]:
    def measured(column: str) -> float | None:
        return None if of is None else mean(of.values(column))

    zeros = measured("zeros")
    yield count(f"bytes.{key}", measured("file_bytes"))
    yield count(f"params.{key}", None if of is None else parameters(of))
    for head, column, digits in (
        ("compression", "compression", 2),
        ("bits", "bits_per_parameter", 3),
        ("codebits", "bits_per_packed_weight", 3),
    ):
        yield measure(f"{head}.{key}", measured(column), number(measured(column), digits))
    yield measure(f"zeros.{key}", None if zeros is None else 100 * zeros, percent(zeros), percent=True)


def _of_contrasts(sources: Sources) -> Iterator[Number]:
    for family in families():
        arms, known = set(_arms(family.study)), sources.of(family.study).contrasts
        for dataset, model in dict.fromkeys((dataset, model) for dataset, model, _ in _arms(family.study)):
            for a, b in family.pairs:
                if {(dataset, model, a), (dataset, model, b)} <= arms:
                    record = known.get((family.name, dataset, model, a, b))
                    yield from _contrast(_contrast_key(family, dataset, model, a, b), record)


def _contrast_key(family: Family, dataset: str, model: str, a: str, b: str) -> str:
    place = f"{family.name}.{key_of(family.study, dataset, model)}"
    return f"{place}.{a}.{b}" if len(family.pairs) > 1 else place


def _contrast(key: str, record: Record | None) -> Iterator[Number]:
    difference, effect, smallest = (at(record, name) for name in ("difference", "d_z", "detectable"))
    yield measure(f"diff.{key}", difference, signed(difference))
    yield span(f"diffci.{key}", at(record, "interval"), sign=True)
    for head, p in (("p", at(record, "p")), ("holm", at(record, "p_holm"))):
        yield measure(f"{head}.{key}", p, p_value(p))
    yield measure(f"dz.{key}", effect, number(effect))
    yield measure(f"mde.{key}", smallest, number(smallest, 1))


def _of_recoveries(sources: Sources) -> Iterator[Number]:
    for gap in gaps():
        arms, known = set(_arms(gap.study)), sources.of(gap.study).recoveries
        for dataset, model in dict.fromkeys((dataset, model) for dataset, model, _ in _arms(gap.study)):
            if {(dataset, model, arm) for arm in (gap.kept, gap.low, gap.high)} <= arms:
                record = known.get((dataset, model, gap.kept, gap.low, gap.high))
                yield from _recovery(f"{key_of(gap.study, dataset, model)}.{gap.kept}.{gap.low}", record)


def _recovery(key: str, record: Record | None) -> Iterator[Number]:
    ends = at(record, "interval")
    share = at(record, "share") if ends else None  # undefined for a gap that may be zero
    yield measure(f"rec.{key}", None if share is None else 100 * share, percent(share), percent=True)
    yield span(f"recci.{key}", ends and [100 * end for end in ends], digits=0)


def _of_networks(sources: Sources) -> Iterator[Number]:
    runs = [run for study in _groups() for run in _grid(study) if run.stem == "cifar" and counted(run)]
    networks = {f"full.{key_of(group_of(run.study), run.data.dataset, run.model)}": run for run in runs}
    for key, run in networks.items():
        cost = cost_of(run)
        yield measure(f"macs.{key}", cost["macs"] / 1e6, number(cost["macs"] / 1e6, 1))
        yield count(f"params.{key}", cost["parameters"])
        if run.model in BITNET_MODELS:
            share = 100 * 9 * run.data.channels * run.width / cost["parameters"]  # weights of a 3×3 convolution
            yield measure(f"stemshare.{key}", share, number(share, 4), percent=True)


# --- claims and published figures -------------------------------------------------------------------------------------


def _of_claims(sources: Sources) -> Iterator[Number]:
    yield count("claims total", sum(sources.verdicts.values()))
    for verdict, total in sources.verdicts.items():
        yield count(f"claims {verdict}", total)
    for record in [*sources.claims["verdicts"], *sources.claims.get("checks", [])]:
        yield words(f"verdict.{record['id']}", names.verdict(record["verdict"]))


def _published(figure: Figure) -> Number:
    key, value = f"pub.{figure.id}", figure.value
    if figure.range:
        between = "--" if min(figure.range) >= 0 else " to "
        return Number(key, between.join(inline(f"${bound:g}$") for bound in figure.range), figure.range)
    if isinstance(value, float):
        # Accuracies and differences with two digits, anything else as it was written down.
        text = number(value) if figure.unit in ("%", "points") else as_written(value)
        return measure(key, value, text, figure.unit in PERCENT_UNITS)
    return Number(key, escape(value))
