"""The project's own files: no unpickling, light imports, complete locks, valid shell scripts."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bitq.io import read_json, sha256_file
from bitq.results.folder import MODEL

ROOT = Path(__file__).parents[1]
SCRIPTS = ["reproduce.sh", ".ci/run"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
UNSAFE = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load", "torch.save", "torch.hub"}
# An address of a package index, or a place on somebody's machine.
FOREIGN = re.compile(
    rf"index[-]url|https?://\S*/(simple|packages|debian)\b|(?<!\w)/(home|root|Users)/|{re.escape(str(ROOT))}"
)

locking = runpy.run_path(str(ROOT / "requirements" / "compile.py"))


def project_files() -> list[Path]:
    """Everything that is, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]


def used_names(source: str) -> set[str]:
    """Every module that is imported and every dotted name."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return names


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", ROOT / "reproduce.sh", *arguments], capture_output=True, text=True)


def test_no_file_names_a_machine_or_a_package_index() -> None:
    texts = {path: path.read_bytes().decode(errors="ignore") for path in project_files()}
    assert {str(path): found[0] for path, text in texts.items() if (found := FOREIGN.search(text))} == {}


def card_name(path: Path) -> str:
    return f"{path.parent.relative_to(ROOT / 'results').as_posix().replace('/', '-')}.md"


def test_packed_files_ship_with_their_results_in_five_megabytes() -> None:
    shipped = [path for path in project_files() if path.name == MODEL]
    recorded = {path: read_json(path.with_name("results.json"))["packed"]["sha256"] for path in shipped}
    assert shipped and {path: sha256_file(path) for path in shipped} == recorded
    assert sum(path.stat().st_size for path in shipped) <= 5 * 2**20
    cards = {path: ROOT / "results" / "cards" / card_name(path) for path in shipped}
    assert all(recorded[path] in card.read_text(encoding="utf-8") for path, card in cards.items())
    assert len(list((ROOT / "results" / "cards").iterdir())) == len(cards)


def test_the_repository_stays_small() -> None:
    assert sum(path.stat().st_size for path in project_files()) <= 60e6


def test_nothing_that_ships_can_unpickle() -> None:
    files = sorted((ROOT / "bitq").rglob("*.py"))
    used = {str(path.relative_to(ROOT)): used_names(path.read_text(encoding="utf-8")) & UNSAFE for path in files}
    assert len(used) == len(files)
    assert {name: names for name, names in used.items() if names} == {}


@pytest.mark.parametrize("text", ["import pickle", "from torch import load", "import torch as t; torch.load(f)"])
def test_an_unpickler_would_be_found(text: str) -> None:
    assert used_names(text) & UNSAFE


def loaded_by(modules: list[str]) -> set[str]:
    """The heavy packages that importing these brings along."""
    code = f"import sys, {', '.join(modules)}; print(*{{'torch', 'pandas', 'matplotlib', 'scipy'}} & set(sys.modules))"
    return set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())


def modules_of(*folders: str) -> list[str]:
    files = [path for folder in folders for path in sorted((ROOT / "bitq").glob(f"{folder}/*.py"))]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


@pytest.mark.parametrize("modules", [["bitq.cli"], modules_of("grid")])
def test_what_every_command_loads_stays_light(modules: list[str]) -> None:
    assert loaded_by(modules) == set()


def test_nothing_right_of_the_results_loads_torch() -> None:
    modules = modules_of("results", "stats", "report", "studies", "studies/*")
    assert len(modules) > 40
    assert "torch" not in loaded_by(modules)


# From each folder, the folders to its right; nothing may import what lies right of it.
RIGHT_OF = {
    "grid": {"train", "deploy", "results", "stats", "report", "studies"},
    "data": {"grid", "train", "deploy", "results", "stats", "report", "studies"},
    "quant": {"grid", "data", "train", "deploy", "results", "stats", "report", "studies"},
    "models": {"grid", "data", "quant", "train", "deploy", "results", "stats", "report", "studies"},
    "train": {"stats", "report", "studies", "explore"},
    "results": {"train", "deploy", "stats", "report", "studies"},
    "stats": {"train", "deploy", "report", "studies", "explore"},
    "report": {"train", "deploy", "studies", "explore"},
    "studies": {"train", "deploy", "explore"},
    "library": {"grid", "results", "stats", "report", "studies"},
}


@pytest.mark.parametrize(("profile", "code"), [("slurm", 2), ("gpu", 0)])
def test_a_profile_without_its_plugin_is_refused_in_one_sentence(profile: str, code: int) -> None:
    script = (ROOT / "reproduce.sh").read_text()
    functions = [
        script[script.index(f"\n{name}() {{") :].split("\n}\n")[0] + "\n}\n" for name in ("need_plugin", "refuse")
    ]
    call = (
        f'say() {{ echo "$*"; }}; python=/nowhere/python; {"".join(functions)} need_plugin workflow/profiles/{profile}'
    )
    done = subprocess.run(["bash", "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code and (f"-r requirements/{profile}.txt first." in done.stdout) == (code == 2)


@pytest.mark.parametrize("folder", RIGHT_OF)
def test_no_module_imports_what_lies_right_of_it(folder: str) -> None:
    wrong = {
        (path.name, name)
        for path in sorted((ROOT / "bitq" / folder).rglob("*.py"))
        for name in used_names(path.read_text())
        if name.startswith("bitq.") and name.split(".")[1] in RIGHT_OF[folder] | {"verbs", "cli"}
    }
    assert not wrong


def test_every_lock_gives_every_package_a_hash_and_the_same_version() -> None:
    versions: dict[str, str] = {}
    for lock in LOCKS:
        pins = locking["pins"](lock.read_text())
        assert len(pins) == len(re.findall(r" \\\n    --hash=sha256:[0-9a-f]{64}.*\n(?!    --hash)", lock.read_text()))
        assert pins.items() <= (versions := pins | versions).items(), lock.name


def test_every_requirement_set_has_its_lock() -> None:
    assert set(LOCKS) == {locking["lock_file"](name) for name in locking["requirement_sets"]()}


def test_conda_environment_names_the_locked_versions() -> None:
    locks = {path.stem: path.read_text() for path in LOCKS}
    assert (ROOT / "environment.yml").read_text() == locking["environment"](locks)
    assert (
        "pytorch=" + locking["pins"](locks["train"])["torch"]
        in yaml.safe_load(locking["environment"](locks))["dependencies"]
    )


@pytest.mark.slow
def test_locks_are_what_compiling_gives() -> None:
    subprocess.run([sys.executable, ROOT / "requirements" / "compile.py", "--check"], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("arguments", [["tset"], ["test", "--al"], ["setup", "now"]])
def test_reproduce_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    refused = reproduce(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"'{' '.join(arguments)}' is not known; allowed: paper, smoke" in refused.stderr
