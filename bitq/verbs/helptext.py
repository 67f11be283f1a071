"""Write the help of a command: what an option takes in capitals, its limits and its default in words."""

import re
from typing import Any

from typer.core import TyperCommand

TAKES = {"path": "PATH", "str": "TEXT", "int": "INT", "int range": "INT", "float": "NUMBER", "float range": "NUMBER"}
TYPE = re.compile(r" <([^>]*)>$")
LEAST = re.compile(r"x>=([\d.]+)")
BETWEEN = re.compile(r"([\d.]+)<=x<=([\d.]+)")


class PlainCommand(TyperCommand):
    """A command whose help shows neither types of Python nor inequalities."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        for parameter in self.params:
            if parameter.param_type_name == "argument" and parameter.metavar is None:
                parameter.metavar = str(parameter.name).upper()

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name arguments in capitals alone; optional ones keep their brackets."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            parameters = [each for each in self.get_params(ctx) if each.param_type_name == kind]
            if rows := [row for each in parameters if (row := record(each, ctx))]:
                with formatter.section(title):
                    formatter.write_dl(rows)


def record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """Write the name of an option or argument with what it takes, and what it is."""
    found = parameter.get_help_record(ctx)
    if found is None:
        return None
    name, about = found
    takes = "" if parameter.param_type_name == "argument" else r" {}"
    name = TYPE.sub(lambda kind: takes.format(TAKES.get(kind[1], "NAME")), name)
    return name, BETWEEN.sub(r"\1 to \2", LEAST.sub(r"\1 or more", about))
