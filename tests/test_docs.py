"""The documents: the methods, tests, files and commands that they show exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from bitq.cli import app
from bitq.grid.select import find_run
from bitq.quant.registry import METHODS

# What a page's commands read: nothing, or the shipped results.
PAGES = {
    "train-and-ship.md": False,
    "command-line.md": False,
    "add-a-data-set.md": False,
    "read-a-claim.md": True,
    "reproduce-the-paper.md": True,
}
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)
ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {key: value for key, value in os.environ.items() if not key.startswith("BITQ_")} | {"PYTHONPATH": str(ROOT)}
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


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    if PAGES[page]:
        (tmp_path / "results").symlink_to(ROOT / "results")
    for kind, block in BLOCK.findall((ROOT / "docs" / page).read_text()):
        lines = [["-c", block]] if kind == "python" else [shlex.split(line) for line in block.splitlines()]
        for line in lines:
            if line[0] == "./reproduce.sh":
                continue  # tests/test_workflow.py and tests/test_paper.py build smoke and paper
            arguments = ["-m", "bitq.cli", *line[1:]] if line[0] == "bitq" else line
            done = subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, env=ELSEWHERE, capture_output=True, text=True
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_every_page_of_the_site_is_reached_and_no_link_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.parent.name for path in tmp_path.rglob("index.html")} | {"index"}
