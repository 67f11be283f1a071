"""The text of the paper: what it refers to is there, whichever studies have results."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitq.grid.select import Selection, grid
from bitq.grid.study import studies
from tests.test_paper import needs_tex, pipeline, typeset_paper

SECTIONS = Path(__file__).parents[1] / "paper" / "sections"
OF_A_STUDY = ("study-", "result-")
GENERATED = {"tab:scales"}  # rendered from data, always there


def outside_studies(text: str) -> str:
    r"""Drop what stands only where a study has results: the second argument of \whenstudy."""
    kept, start = "", 0
    for found in re.finditer(r"\\whenstudy\{[^}]*\}\{", text):
        if found.start() < start:
            continue
        kept, end, depth = kept + text[start : found.start()], found.end(), 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        start = end
    return kept + text[start:]


def labels(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    read = {f"{kind}:{name}" for kind, name in re.findall(r"\\input\{(tab|fig)[a-z]+/(\w+)\}", text)}
    return read | set(re.findall(r"\\label\{([^}]+)\}", text))


def references(path: Path) -> Iterator[str]:
    text = outside_studies(path.read_text(encoding="utf-8"))
    yield from re.findall(r"\\(?:eq|page)?ref\{([^}#]+)\}", text)


def test_text_inside_a_study_is_left_out() -> None:
    assert outside_studies(r"a \whenstudy{x}{b {c} \ref{d}}e") == "a e"


def test_no_section_refers_to_what_another_study_would_have_to_bring() -> None:
    always = [path for path in SECTIONS.glob("*.tex") if not path.name.startswith(OF_A_STUDY)]
    there = GENERATED.union(*map(labels, always))
    for path in always:
        assert set(references(path)) <= there, path.name
    for study in studies():
        own = [path for kind in OF_A_STUDY if (path := SECTIONS / f"{kind}{study}.tex").exists()]
        known = there.union(*map(labels, own))
        for path in own:
            assert set(references(path)) <= known, path.name


@pytest.mark.slow
@needs_tex
@pytest.mark.parametrize("missing", ["bitnet", "ring", "atq", "multimodal", "precision"])
def test_the_paper_is_built_without_a_study(missing: str, tmp_path: Path) -> None:
    shown = [study for study in studies() if not study.startswith(missing)]
    runs = [run for run in grid("smoke", shown, Selection(seeds=[42])) if not run.study.startswith(missing)]
    typeset_paper(pipeline(tmp_path, runs))
    assert f"study-{missing}" not in (tmp_path / "paper" / "tex" / "studies.tex").read_text()
