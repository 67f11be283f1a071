"""The image is built from the lock files, and from nothing that is not here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = re.sub(r"\\\n\s*", " ", (ROOT / "Containerfile").read_text())
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]


def test_what_the_image_installs_is_locked() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps --no-build-isolation --editable ." in installs[1]
    default = re.search(r'^ARG EXTRAS="(.*)"$', TEXT, re.M)
    assert default
    for extra in ("build", "base", *default[1].split()):
        assert (ROOT / f"requirements/{extra}.txt").exists()
    assert re.search(r"^ARG BASE=\S+:3\.\d+\S*$", TEXT, re.M), "the base names its Python"


def test_what_the_image_copies_is_here_and_what_it_ignores_is_made_here() -> None:
    for line in LINES:
        if line.startswith("COPY "):
            assert (ROOT / line.split()[1]).exists()
    ignored = (ROOT / ".containerignore").read_text().split()
    for made in (".venv/", "/build/", "/data/", "/state/", "__pycache__/"):
        assert made in (ROOT / ".gitignore").read_text().split()
        assert made.strip("/") in {entry.removeprefix("**/") for entry in ignored}


def test_every_step_is_one_that_there_is() -> None:
    assert {line.split()[0] for line in LINES} == {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "CMD"}
    for line in LINES:
        if line.startswith("RUN "):
            assert subprocess.run(["sh", "-n", "-c", line.removeprefix("RUN ")]).returncode == 0


@pytest.mark.slow
def test_the_image_is_built_and_runs(tmp_path: Path) -> None:
    if not shutil.which("buildah"):
        pytest.skip("needs buildah")
    base = re.search(r"^ARG BASE=(\S+)$", TEXT, re.M)
    assert base
    storage = ["buildah", "--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver=vfs"]
    if subprocess.run([*storage, "pull", "--quiet", base[1]], capture_output=True, timeout=300).returncode:
        pytest.skip(f"{base[1]} cannot be pulled here")
    build = ["build", "--isolation=chroot", "--build-arg", "EXTRAS=", "--tag", "bitq", str(ROOT)]
    subprocess.run([*storage, *build], check=True)
    made = subprocess.check_output([*storage, "from", "bitq"], text=True).strip()
    said = subprocess.check_output(
        [*storage, "run", "--isolation=chroot", made, "--", "bitq", "grid", "--scale", "smoke", "--study", "atq"],
        text=True,
    )
    assert "runs at scale smoke" in said
