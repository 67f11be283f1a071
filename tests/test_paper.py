"""The paper: errors that stop a build, parts rendered from data, and equal bytes from equal results."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bitq.errors import BitqError, Bug, DataError, UsageError
from bitq.grid.paper import config, paper_runs
from bitq.grid.select import Selection, grid
from bitq.io import read_json
from bitq.report import paper, typeset
from bitq.report.figures import write_figures
from bitq.report.fragments import artefacts, checked_section, in_order
from bitq.report.numberlint import asked
from bitq.report.numbers import Numbers, write_numbers
from bitq.report.sources import load
from bitq.report.tables import write_tables
from bitq.run import Run
from bitq.studies.catalogue import printed
from tests.build import build_of

ROOT = Path(__file__).parents[1]
CITE = re.compile(r"\\cite[pt]?\*?(?:\[[^]]*\])*\{([^}]+)\}")
needs_tex = pytest.mark.skipif(not shutil.which("latexmk"), reason="TeX is not installed")


def texts() -> Iterator[str]:
    yield from (path.read_text() for path in sorted((ROOT / "paper").rglob("*.tex")))


def pipeline(folder: Path, runs: Sequence[Run]) -> Path:
    """A build folder as the pipeline leaves it before TeX, from invented results."""
    build_of(runs, folder)
    sources = load(folder, printed())
    write_tables(sources, folder / "paper" / "tables")
    write_figures(sources, folder / "paper" / "figures")
    write_numbers(Numbers(sources), asked(ROOT, sources.printed), folder / "paper")
    return folder


def typeset_paper(folder: Path, root: Path = ROOT) -> Path:
    return paper.build(load(folder, printed()), root, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From all runs of the published study."""
    return pipeline(tmp_path_factory.mktemp("whole"), grid("smoke", ["bitnet"]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From one seed on one data set: most arms are missing, and the paper has to say so and still be one."""
    runs = grid("smoke", ["bitnet"], Selection(datasets=["cifar10"], seeds=[42]))
    return pipeline(tmp_path_factory.mktemp("ünïcode and spaces"), runs)


@pytest.fixture(scope="module")
def parts(built: Path) -> dict[str, str]:
    folder = paper.stage(load(built, printed()), ROOT, built, paper.config())
    return {path.name: path.read_text() for path in folder.glob("*.tex")}


# --- without TeX ------------------------------------------------------------------------------------------------------


def test_every_entry_of_the_bibliography_is_cited_and_every_citation_has_one() -> None:
    entries = re.findall(r"^@\w+\{([^,]+),", (ROOT / "paper" / "refs.bib").read_text(), re.M)
    cited = {key.strip() for text in texts() for keys in CITE.findall(text) for key in keys.split(",")}
    # Two are cited by the appendix, which is rendered from data.
    template = (ROOT / "bitq" / "report" / "templates" / "paper" / "reproducibility.tex.j2").read_text()
    cited |= {key for keys in CITE.findall(template) for key in keys.split(",")}
    assert set(entries) == cited
    assert len(entries) == len(set(entries)) >= 35


def test_the_configuration_has_words_for_every_scale() -> None:
    found = config()
    assert set(found.subtitles) == set(found.notices) == {"smoke", "mini", "full"}


def test_the_first_page_says_which_scale_and_data_it_shows(parts: dict[str, str]) -> None:
    notice = parts["notice.tex"]
    assert "smoke" in notice
    assert "check the machinery, not the claims" in notice
    assert "procedural@640" in notice
    assert "17 of 17" in notice


def test_a_study_may_be_shown_at_a_scale_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path / "config"))
    chosen = tmp_path / "config" / "paper.yaml"
    text = chosen.read_text(encoding="utf-8").replace(": smoke\n", ": mini\n").replace("  atq: mini", "  atq: full")
    chosen.write_text(text, encoding="utf-8")
    assert {(run.study, run.scale) for run in paper_runs()} == {
        (study, "full" if study == "atq" else "mini") for study in config().studies
    }
    some = Selection(datasets=["cifar10", "fashion_mnist"], seeds=[42])
    runs = [run for run in some.of(paper_runs()) if run.study in ("bitnet", "atq")]
    folder = pipeline(tmp_path / "build", runs)
    paper.stage(load(folder, printed()), ROOT, folder, config())
    parts = {name: (folder / "paper" / "tex" / f"{name}.tex").read_text() for name in ("notice", "title", "scales")}
    assert "Scale of this build: mini and full for atq." in parts["notice"]
    assert "Scale full: official images" in parts["notice"] and "Scale mini: " in parts["notice"]
    assert "reduced sets of real images and the official images for atq" in parts["title"]
    assert "mini and full for atq is shown" in parts["scales"]
    assert r"\bqset{scale}{mini and full for atq}" in (folder / "paper" / "numbers.tex").read_text()
    assert Numbers(load(folder, printed()))["scale of atq"].text == "full"
    verdicts = {each["id"]: each for each in read_json(folder / "claims.json")["verdicts"]}
    assert (verdicts["atq.compression"]["scale"], verdicts["atq.compression"]["verdict"]) == ("full", "fails")
    assert verdicts["bitnet.ternary.costs"]["scale"] == "mini"


def test_only_studies_with_results_have_a_section(parts: dict[str, str]) -> None:
    assert parts["studies.tex"].split() == [r"\input{sections/study-bitnet}"]


def test_results_without_a_section_stop_the_build(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="study 'ring' has results, but paper/sections/study-ring.tex does not exist"):
        checked_section(tmp_path, "ring")


def test_the_appendix_lists_every_table_and_figure_that_the_paper_reads(built: Path, parts: dict[str, str]) -> None:
    shown = [text for name in paper.PDFS for text in in_order(built / "paper" / "tex", name)]
    read = {kind + name for text in shown for kind, name in re.findall(r"\\input\{(tab|fig)[a-z]+/(\w+)\}", text)}
    listed = [each.label.replace(":", "") for each in artefacts(built / "paper" / "tex")]
    assert sorted(listed) == sorted(read)
    assert len(read) >= 12 + 2 + 7
    assert all(rf"\ref{{{label[:3]}:{label[3:]}}}" in parts["reproducibility.tex"] for label in read)


def test_the_appendix_knows_machines_hours_seeds_and_digests(built: Path, parts: dict[str, str]) -> None:
    appendix = parts["reproducibility.tex"]
    for expected in ("x86\\_64 AVX512 no-amx", "2.15.0", "config/claims.yaml", "build/runs.parquet"):
        assert expected in appendix
    assert len(re.findall(r"\\code\{[0-9a-f]{64}\}", appendix)) == 10


MISSING_FILE = """(./main.tex (./sections/stem.tex)

! LaTeX Error: File `tables/x.tex' not found.

./main.tex:9: Emergency stop.
"""
LOG = r"""(./main.tex (./sections/stem.tex
./sections/stem.tex:7: {what}
l.7 some text {macro}
                   and more
"""


@pytest.mark.parametrize(
    ("what", "macro", "kind", "sentence"),
    [
        (
            "Undefined control sequence.",
            r"\bq",
            Bug,
            r"sections/stem.tex line 7: \bq is not defined; use one that numbers.md lists",
        ),
        (
            "LaTeX Error: File `tables/x.tex' not found.",
            "",
            DataError,
            "x.tex, which does not exist; bitq tables writes",
        ),
        ("LaTeX Error: File `figures/x' not found.", "", DataError, "figures/x, which does not exist; bitq figures"),
        (
            "LaTeX Error: File `natbib.sty' not found.",
            "",
            UsageError,
            "apt-get install --no-install-recommends texlive",
        ),
        ("Missing $ inserted.", "", Bug, "sections/stem.tex line 7: Missing $ inserted; correct it there."),
    ],
)
def test_an_error_of_latex_is_one_sentence(what: str, macro: str, kind: type[BitqError], sentence: str) -> None:
    error = next(typeset.errors(LOG.replace("{what}", what).replace("{macro}", macro)))
    assert type(error) is kind
    assert sentence in str(error)


def test_the_first_error_is_the_one_that_is_told() -> None:
    error = next(typeset.errors(MISSING_FILE))
    assert type(error) is DataError
    assert str(error) == "main.tex reads tables/x.tex, which does not exist; bitq tables writes it."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("LaTeX Warning: Reference `tab:x' on page 3 undefined on input line 4.", "reference 'tab:x' is undefined"),
        ("Package natbib Warning: Citation `who' on page 1 undefined on input line 2.", "citation 'who' is undefined"),
        ("LaTeX Warning: Label `tab:x' multiply defined.", "two places are labelled 'tab:x'"),
        ("LaTeX Warning: Float too large for page by 12.0pt on input line 9.", "of tables/x.tex is 12.0 pt longer"),
        (
            r"Overfull \hbox (5.1pt too wide) in alignment at lines 3--9",
            "5.1 pt (tables/x.tex, in alignment at lines 3",
        ),
        (r"Overfull \vbox (9.0pt too high) has occurred", "sticks out by 9.0 pt"),
    ],
)
def test_what_latex_only_warns_about_is_an_error(line: str, sentence: str) -> None:
    log = f"(./main.tex (./sections/a.tex (closed)) (./tables/x.tex\n{line}\n))"
    assert sentence in str(next(typeset.complaints(log, "")))


def test_small_overfull_lines_are_tolerated() -> None:
    assert list(typeset.complaints(r"Overfull \hbox (4.9pt too wide) in paragraph at lines 3--9" + "\n", "")) == []


def test_warnings_of_bibtex_are_errors() -> None:
    warning = 'Warning--I didn\'t find a database entry for "who"\n'
    assert "BibTeX complains about refs.bib" in str(next(typeset.complaints("", warning)))


def test_missing_tex_is_told_with_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="latexmk was not found; on Debian: apt-get install .* lmodern cm-super"):
        typeset.require_programs()


def test_flattening_reads_every_input_once(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_text("a\n\\input{one}\nb \\input{sections/two.tex} c\n")
    (tmp_path / "one.tex").write_text("1 \\input{sections/two}\n")
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "two.tex").write_text("2\n")
    assert paper.flattened(tmp_path, "main") == "a\n1 2\nb 2 c\n"


def test_an_archive_depends_on_names_and_contents_only() -> None:
    one, other = {"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}
    assert paper.archive(one, 7) == paper.archive(other, 7) != paper.archive(one | {"a": b"3"}, 7)


def test_a_submission_needs_a_built_paper(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no typeset paper; build the paper first"):
        paper.submission(tmp_path)


# --- with TeX ---------------------------------------------------------------------------------------------------------


def copied(built: Path, folder: Path) -> Path:
    shutil.copytree(built, folder, ignore=shutil.ignore_patterns("results", "tex"))
    return folder


@pytest.mark.slow
@needs_tex
def test_equal_results_give_equal_bytes_anywhere(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfs: list[tuple[bytes, ...]] = []
    archives = []
    for name, zone in (("one", "Pacific/Kiritimati"), ("Ein Ordner, später", "America/Anchorage")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.chdir(whole if name == "one" else "/")
        typeset_paper(copied(whole, tmp_path / name))
        pdfs.append(tuple((tmp_path / name / "paper" / pdf).read_bytes() for pdf in paper.PDFS.values()))
        archives.append(paper.submission(tmp_path / name).read_bytes())
    assert pdfs[0] == pdfs[1]
    assert archives[0] == archives[1]
    log = (tmp_path / "one" / "paper" / "tex" / "main.log").read_text(errors="replace")
    assert int(re.findall(r"Output written on main.pdf \((\d+) pages", log)[-1]) >= 15
    assert all(str(tmp_path).encode() not in pdf for pdf in pdfs[0])


@pytest.mark.slow
@needs_tex
def test_the_submission_compiles_by_itself(whole: Path, tmp_path: Path) -> None:
    build = copied(whole, tmp_path / "build")
    typeset_paper(build)
    (tmp_path / "alone").mkdir()
    subprocess.run(["tar", "-xzf", paper.submission(build), "-C", tmp_path / "alone"], check=True)
    for _ in range(3):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
        subprocess.run(command, cwd=tmp_path / "alone", check=True, capture_output=True, env=dict(os.environ))
    log = (tmp_path / "alone" / "main.log").read_text(errors="replace")
    assert "undefined" not in log
    pages = [
        re.findall(r"\((\d+) pages", text)[-1] for text in (log, (build / "paper/tex/main.log").read_text("latin-1"))
    ]
    assert pages[0] == pages[1]


@pytest.mark.slow
@needs_tex
def test_another_study_appears_with_its_results(tmp_path: Path) -> None:
    pdf = typeset_paper(pipeline(tmp_path, grid("smoke", ["bitnet", "bitnet-extended"])))
    assert "study-bitnet-extended" in (tmp_path / "paper" / "tex" / "studies.tex").read_text()
    assert pdf == tmp_path / "paper" / "bitq.pdf"


@pytest.mark.slow
@needs_tex
def test_a_scale_of_ones_own_needs_no_change_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "scales" / "medium.yaml").write_text(
        "scale: medium\nsummary: half of everything\nwidths: {resnet18: 32, resnet50: 32}\n"
    )
    chosen = tmp_path / "config" / "paper.yaml"
    text = chosen.read_text(encoding="utf-8").replace(": smoke", ": medium").replace("  smoke: ", "  medium: ")
    chosen.write_text(text.replace("check the machinery", "are halfway"), encoding="utf-8")
    typeset_paper(pipeline(tmp_path, grid("medium", ["bitnet"])))
    assert "are halfway" in (tmp_path / "paper" / "tex" / "notice.tex").read_text()


@pytest.mark.slow
@needs_tex
@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (r"\bq{no such key}", "There is no number `no such key'"),
        (r"\nosuchmacro", r"sections/conclusion.tex line \d+: \\nosuchmacro is not defined"),
        (r"Table~\ref{tab:nowhere}", "reference 'tab:nowhere' is undefined"),
        (r"\citet{nobody}", "citation 'nobody' is undefined"),
        (r"\input{tables/nothing}", "reads tables/nothing.tex, which does not exist; bitq tables writes it"),
        (r"\noindent\rule{1.1\textwidth}{1pt}", "sections/conclusion.tex, in paragraph at lines"),
    ],
)
def test_what_a_reader_would_trip_over_stops_the_build(built: Path, tmp_path: Path, typed: str, sentence: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOT / "paper", root / "paper")
    with (root / "paper" / "sections" / "conclusion.tex").open("a") as section:
        section.write(f"\n{typed}\n\n")
    with pytest.raises(BitqError, match=sentence):
        typeset_paper(copied(built, tmp_path / "build"), root)
