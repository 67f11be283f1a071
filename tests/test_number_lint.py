"""Typed numbers: what the pipeline computes is found at its printed precision, everything else is left alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitq.report.numberlint import Allowed, Computed, keys, problems, typed_numbers
from bitq.report.values import Number

ACCURACY, LOSS, FACTOR = "acc.cifar10.resnet18.bitnet", "diff.bitnet_vs_fp32.cifar10.resnet18", "compression.r18"
COMPUTED = Computed(
    [
        Number(ACCURACY, "93.02", (93.0166,), percent=True),
        Number(LOSS, "-1.43", (-1.4333,)),
        Number(FACTOR, "19.63", (19.634,)),
        Number("scale", "smoke"),
    ]
)


def complaints(folder: Path, text: str, name: str = "paper/main.tex", allowed: tuple[Allowed, ...] = ()) -> list[str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return list(problems(folder, COMPUTED, allowed))


PLANTED = {
    r"It reaches 93.02\,\% there.": ("93.02 %", ACCURACY),
    r"It reaches $93.0$\% there.": ("93.0 %", ACCURACY),
    r"It reaches 93~\% there.": ("93 %", ACCURACY),
    r"From 90 to 93\,\% and more.": ("93 %", ACCURACY),
    r"From 93--99\,\%.": ("93 %", ACCURACY),
    "It loses 1.43 points.": ("1.43", LOSS),
    "It loses $-1.433$ points.": ("1.433", LOSS),
    "It is 19.6 times smaller.": ("19.6", FACTOR),
}


@pytest.mark.parametrize("sentence", PLANTED)
def test_a_planted_number_is_found_with_its_line_and_its_key(sentence: str, tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, f"First line.\n{sentence}\n")
    number, key = PLANTED[sentence]
    assert complaint.startswith(f"paper/main.tex:2: {number} is typed, and computed as {key};")


def test_a_section_that_the_paper_does_not_read_is_left_alone(tmp_path: Path) -> None:
    name, typed = "paper/sections/study-other.tex", r"It loses 1.43 points, \bq{no key}."
    assert len(complaints(tmp_path, typed, name)) == 2
    assert list(problems(tmp_path, COMPUTED, [Allowed(file=name, number="9 %", why="")], {"study-other.tex"})) == []


LEFT_ALONE = (
    r"It reaches \bq{acc.cifar10.resnet18.bitnet}\,\%.",
    "Other numbers: 93.12 and 1.44.",
    "Two digits are no finding: 1.4.",
    "% a comment with 93.02",
    r"\label{tab:1.43} \citep[p.~1.43]{some1.43} \input{tables/1.43}",
    r"\includegraphics[width=1.43\textwidth]{a} \hspace{19.6pt} and 19.6pt",
    "Version 1.43.0, b1.43, 1.43x, arXiv 1.43.1.43",
    "93 runs and 19 of them",
)


@pytest.mark.parametrize("sentence", LEFT_ALONE)
def test_everything_else_is_left_alone(sentence: str, tmp_path: Path) -> None:
    assert complaints(tmp_path, sentence) == []


def test_markdown_is_read_without_its_code(tmp_path: Path) -> None:
    text = "`93.02 %`\n```\n19.63\n```\nIt reaches 93.02 %.\n"
    (complaint,) = complaints(tmp_path, text, "README.md")
    assert complaint.startswith("README.md:5: 93.02 %")


@given(st.floats(-99, 99), st.integers(2, 4))
def test_any_computed_value_is_found_as_it_would_be_printed(value: float, decimals: int) -> None:
    printed = f"{abs(value):.{decimals}f}"
    (typed, *_) = typed_numbers(f"Here {printed} \\%.")
    assert Computed([Number("x", "", (value,), percent=True)]).like(typed) == ["x"]


def test_an_exception_lets_its_number_pass_in_its_files_only(tmp_path: Path) -> None:
    allowed = (Allowed(file="paper/*.tex", number="93 %", why="a quantile, not an accuracy"),)
    assert complaints(tmp_path, r"At 93\,\%.", allowed=allowed) == []
    assert len(complaints(tmp_path, "At 93 %.", "README.md", allowed)) == 1


def test_an_exception_that_nothing_needs_is_a_finding(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, "No number.", allowed=(Allowed(file="README.md", number="1.58", why="a name"),))
    assert "1.58 is no longer typed in README.md" in complaint


def test_an_unknown_key_is_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, "\\bq{scale} \\bq{acc.cifar10\n.resnet18.bitnett}")
    assert "there is no number" in complaint and complaint.startswith("paper/main.tex:1:")
    (complaint,) = complaints(tmp_path, r"\bq{acc.cifar10.resnet18.bitnett}")
    assert f"did you mean {ACCURACY}" in complaint
    assert len(complaints(tmp_path, r"\pub{x} and \verdict{y} but % \bq{z}")) == 2


def test_keys_may_be_broken_across_lines() -> None:
    assert list(keys("a \\bq{expected\n  runs} \\pub{acc.x}")) == [(1, "expected runs"), (2, "pub.acc.x")]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("It reports eight accuracies of one run.", "eight accuracies"),
        ("It is six\ntimes smaller.", "six times"),
        ("About a third are written out.", "a third"),
        ("That is one in seventeen.", "one in seventeen"),
    ],
)
def test_a_count_in_words_is_found_unless_it_is_allowed(sentence: str, found: str, tmp_path: Path) -> None:
    (complaint,) = complaints(tmp_path, f"First line.\n{sentence}\n")
    assert complaint.startswith(f"paper/main.tex:2: {found!r} is typed in words;")
    assert complaints(tmp_path, sentence, allowed=(Allowed(file="paper/main.tex", number=found, why="known"),)) == []


def test_words_that_count_nothing_are_left_alone(tmp_path: Path) -> None:
    assert complaints(tmp_path, r"Four levels take two bits. \cite{three runs} % five arms") == []
