"""The documents: the methods, tests, files and commands that they show exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from bitq.cli import app
from bitq.grid.select import find_run
from bitq.quant.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "add-a-method.md").read_text()
ORIGINALS = (ROOT / "docs" / "from-the-originals.md").read_text()
COMMANDS = re.findall(r"`bitq ((?:train|evaluate|import|export|demo)[^`]*)`", ORIGINALS)


def test_the_guide_shows_the_file_as_it_stands() -> None:
    assert GUIDE.split("```python\n")[1].split("```")[0] == (ROOT / "bitq" / "quant" / "bwn.py").read_text()


def test_the_guide_names_methods_and_tests_that_exist() -> None:
    assert {name for name in re.findall(r"\| `(\w+)`:", GUIDE)} <= METHODS.keys()
    assert all((ROOT / path).exists() for path in re.findall(r"tests/\w+\.py", GUIDE))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_in_place_of_the_originals_exist(line: str) -> None:
    verb, *arguments = shlex.split(line)
    group: Any = typer.main.get_command(app)
    _, command, rest = group.resolve_command(group.context_class(group), [verb, *arguments])
    given = command.make_context(verb, rest).params  # unknown options end with exit code 2
    for name in given.get("runs") or ():
        assert find_run(name, "full").id == name
