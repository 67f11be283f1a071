"""The image is built from the lock files, and from nothing that is not here."""

import os
import re
import shutil
import subprocess
import sys
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


TOOLS = ("buildah", "debootstrap", "unshare")
# Debian's own Python in the place of the official image, with the locked wheels that pip finds here and nothing else.
UNPACK = """
set -e
debootstrap --foreign --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$0"
for package in "$0"/var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" "$0"; done
rm -r "$0/var/cache/apt/archives" "$0/debootstrap" "$0"/usr/lib/python3.*/EXTERNALLY-MANAGED
"""


def base_root(root: Path) -> Path:
    """A root file system that serves as the base image: Debian bookworm with Python, and the wheels of the locks."""
    made = subprocess.run(["unshare", "--mount", "sh", "-c", UNPACK, str(root)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Debian's packages cannot be had here: {made.stderr.strip() or made.stdout.strip()}")
    locks = [word for name in ("build", "base") for word in ("--requirement", str(ROOT / f"requirements/{name}.txt"))]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *locks]
    subprocess.run([*download, "--dest", str(root / "wheels")], check=True)
    (root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return root


@pytest.mark.slow
def test_the_image_is_built_and_runs(tmp_path: Path) -> None:
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(missing or TOOLS)} (Debian: apt-get install {' '.join(TOOLS[:2])})")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("needs Python 3.11, that of the image, to find its wheels")
    storage = ["buildah", "--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver=vfs"]

    def buildah(*words: str) -> str:
        done = subprocess.run([*storage, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    empty = buildah("from", "scratch")
    buildah("add", empty, str(base_root(tmp_path / "debian")), "/")
    buildah("commit", "--rm", empty, "localhost/python:3.11")
    arguments = ["--build-arg", "BASE=localhost/python:3.11", "--build-arg", "EXTRAS="]
    buildah("build", "--isolation=chroot", "--pull=never", *arguments, "--tag", "bitq", str(ROOT))
    made = buildah("from", "--pull=never", "bitq")
    run = ["run", "--isolation=chroot", made, "--"]
    assert "runs at scale smoke" in buildah(*run, "bitq", "grid", "--scale", "smoke", "--study", "atq")
    assert "Snakefile" in buildah(*run, "ls")  # a container starts in the checkout, and has the tools of the workflow
    assert re.match(r"9\.", buildah(*run, "snakemake", "--version"))
