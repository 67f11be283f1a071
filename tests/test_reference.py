"""What is said about the project as a whole: the command line's page, the citation, standard lists of packages."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from bitq import errors
from bitq.cli import VERBS
from tests.messages import KINDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "command-line.md").read_text()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
COMPILE = [sys.executable, str(ROOT / "requirements" / "compile.py")]


def test_the_page_names_every_command() -> None:
    named = set(re.findall(r"[a-z]+", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    assert {verb.__name__.rstrip("_") for verbs in VERBS.values() for verb in verbs} <= named


def test_the_page_names_every_variable_and_no_other() -> None:
    sources = [*(ROOT / "bitq").rglob("*.py"), *(ROOT / "workflow" / "rules").glob("*.smk")]
    sources += (path for path in (ROOT / "workflow" / "scripts").iterdir() if path.is_file())
    # Names that end in _H are include guards of the C that bitq writes.
    read = {
        name
        for path in sources
        for name in re.findall(r"\bBITQ_[A-Z_]+\b", path.read_text())
        if not name.endswith("_H")
    }
    assert set(re.findall(r"`(BITQ_[A-Z_]+)`", PAGE)) == read


def test_the_page_names_every_exit_code_and_no_other() -> None:
    codes = {getattr(errors, kind).exit_code for kind in KINDS}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == codes | {0, 130}


def test_the_citation_is_complete_and_names_the_four_works_as_the_project_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (CITATION["version"], CITATION["license"]) == (project["version"], "MIT")
    assert CITATION["abstract"] and len(CITATION["keywords"]) >= 5
    works = yaml.safe_load((ROOT / "config" / "published.yaml").read_text())["works"].values()
    for work, reference in zip(works, CITATION["references"], strict=True):
        assert reference["title"] == work["title"]
        repository = work["repository"].removesuffix(" at GitHub")
        if "/" in repository:
            assert reference["repository-code"] == f"https://github.com/{repository}"
            assert reference["commit"] in work["version"] and str(reference["year"]) in work["version"]
            assert reference.get("doi", "") in work["version"]


def test_a_file_that_tools_would_not_find_is_refused() -> None:
    done = subprocess.run([*COMPILE, "--pylock", "lock.toml"], capture_output=True, text=True)
    assert done.returncode == 1 and "allowed for --pylock: pylock.toml" in done.stderr


@pytest.mark.slow
def test_pylock_holds_the_locked_versions_and_hashes(tmp_path: Path) -> None:
    target = tmp_path / "pylock.toml"
    subprocess.run([*COMPILE, "--pylock", str(target)], check=True)
    packages = {each["name"]: each for each in tomllib.loads(target.read_text())["packages"]}
    locks = "".join(path.read_text() for path in (ROOT / "requirements").glob("*.txt"))
    assert {name: each["version"] for name, each in packages.items()} == dict(
        re.findall(r"^([a-z0-9-]+)==([^\s;]+)", locks, re.MULTILINE)
    )
    hashes = {wheel["hashes"]["sha256"] for each in packages.values() for wheel in each.get("wheels", [])}
    assert len(hashes) > 1000 and hashes <= set(re.findall(r"--hash=sha256:([0-9a-f]{64})", locks))


def test_the_bill_of_materials_names_every_locked_package(tmp_path: Path) -> None:
    pytest.importorskip("bitq.archive.sbom")
    target = tmp_path / "sbom.cdx.json"
    subprocess.run([*COMPILE, "--sbom", str(target)], check=True)
    text = target.read_text()
    assert '"CycloneDX"' in text and '"pkg:pypi/numpy@' in text and '"pkg:pypi/torch@' in text


def run_example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "load_packed.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "give one packed file; `bitq train` writes them"),
        pytest.param(["nowhere"], "nowhere does not exist; give a file that is there.", marks=pytest.mark.slow),
        pytest.param(["README.md"], "README.md announces a header", marks=pytest.mark.slow),
    ],
)
def test_the_example_refuses_other_files_in_a_sentence(given: list[str], sentence: str) -> None:
    done = run_example(*given)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("load_packed.py: ") and done.stderr.count("\n") == 1 and sentence in done.stderr
