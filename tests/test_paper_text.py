"""The text of the paper: what it refers to is there, whichever studies have results."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitq.grid.select import Selection, grid
from bitq.grid.study import studies
from bitq.io import read_json
from bitq.report.paper import PDFS
from bitq.report.prose import NUMBER, read_by
from tests.test_paper import needs_tex, pipeline, typeset_paper

SECTIONS = Path(__file__).parents[1] / "paper" / "sections"
OF_A_STUDY = ("study-", "result-")
GENERATED = {"tab:scales"}  # rendered from data, always there


def outside_studies(text: str) -> str:
    r"""Drop what stands only where there are results: the second argument of \whenstudy and \whenknown."""
    kept, start = "", 0
    for found in re.finditer(r"\\when(?:study|known)\{[^}]*\}\{", text):
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


# A handful of runs, as there are while a grid is being trained.
FEW = {
    "bitnet": Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "bitnet", "ttq"], seeds=[42]),
    "ring": Selection(models=["resnet20"], methods=["fp32", "lsq", "ring"], seeds=[42]),
    "precision": Selection(methods=["fp32"], seeds=[42]),
}


def at_scale(scale: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the paper show all studies at one scale."""
    shutil.copytree(SECTIONS.parents[1] / "config", folder / "config")
    monkeypatch.setenv("BITQ_CONFIG", str(folder / "config"))
    chosen = folder / "config" / "paper.yaml"
    text = chosen.read_text(encoding="utf-8")
    head, studies_of, rest = re.split(r"(?ms)^(studies:.*?)\n\n", text, maxsplit=1)
    chosen.write_text(f"{head}{re.sub(r': (smoke|mini|full)$', f': {scale}', studies_of, flags=re.M)}\n\n{rest}")


@pytest.mark.slow
@needs_tex
@pytest.mark.parametrize("scale", ["smoke", "mini", "full"])
def test_the_paper_of_a_handful_of_runs_has_no_gaps(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_scale(scale, tmp_path, monkeypatch)
    runs = [run for study, some in FEW.items() for run in grid(scale, [study], some)]
    typeset_paper(pipeline(tmp_path, runs))
    folder = tmp_path / "paper" / "tex"
    numbers = dict(NUMBER.findall((folder / "numbers.tex").read_text(encoding="utf-8")))
    read = [path for name in PDFS for path in read_by(folder, name) if path.parent.name == "sections"]
    quoted = {key for path in read for key in re.findall(r"\\bq\{([^{}#]+)\}", path.read_text(encoding="utf-8"))}
    assert "acc.bitnet.*.resnet18.fp32" in quoted
    assert not {key for key in quoted if numbers[" ".join(key.split())] == "--"}
    judged = [each for each in read_json(tmp_path / "claims.json")["verdicts"] if each["verdict"] != "missing"]
    assert not [each["id"] for each in judged for of in each["evidence"] if of["level"]]  # n = 1 has no interval
    assert "1 seed an arm" in (folder / "notice.tex").read_text(encoding="utf-8")
    assert numbers["change.bitnet_vs_fp32.*.resnet18"].endswith("points (n = 1) on CIFAR-10")
    assert not [path for path in (folder / "tables").glob("*.tex") if "not run" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
@needs_tex
@pytest.mark.parametrize("scale", ["mini", "full"])
def test_the_paper_of_a_whole_grid_is_built(scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_scale(scale, tmp_path, monkeypatch)
    typeset_paper(pipeline(tmp_path, grid(scale)))
    assert f"Scale of this build: {scale}." in (tmp_path / "paper" / "tex" / "notice.tex").read_text(encoding="utf-8")
