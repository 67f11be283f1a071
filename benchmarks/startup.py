"""Starting the command line (goal: bitq --help under 0.3 s) and importing what must not load torch.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time


def seconds(*command: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(5))


def main() -> None:
    print(f"bitq --help            {seconds('-m', 'bitq.cli', '--help'):.3f} s  (goal 0.3 s)")
    for name in ("bitq.grid.select", "bitq.results.folder"):
        code = f"import sys, {name}; assert 'torch' not in sys.modules"
        print(f"import {name:<19} {seconds('-c', code):.3f} s, without torch")


if __name__ == "__main__":
    main()
