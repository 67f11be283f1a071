"""What is said of the runs: the claims with their evidence, and published accuracies beside ours."""

from collections.abc import Iterable
from typing import Any

from bitq.report import names
from bitq.report.claimed import published_vs_ours
from bitq.report.query import Query
from bitq.report.sources import Record, Sources
from bitq.stats.published import published

Row = dict[str, Any]


def claim_rows(sources: Sources) -> list[Row]:
    """Describe every claim with its limits, evidence and verdict; the page knows no more of claims than this."""
    works = published().works
    return [
        {
            "id": record["id"],
            "work": works[record["work"]].title if record["work"] in works else "This work",
            "source": record["source"],
            "claim": record["claim"],
            "note": record["note"],
            "published": [_text(value) for value in record["published"].values()],
            "scale": record["scale"],
            "verdict": names.verdict(record["verdict"]),
            "lacks": record["reason"].split("; ")[0] if record["verdict"] == "missing" else "",
            "evidence": [_evidence(each) for each in record["evidence"]],
        }
        for record in sources.claims["verdicts"]
    ]


def _evidence(record: Record) -> Row:
    low, high = record["limits"]
    return {
        "quantity": record["quantity"],
        "place": " ".join(filter(None, (names.dataset(record["dataset"]), names.model(record["model"])))),
        "limit": _limit(low, high),
        "estimate": _number(record["estimate"]),
        "interval": " to ".join(map(_number, record["interval"] or ())),
        "n": record["n"],
        "verdict": names.verdict(record["verdict"]),
        "note": record["note"],
    }


def _limit(low: float | None, high: float | None) -> str:
    """Describe the values that a claim allows.

    >>> _limit(0.0, None), _limit(None, 2.5), _limit(3.0, 3.0), _limit(1.0, 2.0)
    ('above 0', 'below 2.5', 'exactly 3', '1 to 2')
    """
    if low is None or high is None:
        return f"below {_number(high)}" if low is None else f"above {_number(low)}"
    return f"exactly {_number(low)}" if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    """Format to six digits; nothing for no value.

    >>> _number(153.0), _number(-0.123456789), _number(None)
    ('153', '-0.123457', '')
    """
    return "" if value is None else f"{value:.6g}"


def _text(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def published_rows(sources: Sources) -> list[Row]:
    """List published accuracies, each followed by ours in the original's way (best epoch) and in our way (last)."""
    return [_beside(row) for row in published_vs_ours(Query(sources))]


def _beside(row: Row) -> Row:
    figure, ours = row["published"], row["ours"]
    return {
        "study": row["study"],
        "dataset": names.dataset(row["dataset"]),
        "model": names.model(row["model"]),
        "arm": row["label"],
        "published": _percent(figure["value"]) if figure else "",
        "status": figure["status"].replace("_", " ") if figure else "",
        "source": figure["source"] if figure else "",
        "others": row["others"],
        "best": _percent(row["best_epoch"]),
        "ours": _percent(ours.mean) if ours else "",
        "sd": _percent(ours.sd) if ours else "",
        "n": ours.n if ours else 0,
    }


def _percent(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else ""
