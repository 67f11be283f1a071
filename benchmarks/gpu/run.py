"""Half an hour on a lent GPU, stage after stage; see README.md beside this file.

python benchmarks/gpu/run.py correct|fast|real [--seconds N] [--out DIR] [--archive DIR] [--jobs K] [--rehearse]
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.gpu import real as real_stage
from benchmarks.gpu.correct import correct
from benchmarks.gpu.fast import fast
from benchmarks.gpu.kit import Clock, Record, device_name, pack
from bitq.errors import UsageError

SECONDS = {"correct": 180.0, "fast": 240.0, "real": 570.0}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check, measure and use a GPU; resumable, bounded in time.")
    parser.add_argument("stage", choices=SECONDS)
    parser.add_argument("--seconds", type=float, help="when to stop")
    parser.add_argument("--out", type=Path, default=Path("/tmp/bitq-gpu"), help="what stays between two calls")
    parser.add_argument("--archive", type=Path, default=os.environ.get("OUT"), help="where the archive goes [$OUT]")
    parser.add_argument("--jobs", type=int, default=4, help="runs side by side in stage real")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the processor")
    asked = parser.parse_args(arguments)
    if not asked.rehearse and not torch.cuda.is_available():
        print(UsageError("no CUDA device is visible; rehearse with --rehearse."), file=sys.stderr)
        return UsageError.exit_code
    return stage(asked)


def stage(asked: argparse.Namespace) -> int:
    """Run one stage and pack what it found, also when it fails."""
    asked.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(asked.seconds or SECONDS[asked.stage])
    record = Record(asked.out / f"{asked.stage}.jsonl", device_name(asked.rehearse))
    files = [record.path]
    try:
        if asked.stage == "correct":
            return correct(record, clock, asked.out, asked.rehearse)
        if asked.stage == "fast":
            return fast(record, clock, asked.out, asked.rehearse)
        return real_stage.real(record, clock, asked.out, asked.rehearse, asked.jobs)
    finally:
        files += [path for path in (asked.out / f"{asked.stage}.log",) if path.exists()]
        files += real_stage.files(asked.out) if asked.stage == "real" else []
        archive = Path(asked.archive or asked.out) / f"{asked.stage}.zip"
        left_out = pack(archive, asked.out, [path for path in files if path.exists()])
        print(f"{archive}: {archive.stat().st_size:,} bytes, {len(left_out)} files left out", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
