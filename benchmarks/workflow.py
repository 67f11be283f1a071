"""What the workflow itself costs: planning 15,300 runs (goal 30 s); the paper but for TeX (goal 20 s cold, 5 s warm).

python -m benchmarks.workflow
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bitq.grid.paper import paper_runs
from bitq.grid.study import study
from bitq.io import read_json
from tests.synthetic import pretend_all

ROOT = Path(__file__).parents[1]
TIMES = 100


def seconds(folder: Path, program: str, *words: str, **env: str) -> float:
    """How long a command of this environment takes in a folder."""
    command = [str(Path(sys.executable).with_name(program)), *words]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env={**os.environ, **env}, check=True, capture_output=True)
    return time.perf_counter() - start


def larger_grid(config: Path) -> None:
    """The published study with a hundred times the seeds."""
    larger = study("bitnet").model_dump(mode="json")
    larger["distilled"] *= TIMES
    for part in (larger, *larger["phases"]):
        part["runs"] *= TIMES
    for block in (block for phase in larger["phases"] for block in phase["blocks"]):
        block["seeds"] = [42, *range(1000, 999 + len(block["seeds"]) * TIMES)]
    shutil.copytree(ROOT / "config" / "scales", config / "scales")
    (config / "studies").mkdir()
    (config / "studies" / "bitnet.yaml").write_text(yaml.safe_dump(larger))


def plan(folder: Path) -> None:
    larger_grid(folder / "config")
    snakefile = ("--snakefile", str(ROOT / "Snakefile"))
    took = seconds(folder, "snakemake", *snakefile, "grid", "-n", "-q", "all", BITQ_CONFIG=str(folder / "config"))
    (jobs,) = (folder / "build" / "plans").iterdir()
    print(f"plan {len(read_json(jobs)):,} runs, none trained  {took:5.1f} s  (goal 30 s)")


def paper(folder: Path) -> None:
    pretend_all(paper_runs(), folder / "results")
    snakefile = ("--snakefile", str(ROOT / "Snakefile"))
    for what, goal in (("cold", 20), ("when nothing changed", 5)):
        took = seconds(folder, "bitq", "verify", "--paper", "--out", "build/verdict.json")
        took += seconds(folder, "snakemake", *snakefile, "parts")
        print(f"paper but for TeX, {what:<21} {took:5.1f} s  (goal {goal} s)")


def main() -> None:
    for benchmark in (plan, paper):
        with tempfile.TemporaryDirectory() as folder:
            benchmark(Path(folder))


if __name__ == "__main__":
    main()
