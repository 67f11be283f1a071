"""Read the findings of the audit, config/audit.yaml, as rows of a table."""

import re
from collections.abc import Iterator
from typing import Any

from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.report.query import Query
from bitq.report.values import Number, count
from bitq.stats.published import published

FILE = "audit.yaml"
COUNT = re.compile(r"\{([^{}]+)\}")


class Finding(Frozen):
    """A defect of one original, what shows it, and the test that derives it anew."""

    work: str
    defect: str
    evidence: str  # with counts in braces
    test: str
    counts: dict[str, int] = {}

    @property
    def shown_by(self) -> str:
        """Evidence with its counts filled in."""
        return COUNT.sub(lambda found: str(self.counts[found[1]]), self.evidence)


class Findings(Frozen):
    """The contents of config/audit.yaml."""

    findings: tuple[Finding, ...]


def findings() -> tuple[Finding, ...]:
    """List the findings of config/audit.yaml."""
    found: Findings = read_yaml(Findings, config_dir() / FILE)
    return found.findings


def rows(query: Query) -> list[dict[str, Any]]:
    """List the findings with the titles of their works."""
    works = published().works
    return [
        query.track(finding.model_dump() | {"title": works[finding.work].title, "shown_by": finding.shown_by})
        for finding in findings()
    ]


def numbers() -> Iterator[Number]:
    """Yield the number of findings, and every count that one of them rests on."""
    found = findings()
    yield count("audit findings", len(found))
    for finding in found:
        for name, many in finding.counts.items():
            yield count(f"audit.{name}", many)
