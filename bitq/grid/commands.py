"""Write the exact command of a run."""

import shlex

from bitq.run import Run


def command(run: Run) -> str:
    """Write the command that trains a run and first, if their files are absent, its parents."""
    return f"bitq train {shlex.quote(run.id)} --scale {run.scale}"
