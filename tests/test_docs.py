"""What the documents show is what is there."""

import re
from pathlib import Path

from bitq.quant.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "add-a-method.md").read_text()


def test_the_guide_shows_the_file_as_it_stands() -> None:
    assert GUIDE.split("```python\n")[1].split("```")[0] == (ROOT / "bitq" / "quant" / "bwn.py").read_text()


def test_the_guide_names_methods_and_tests_that_exist() -> None:
    assert {name for name in re.findall(r"\| `(\w+)`:", GUIDE)} <= METHODS.keys()
    assert all((ROOT / path).exists() for path in re.findall(r"tests/\w+\.py", GUIDE))
