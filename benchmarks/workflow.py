"""What the workflow itself costs: planning a grid of 15,300 runs (goal 30 s), and a paper that is up to date (goal 5 s).

python benchmarks/workflow.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TIMES = 100


def seconds(folder: Path, *words: str, **env: str) -> tuple[float, str]:
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile", "--directory", folder]
    start = time.perf_counter()
    done = subprocess.run([*command, *words], env={**os.environ, **env}, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def larger_grid(config: Path) -> None:
    """The published study with 300 seeds instead of three."""
    shutil.copytree(ROOT / "config", config)
    for path in (config / "studies").iterdir():
        if path.name != "bitnet.yaml":
            path.unlink()
    study = yaml.safe_load(
        (config / "studies/bitnet.yaml").read_text().replace("5e-4", "5.0e-4").replace("1e-5", "1.0e-5")
    )
    for part in (study, *study["phases"]):
        part["runs"] *= TIMES
        part.update({"distilled": part["distilled"] * TIMES} if "distilled" in part else {})
    for phase in study["phases"]:
        for block in phase["blocks"]:
            block["seeds"] = [42, *range(1000, 999 + len(block["seeds"]) * TIMES)]
    (config / "studies/bitnet.yaml").write_text(yaml.safe_dump(study))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        larger_grid(folder / "config")
        took, plan = seconds(folder, "grid", "--dry-run", "--quiet", "all", BITQ_CONFIG=str(folder / "config"))
        print(f"plan 15,300 runs, none trained   {took:.1f} s  (goal 30 s)")


if __name__ == "__main__":
    main()
