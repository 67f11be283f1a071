"""The README shows what the shipped results say."""

from pathlib import Path

import pytest

from bitq.paths import CHECKOUT
from bitq.verbs import front_page
from bitq.verbs.front_page import END, FIGURE, README, Row, table


@pytest.mark.slow
def test_readme_and_figure_are_those_of_the_shipped_results() -> None:
    text, figure = front_page.front_page(CHECKOUT / "results")
    assert README.read_text("utf-8") == text and FIGURE.read_bytes() == figure


def test_the_table_averages_over_seeds() -> None:
    rows = [Row("BitNet", (70.0, 71.0), 61_000.0, 12.0)]
    assert table([("ResNet-18, CIFAR-10", rows)]).splitlines()[-1] == (
        "| ResNet-18, CIFAR-10 | BitNet | 70.50 | 2 | 61 | 12.0× |"
    )


def test_a_stale_readme_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "README.md"
    stale.write_text(README.read_text("utf-8").replace(END, "| typed by hand |\n" + END))
    monkeypatch.setattr(front_page, "README", stale)
    monkeypatch.setattr(front_page, "verdicts", lambda _: "")
    with pytest.raises(SystemExit, match="run python -m bitq.verbs.front_page"):
        front_page.main("--check")
