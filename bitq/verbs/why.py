"""Say whether a stored result is current."""

from typing import Annotated

import typer

from bitq.verbs.common import Json, ResultsOption, ScaleOption, StateOption, emit


def why(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or the first 6 or more digits of its hash.")],
    scale: ScaleOption = "full",
    results: ResultsOption = None,
    state: StateOption = None,
    as_json: Json = False,
) -> None:
    """Say whether a stored run is current: configuration, data, parents, code and environment, then and now."""
    from bitq.grid.select import find_run
    from bitq.paths import results_dir, state_dir
    from bitq.status.why import why as ask

    found = ask(find_run(run, scale, results), results or results_dir(), state or state_dir())
    lines = [f"  {reason.aspect:<12} {reason.judgement:<8} {reason.text}" for reason in found.reasons]
    text = "\n".join([f"{found.id} ({found.hash[:12]})", *lines, found.conclusion])
    emit(found.model_dump(mode="json") | {"conclusion": found.conclusion}, as_json, text)
