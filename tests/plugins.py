"""Install the executor plugins of Snakemake beside this environment, in the versions of their locks."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install_plugin(extra: str, target: Path) -> None:
    """Install into a folder what the lock of an extra adds to this environment."""
    blocks = re.findall(r"^\S+==\S+.*(?: \\\n +--hash=\S+)+", (ROOT / f"requirements/{extra}.txt").read_text(), re.M)
    missing = [block for block in blocks if not is_installed(*block.split()[0].split("=="))]
    target.mkdir()
    (target / "requirements.txt").write_text("\n".join(missing) + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    words = ["--require-hashes", "--root-user-action=ignore", "--target", str(target)]
    subprocess.run([*pip, *words, "--requirement", str(target / "requirements.txt")], check=True)


def is_installed(name: str, wanted: str) -> bool:
    """Is this very version here?"""
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False
