"""The examples of the library run, and what they say is far from chance; the guide shows and names what exists."""

import re
import runpy
from pathlib import Path

import pytest
import torch

import bitq

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
GUIDE = (ROOT / "docs" / "library.md").read_text()
SCRIPTS = ("own_loop", "own_model", "lightning_loop", "finetune_float", "ptq")
SLOW = {"lightning_loop"}  # Lightning's own import takes seconds


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers and loggers
@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SCRIPTS]
)
def test_an_example_runs(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    torch.manual_seed(0)
    percent = runpy.run_path(str(EXAMPLES / f"{script}.py"))["main"](tmp_path / "net.safetensors")
    assert percent > 85  # chance: 33, of words 6
    assert bitq.describe(tmp_path / "net.safetensors")["kind"] == "own_network"


def test_post_training_quantization_takes_five_lines() -> None:
    body = (EXAMPLES / "ptq.py").read_text().split("model = trained()\n\n")[1].split("\n\n")[0]
    assert len(body.splitlines()) == 5


def test_the_guide_names_all_that_is_public_and_no_more() -> None:
    named = set(re.findall(r"bitq\.(\w+)\(", GUIDE))
    assert named == set(bitq.__all__) - {"__version__"}


def test_the_guide_lists_the_examples_that_exist() -> None:
    assert set(re.findall(r"`examples/(\w+)\.py`", GUIDE)) == set(SCRIPTS)


def test_the_code_of_the_guide_runs_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(blocks) >= 4
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), scope)
    shown = re.findall(r"^# (.*)$", "".join(blocks), flags=re.MULTILINE)
    assert len(shown) == 3 and capsys.readouterr().out.splitlines()[:3] == shown
