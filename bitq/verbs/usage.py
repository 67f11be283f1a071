"""Say in one sentence what is wrong with a call, and what to call instead."""

import re
from collections.abc import Collection
from typing import Any

from bitq.errors import UsageError, did_you_mean, one_of
from bitq.records import allowed_values

EXTRA = re.compile(r"Got unexpected extra argument\S* \((?P<what>.*)\)")
# Words of other tools, and what does it here.
ELSEWHERE = {
    "check": ("verify", "why"),
    "diff": ("compare",),
    "eval": ("evaluate",),
    "fetch": ("data fetch",),
    "info": ("data info", "grid"),
    "list": ("grid", "results", "models", "methods", "datasets"),
    "ls": ("grid", "results"),
    "predict": ("demo", "evaluate"),
    "quantize": ("train --epochs 0 --start FILE",),
    "run": ("train",),
    "show": ("grid", "results"),
    "test": ("evaluate", "verify"),
}


def unknown_command(given: str, commands: Collection[str]) -> UsageError:
    """Build the error for a command that does not exist.

    >>> str(unknown_command("ls", ["grid", "results"]))
    "unknown command 'ls'; call bitq grid or bitq results."
    """
    instead = [f"bitq {name}" for name in ELSEWHERE.get(given, ()) if name.split()[0] in commands]
    if instead:
        return UsageError(f"unknown command {given!r}; call {' or '.join(instead)}.")
    return one_of("command", given, commands)


def usage_error(error: Any) -> UsageError:
    """Turn an error of the parser of the command line into one of bitq."""
    command = error.ctx.command_path if error.ctx else "bitq"
    if hasattr(error, "possibilities"):
        near = did_you_mean(error.option_name, error.possibilities or [])
        return UsageError(f"unknown option {error.option_name!r}; {command} --help lists all.{near}")
    if hasattr(error, "option_name"):
        return UsageError(f"{error.option_name} was given without a value; {command} --help lists all.")
    if hasattr(error, "param_type"):
        return UsageError(f"{command} needs {parameter_name(error.param)}; call {example(error)}.")
    if hasattr(error.__cause__, "errors"):
        first = error.__cause__.errors()[0]
        allowed = allowed_values(first["msg"])
        return UsageError(f"{parameter_name(error.param)} {first['input']!r} was given; allowed: {allowed}.")
    if extra := EXTRA.match(error.format_message()):
        return UsageError(f"{command} takes no further {extra['what']!r}; {command} --help lists all.")
    return UsageError(f"{command}: {error.format_message().rstrip('.')}; {command} --help lists all.")


def parameter_name(parameter: Any) -> str:
    """Return the name of an option or an argument as its help shows it."""
    option: str = parameter.opts[0]
    return option if option.startswith("-") else (parameter.metavar or option).strip("{}").upper()


def example(error: Any) -> str:
    """Write how the command is called: as in its example, or what shows its options."""
    shown: str = (error.ctx.command.epilog or "").removeprefix("Example: ")
    return f"it as in: {shown}" if shown and "--help" not in shown else f"{error.ctx.command_path} --help"
