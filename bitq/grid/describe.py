"""Describe runs as rows for a program and as sentences for a person."""

from textwrap import fill
from typing import Any

from bitq.grid.expand import ONLINE
from bitq.grid.study import studies as study_names
from bitq.grid.study import study
from bitq.run import Run


def row(run: Run) -> dict[str, Any]:
    """Collect the fields in which runs differ."""
    return {
        "id": run.id,
        "hash": run.hash,
        "study": run.study,
        "phase": run.phase,
        "scale": run.scale,
        "dataset": run.data.dataset,
        "variant": run.data.variant,
        "model": run.model,
        "method": run.method,
        "keep": list(run.keep),
        "norm": run.norm,
        "stem": run.stem,
        "teacher": (run.distillation.teacher.id if run.distillation.teacher else ONLINE) if run.distillation else None,
        "start": run.start.id if run.start else None,
        "seed": run.seed,
    }


def explain_run(run: Run) -> str:
    """Describe a run completely, line by line."""
    title = _phase_title(run)
    phase = [f"  phase    {run.phase}{': ' + title if title else ''}"] if run.phase else []
    lines = [
        run.id,
        f"  hash     {run.hash}",
        *phase,
        f"  data     {run.data.dataset} ({run.data.variant}), {run.data.classes} classes, {run.data.image_size} pixels"
        + (f" and {run.data.words} words of {run.data.vocabulary}" if run.data.words else ""),
        f"  network  {run.model}, width {run.width}, {run.stem} stem, normalisation in front of layers: {run.norm}",
        f"  method   {run.method} {run.settings or ''}".rstrip(),
        f"  kept     {', '.join(run.keep) or 'nothing'} in full precision",
        f"  parents  {', '.join(parent.id for parent in run.parents) or 'none'}",
    ]
    if run.calibration:
        settings = run.calibration.model_dump(mode="json")
        lines.append("  after it " + ", ".join(f"{key}={value}" for key, value in settings.items()))
    recipe = ", ".join(f"{key}={value}" for key, value in run.recipe.model_dump(mode="json").items())
    lines += fill(recipe, 80, initial_indent="  recipe   ", subsequent_indent=" " * 11).splitlines()
    return "\n".join(lines)


def _phase_title(run: Run) -> str:
    if run.study not in study_names():
        return ""
    return next((phase.title for phase in study(run.study).phases if phase.phase == run.phase), "")


def table(runs: tuple[Run, ...]) -> str:
    """Lay out one line a run: id, start of the hash, teacher."""
    width = max((len(run.id) for run in runs), default=0)
    return "\n".join(
        f"{run.id:<{width}}  {run.hash[:12]}  {'← ' + run.parents[0].id if run.parents else ''}".rstrip()
        for run in runs
    )
