"""Stage correct: the tests that need a GPU, one fact a test."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.kit import Clock, Record

ROOT = Path(__file__).parents[2]
TESTS = "tests/test_gpu.py"
OUTCOME = re.compile(rf"^({TESTS}::\S.*?) (PASSED|FAILED|SKIPPED|ERROR)\b", re.M)
OPTIONS = ("-vv", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "--tb=short", "-rs")
REHEARSED = "law and (bitnet or ttq)"


def correct(record: Record, clock: Clock, out: Path, rehearse: bool) -> int:
    """Run every test that has not passed yet, until the time is over; 1 if one failed."""
    passed = [key for key, fact in record.known().items() if fact["outcome"] == "PASSED"]
    command = [sys.executable, "-m", "pytest", TESTS, *OPTIONS, *(f"--deselect={name}" for name in passed)]
    command += ["-k", REHEARSED] if rehearse else []
    env = {**os.environ, "PYTHONUNBUFFERED": "1"} | ({"BITQ_GPU_TESTS": "cpu"} if rehearse else {})
    log, failed = out / "correct.log", 0
    with log.open("ab") as file:
        start = file.tell()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(max(clock.left - 5, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            record.add("correct: out of time", outcome="STOPPED")
    text = log.read_bytes()[start:].decode(errors="replace")
    for name, outcome in OUTCOME.findall(text):
        record.add(name, outcome=outcome)
        failed += outcome in ("FAILED", "ERROR")
    return int(failed > 0)
