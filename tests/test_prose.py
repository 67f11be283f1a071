"""Text without results behind it is left out: no sentence has a gap, no reference leads nowhere."""

import re
from pathlib import Path

import pytest

from bitq.errors import DataError
from bitq.report.prose import Known, prune, pruned, sentences

KNOWN = Known({"a": "1.5", "b": "--", "verdict.c": "holds", "verdict.d": "not judged"}, {"ring"}, {"tab:gone"})


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"One is \bq{a}. Two is \bq{b}. Three.", r"One is \bq{a}. Three."),
        (r"Both, \bq{a} and \bq{b}. Next.", "Next."),
        (r"See Table~\ref{tab:there}. See Table~\ref{tab:gone}.", r"See Table~\ref{tab:there}."),
        (
            r"It ``\verdict{d}''. That ``\verdict{d}'', this ``\verdict{c}''.",
            r"That ``\verdict{d}'', this ``\verdict{c}''.",
        ),
        (r"The work says \pub{x} (verdict: ``\verdict{d}'').", r"The work says \pub{x} (verdict: ``\verdict{d}'')."),
        (r"Slips \bq{typo}. And Table~\ref{tab:typo}.", r"Slips \bq{typo}. And Table~\ref{tab:typo}."),
        (r"First. \whenknown{b}{Leaning on it. }Last.", "First. Last."),
        (r"First. \whenknown{a}{Leaning on it. }Last.", "First. Leaning on it. Last."),
        (r"\whenstudy{atq}{Of \bq{a}. }\whenstudy{ring}{With \bq{a}. Of \bq{b}. }End.", r"With \bq{a}. End."),
        ("\\paragraph{Gone.} Of \\bq{b}.\n\nStays.", "Stays."),
        ("\\subsection{Gone}\n\\label{x}\n\nOf \\bq{b}.\n\n\\subsection{Here}\n\nText.", "\\subsection{Here}\n\nText."),
        ("\\section{Here}\n\n\\subsection{Gone}\n\nOf \\bq{b}.", "\\section{Here}"),
    ],
)
def test_what_nothing_is_behind_is_left_out(text: str, left: str) -> None:
    assert pruned(text, KNOWN).strip() == left


def test_text_with_all_its_results_stays_as_it_is() -> None:
    text = "A \\bq{a}.\n\n\\begin{equation}\n  x = 1. Y\n\\end{equation}\n\nMore (so). Then.\n"
    assert pruned(text, KNOWN) == text


def test_sentences_end_neither_in_braces_nor_in_environments() -> None:
    text = r"One ``two.'' Three \emph{a. B} \begin{list}C. D\end{list} four. Five"
    assert sentences(text) == ["One ``two.'' ", r"Three \emph{a. B} \begin{list}C. D\end{list} four. ", "Five"]
    assert "".join(sentences(text)) == text


def test_a_reference_falls_with_the_section_that_falls(tmp_path: Path) -> None:
    (tmp_path / "sections").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "numbers.tex").write_text("\\bqset{a}{1}\n\\bqset{b}{--}\n")
    (tmp_path / "tables" / "empty.tex").write_text("% nothing\n")
    (tmp_path / "main.tex").write_text("\\input{sections/one}\n\\input{sections/two}\n")
    (tmp_path / "sections" / "one.tex").write_text("Here. Section~\\ref{sec:two} has more. It is \\bq{a}.\n")
    section = "\\section{Two}\n\n\\subsection{Part}\n\\label{sec:two}\n\n\\input{tables/empty}\n\nOf \\bq{b}.\n"
    (tmp_path / "sections" / "two.tex").write_text(section)
    prune(tmp_path, ("main",), ())
    assert (tmp_path / "sections" / "one.tex").read_text() == "Here. It is \\bq{a}.\n"
    assert (tmp_path / "sections" / "two.tex").read_text().strip() == "\\section{Two}"


def test_a_brace_that_never_closes_is_told() -> None:
    with pytest.raises(DataError, match="opens a brace that nothing closes"):
        pruned(r"\whenknown{a}{open", KNOWN)


def test_conditions_of_the_paper_are_keys_that_its_numbers_have() -> None:
    for path in (Path(__file__).parents[1] / "paper" / "sections").glob("*.tex"):
        for key in re.findall(r"\\whenknown\{([^}]*)\}", path.read_text(encoding="utf-8")):
            assert "." in key and " " not in key.strip(), (path.name, key)
