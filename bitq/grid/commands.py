"""The exact command of a run."""

import shlex

from bitq.run import Run


def command(run: Run) -> str:
    """What to type to train this run (and first, if their files are absent, its parents)."""
    return f"bitq train {shlex.quote(run.id)} --scale {run.scale}"
