"""Read the cases that were investigated, config/investigated.yaml, as rows of a table."""

from collections.abc import Iterator
from typing import Any, Literal

from bitq.io import read_json
from bitq.paths import config_dir, measured_dir
from bitq.records import Frozen, read_yaml
from bitq.report import names
from bitq.report.query import Query
from bitq.report.tex import Tex, breakable, escape, number

FILE, TRIED = "investigated.yaml", "investigated.json"


class Case(Frozen):
    """Arms that did worse than expected, and what was found."""

    seen: str
    arms: tuple[str, ...]  # STUDY/DATASET/NETWORK/ARM
    tried: tuple[str, ...] = ()  # names of further runs
    verdict: Literal["bug", "recipe", "budget", "finding"]
    found: str


class Cases(Frozen):
    """The contents of config/investigated.yaml."""

    cases: tuple[Case, ...]


def cases() -> tuple[Case, ...]:
    """List the cases of config/investigated.yaml."""
    found: Cases = read_yaml(Cases, config_dir() / FILE)
    return found.cases


def tried() -> dict[str, Any]:
    """Read the records of runs that were made to investigate, by their names."""
    found: dict[str, Any] = read_json(measured_dir() / TRIED)
    return found


def rows(query: Query) -> list[dict[str, Any]]:
    """List the cases of which an arm was run, with the accuracies of all their arms."""
    return [
        case.model_dump() | {"evidence": Tex("; ".join(measured))}
        for case in cases()
        if (measured := list(_measured(query, case)))
    ]


def _measured(query: Query, case: Case) -> Iterator[str]:
    networks = {name.split("/")[2] for name in case.arms}
    arms = [text for name in case.arms if (text := _accuracy(query, name, len(networks) > 1))]
    yield from arms
    if arms:
        yield from (f"{breakable(name)}: {_outcome(query.track(tried()[name]))}" for name in case.tried)


def _outcome(record: dict[str, Any]) -> str:
    return "diverged" if record["accuracy"] is None else number(record["accuracy"])


def _accuracy(query: Query, name: str, with_network: bool) -> str | None:
    study, dataset, model, arm = name.split("/")
    if not query.sources.shows(study):
        return None
    of_study = query.of(study)
    label = of_study.sources.prints.label(arm)
    score = of_study.score(dataset, model, arm)
    named = f"{names.short(names.model(model))}, {label}" if with_network else label
    return f"{escape(named)}: {number(score.mean)}" if score else None
