"""Write all results as one HTML page that needs no network: Bokeh, style, script and data stand in the file."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bitq.errors import UsageError
from bitq.explore.columns import configurations, learning_curves, packed_layers, run_columns
from bitq.explore.plots import document
from bitq.explore.statements import claim_rows, published_rows
from bitq.explore.views import View, views
from bitq.grid.paper import config
from bitq.io import write_atomic
from bitq.report import names
from bitq.report.sources import VERDICTS, Sources

HERE = files("bitq.explore")
BOKEH = Resources(mode="inline", components=["bokeh"], log_level="error")
SCRIPTS = ("table", "figures", "run", "address", "start")
FILTERS = ("study", "scale", "dataset", "model", "method", "kd", "seed", "status")


def write_page(sources: Sources, out: Path) -> int:
    """Write the page, and return its size in bytes."""
    content = page(sources).encode()
    write_atomic(out, content)
    return len(content)


def page(sources: Sources) -> str:
    """Render the page."""
    runs = sources.all_runs
    if runs.empty:
        raise UsageError(
            "the tables hold no run, so there is nothing to show; train some, or call bitq aggregate for others."
        )
    placed = views(runs)
    return (
        Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        .from_string(_read("page.html.j2"))
        .render(
            title=config().title,
            notices=_notices(sources),
            census=sources.census,
            views=placed,
            claims=claim_rows(sources),
            scales=shown_scales(sources),
            verdicts=[names.verdict(verdict) for verdict in VERDICTS],
            published=published_rows(sources),
            style=Markup(_read("page.css")),
            bokeh=Markup("\n".join(BOKEH.js_raw)),
            document=Markup(_json_in_script(document(runs["id"].tolist(), placed))),
            data=Markup(_json_in_script(_data(sources, placed))),
            script=Markup("\n".join(_read(f"script/{name}.js") for name in SCRIPTS)),
        )
    )


def _data(sources: Sources, placed: tuple[View, ...]) -> str:
    runs = sources.all_runs
    described: dict[str, Any] = {
        "root": sources.census.root,
        "filters": FILTERS,
        "order": list(runs.columns),
        "columns": run_columns(runs),
        "config": configurations(runs),
        "curves": learning_curves(runs, sources.all_curves),
        "layers": packed_layers(runs, sources.all_layers),
        "names": {"dataset": names.DATASETS, "model": names.MODELS, "method": names.METHODS},
        "rows": {view.name: view.rows for view in placed},
    }
    return json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _notices(sources: Sources) -> list[str]:
    """Say of each scale shown what its numbers mean."""
    words = config().notices
    return [words[scale] for scale in shown_scales(sources) if scale in words]


def shown_scales(sources: Sources) -> list[str]:
    """List the scales of the runs, each once."""
    return list(dict.fromkeys(scale for scales in sources.census.scales.values() for scale in scales))


def _json_in_script(text: str) -> str:
    """Keep JSON from ending the script element that it stands in.

    >>> _json_in_script('["</script>"]')
    '["\\\\u003c/script>"]'
    """
    return text.replace("<", "\\u003c")


def _read(name: str) -> str:
    return HERE.joinpath(name).read_text(encoding="utf-8")
