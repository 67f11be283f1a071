"""Compile pyproject.toml into the hash-locked files of this folder and into environment.yml.

python requirements/compile.py             after a change of pyproject.toml; versions that still fit stay
python requirements/compile.py --upgrade   take the newest versions instead
python requirements/compile.py --check     write nothing; fail when a file is not what would be written
python requirements/compile.py --pylock pylock.toml   the locked packages with the addresses of their files (PEP 751)
python requirements/compile.py --sbom sbom.cdx.json    the locked packages with hashes and licences (CycloneDX)
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python requirements/compile.py"

# Where conda's name differs from the package index's.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
CONDA_SETS = ("base", "train", "onnx", "dev", "build")
CONDA_HEADER = f"""\
# The conda equivalent of what `./reproduce.sh setup` installs. Then, in the checkout:
#     pip install --no-deps --no-build-isolation --editable .
# Written by `{COMMAND}` from the locked versions; not solved by CI.
name: bitq
channels: [conda-forge, bioconda, nodefaults]
dependencies:
"""


def requirement_sets() -> dict[str, list[str]]:
    """The direct requirements by lock file: base, each extra, and what builds and installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sets: dict[str, list[str]] = {"base": project["project"]["dependencies"]}
    sets |= project["project"]["optional-dependencies"]
    sets |= project["dependency-groups"]
    return sets


def lock_file(name: str) -> Path:
    """Where the lock of one requirement set lies."""
    return ROOT / "requirements" / f"{name}.txt"


def pins(lock: str) -> dict[str, str]:
    """Version by package name.

    >>> pins("numpy==2.4.6 ; sys_platform == 'linux' \\\\\\n    --hash=sha256:00\\n    # via scipy\\n")
    {'numpy': '2.4.6'}
    """
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))


def package_name(requirement: str) -> str:
    """The name without its version range."""
    return re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]


def compile_locks(upgrade: bool = False) -> dict[str, str]:
    """The text of every lock; all are cut from one resolution, so that they can be installed together."""
    sets = requirement_sets()
    kept = "" if upgrade else "".join(lock_file(name).read_text() for name in sets if lock_file(name).exists())
    everything = resolve("all", list(chain(*sets.values())), kept)
    return {name: resolve(name, requirements, everything) for name, requirements in sets.items()}


def resolve(name: str, requirements: list[str], kept: str) -> str:
    """Lock `requirements` for every platform, with the versions and hashes of `kept` where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        source, lock = Path(folder, f"{name}.in"), Path(folder, f"{name}.txt")
        source.write_text("\n".join(requirements))
        lock.write_text(kept)
        # One version per package on all Pythons (fewest): what environment.yml and a paper can name.
        options = ["--universal", "--python-version=3.11", "--fork-strategy=fewest", "--generate-hashes"]
        options += [f"--custom-compile-command={COMMAND}", f"--output-file={lock.name}", "--quiet"]
        command = [find_uv(), "pip", "compile", source.name, *options]
        subprocess.run(command, cwd=folder, check=True)
        return lock.read_text()


def write_pylock(target: Path) -> None:
    """Write the locked packages of all sets as pylock.toml.

    It names the addresses of the index that this machine is set to, so it is made on demand and not kept here.
    """
    if not re.fullmatch(r"pylock(\.[^.]+)?\.toml", target.name):
        sys.exit(f"{target.name} was given; allowed for --pylock: pylock.toml or pylock.NAME.toml.")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "all.in")
        source.write_text("\n".join(locked()))
        options = ["--universal", "--python-version=3.11", "--format=pylock.toml", "--quiet", "--no-header"]
        command = [find_uv(), "pip", "compile", source.name, *options, f"--output-file={target.name}"]
        subprocess.run(command, cwd=folder, check=True)
        target.write_text(Path(folder, target.name).read_text())


def write_sbom(target: Path) -> None:
    """Write the software bill of materials that `bitq archive` puts into a bundle."""
    from bitq.archive.sbom import bill_of_materials
    from bitq.io import write_json

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    write_json(target, bill_of_materials(ROOT / "requirements", version))


def locked() -> list[str]:
    """Every locked package with version and marker, as in `numpy==2.4.6 ; sys_platform == 'linux'`."""
    texts = (lock_file(name).read_text() for name in requirement_sets())
    return sorted({line.strip() for text in texts for line in re.findall(r"^[a-z0-9-]+==[^\\\n]+", text, re.MULTILINE)})


def find_uv() -> str:
    """The locked uv beside this Python (its version shapes the text), or the one on PATH."""
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    return uv or sys.exit(f"uv was not found; run ./reproduce.sh setup, then .venv/bin/{COMMAND}.")


def environment(locks: dict[str, str]) -> str:
    """The text of environment.yml for these locks."""
    sets = requirement_sets()
    versions = {name: pins(locks[name]) for name in CONDA_SETS}
    lines = ["python>=3.11", "pip"]
    for group in CONDA_SETS:
        names = map(package_name, sets[group])
        lines += [f"{CONDA_NAMES.get(name, name)}={versions[group][name]}" for name in names]
    return CONDA_HEADER + "".join(f"  - {line}\n" for line in lines)


def main() -> None:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pylock", type=Path, metavar="OUT")
    parser.add_argument("--sbom", type=Path, metavar="OUT")
    options = parser.parse_args()
    if options.pylock or options.sbom:
        for write, target in ((write_pylock, options.pylock), (write_sbom, options.sbom)):
            if target:
                write(target)
        return
    locks = compile_locks(options.upgrade)
    texts = {lock_file(name): text for name, text in locks.items()}
    texts[ROOT / "environment.yml"] = environment(locks)
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run {COMMAND}")
    for path in stale:
        path.write_text(texts[path])


if __name__ == "__main__":
    main()
