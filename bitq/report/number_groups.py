"""Make the numbers of the prose, in groups that share one place: an arm, a contrast, a network, a claim."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from bitq.grid.expand import expand
from bitq.grid.study import by_size, studies
from bitq.report import audit, names
from bitq.report.cost import parameters
from bitq.report.query import Query
from bitq.report.sources import Arm, Record, Sources
from bitq.report.tex import NONE, as_written, at, escape, interval, number, p_value, percent, signed
from bitq.report.values import Number, count, inline, interval_number, measure, words
from bitq.results.costs import cost_of, counted
from bitq.run import Run
from bitq.stats.cells import Cell
from bitq.stats.families import Family, group_of
from bitq.stats.inference import mean
from bitq.stats.published import Figure, published

Maker = Callable[[], Iterable[Number]]
Group = tuple[str, Maker]  # what follows the head in the keys, or a whole key; and what makes the numbers

PERCENT_UNITS = ("%", "% of the gap", "% of parameters", "% of weights")


def groups(sources: Sources) -> Iterator[Group]:
    """Yield all groups; keys depend on grid and configuration, not on the runs there are."""
    yield "", partial(_words, sources)
    for found in audit.numbers():
        yield found.key.removeprefix("audit."), partial(_one, found)
    for study in dict.fromkeys(map(group_of, studies())):
        of = sources.of(study)
        for part in (_arms, _contrasts, _recoveries, _networks):
            yield from part(of)
    for record in (*sources.claims["verdicts"], *sources.claims.get("checks", ())):
        yield f"verdict.{record['id']}", partial(_verdict, record)
    for figure in published().figures.values():
        yield f"pub.{figure.id}", partial(_published, figure)


def _one(number: Number) -> Iterator[Number]:
    yield number


def _words(sources: Sources) -> Iterator[Number]:
    yield from _of_runs(sources)
    yield from _of_settings(sources)
    yield count("claims total", sum(sources.verdicts.values()))
    for verdict, total in sources.verdicts.items():
        yield count(f"claims {verdict}", total)


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
        yield Number(f"setting of {study}", escape(Query(sources.of(group_of(study))).where()))
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
    for printed in sources.printed:
        known = sources.of(printed.study).families
        for family in printed.families:
            yield count(f"tests of {family.name}", at(known.get(family.name), "tests"))


# --- arms, contrasts, recoveries, networks ----------------------------------------------------------------------------


def _arms(sources: Sources) -> Iterator[Group]:
    for place in sources.grid_arms:
        key = ".".join((sources.study, *place))
        yield key, partial(_arm, sources, place, key)


def _arm(sources: Sources, place: Arm, key: str) -> Iterator[Number]:
    yield from _accuracy(key, sources.cells.get(place))
    yield from _file(key, Query(sources).cell(*place))


def _accuracy(key: str, record: Record | None) -> Iterator[Number]:
    middle, best = at(record, "mean"), at(record, "best_mean")
    yield measure(f"acc.{key}", middle, number(middle), percent=True)
    yield measure(f"sd.{key}", at(record, "sd"), number(at(record, "sd")))
    yield interval_number(f"ci.{key}", at(record, "interval"))
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


def _contrasts(sources: Sources) -> Iterator[Group]:
    places = dict.fromkeys((dataset, model) for dataset, model, _ in sources.grid_arms)
    for family in sources.prints.families:
        for dataset, model in places:
            for a, b in family.pairs:
                if {(dataset, model, a), (dataset, model, b)} <= sources.grid_arms.keys():
                    key = _contrast_key(family, dataset, model, a, b)
                    record = sources.contrasts.get((family.name, dataset, model, a, b))
                    yield key, partial(_contrast, key, record)


def _contrast_key(family: Family, dataset: str, model: str, a: str, b: str) -> str:
    place = f"{family.name}.{dataset}.{model}"
    return f"{place}.{a}.{b}" if len(family.pairs) > 1 else place


def _contrast(key: str, record: Record | None) -> Iterator[Number]:
    difference, effect, smallest = (at(record, name) for name in ("difference", "d_z", "detectable"))
    yield measure(f"diff.{key}", difference, signed(difference))
    yield interval_number(f"diffci.{key}", at(record, "interval"), sign=True)
    yield count(f"n.{key}", at(record, "n"))
    yield Number(f"change.{key}", change(record), () if difference is None else (difference,))
    for head, p in (("p", at(record, "p")), ("holm", at(record, "p_holm"))):
        yield measure(f"{head}.{key}", p, p_value(p))
    yield measure(f"dz.{key}", effect, number(effect))
    yield measure(f"mde.{key}", smallest, number(smallest, 1))


def change(record: Record | None) -> str:
    r"""Format a difference in points with its interval, which one pair does not have.

    >>> change({"difference": -0.5, "interval": None, "n": 1})
    '\\ensuremath{-0.50} points (n = 1)'
    """
    if record is None or record["difference"] is None:
        return NONE
    bounds = record["interval"]
    spread = inline(interval(bounds)) if bounds else f"(n = {record['n']})"
    return f"{inline(signed(record['difference']))} points {spread}"


def _recoveries(sources: Sources) -> Iterator[Group]:
    for dataset, model in dict.fromkeys((dataset, model) for dataset, model, _ in sources.grid_arms):
        for gap in sources.prints.gaps:
            if {(dataset, model, arm) for arm in (gap.kept, gap.low, gap.high)} <= sources.grid_arms.keys():
                key = ".".join((sources.study, dataset, model, gap.kept, gap.low))
                record = sources.recoveries.get((dataset, model, gap.kept, gap.low, gap.high))
                yield key, partial(_recovery, key, record)


def _recovery(key: str, record: Record | None) -> Iterator[Number]:
    ends = at(record, "interval")
    share = at(record, "share") if ends else None  # undefined for a gap that may be zero
    yield measure(f"rec.{key}", None if share is None else 100 * share, percent(share), percent=True)
    yield interval_number(f"recci.{key}", ends and [100 * end for end in ends], digits=0)


def _networks(sources: Sources) -> Iterator[Group]:
    for (dataset, model, _), run in sources.grid_arms.items():
        if run.stem == "cifar" and counted(run):
            key = ".".join(("full", sources.study, dataset, model))
            yield key, partial(_network, key, run)


def _network(key: str, run: Run) -> Iterator[Number]:
    cost = cost_of(run)
    yield measure(f"macs.{key}", cost["macs"] / 1e6, number(cost["macs"] / 1e6, 1))
    yield count(f"params.{key}", cost["parameters"])


# --- claims and published figures -------------------------------------------------------------------------------------


def _verdict(record: Record) -> Iterator[Number]:
    yield words(f"verdict.{record['id']}", names.verdict(record["verdict"]))


def _published(figure: Figure) -> Iterator[Number]:
    key, value = f"pub.{figure.id}", figure.value
    if figure.range:
        between = "--" if min(figure.range) >= 0 else " to "
        yield Number(key, between.join(inline(f"${bound:g}$") for bound in figure.range), figure.range)
    elif isinstance(value, float):
        # Accuracies and differences with two digits, anything else as it was written down.
        text = number(value) if figure.unit in ("%", "points") else as_written(value)
        yield measure(key, value, text, figure.unit in PERCENT_UNITS)
    else:
        yield Number(key, escape(value))
