"""Read the findings of the audit, config/audit.yaml, as rows of a table."""

from typing import Any

from bitq.paths import config_dir
from bitq.records import Frozen, read_yaml
from bitq.report.query import Query
from bitq.stats.published import published

FILE = "audit.yaml"


class Finding(Frozen):
    """A defect of one original, what shows it, and the test that derives it anew."""

    work: str
    defect: str
    evidence: str
    test: str


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
    return [query.read(finding.model_dump() | {"title": works[finding.work].title}) for finding in findings()]
