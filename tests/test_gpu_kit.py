"""The kit for a lent GPU: rehearsed on a processor, resumable, small enough to come back, and able to run there."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import run
from benchmarks.gpu.kit import Clock, Record, pack
from benchmarks.gpu.real import blocks
from bitq.errors import UsageError

ROOT = Path(__file__).parents[1]
ABSENT = ("snakemake", "torchao", "jsonschema", "xdist", "ruff", "mypy", "snakefmt", "uv")  # on the lent machine


def rehearse(stage: str, out: Path) -> list[str]:
    """Rehearse a stage; the keys of what it found."""
    command = [sys.executable, "benchmarks/gpu/run.py", stage, "--rehearse", "--out", str(out), "--jobs", "2"]
    done = subprocess.run([*command, "--archive", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(out / f"{stage}.zip") as archive:
        lines = archive.read(f"{stage}.jsonl").decode().splitlines()
    facts = [json.loads(line) for line in lines]
    assert facts and not any("error" in fact for fact in facts)
    return [fact["key"] for fact in facts]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["correct", "fast", "real"])
def test_a_stage_is_rehearsed_and_a_second_call_repeats_nothing(stage: str, tmp_path: Path) -> None:
    keys = rehearse(stage, tmp_path)
    assert len(keys) == len(set(keys)) and len(keys) >= 2
    assert rehearse(stage, tmp_path) == keys


def test_without_a_gpu_the_kit_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run.main(["fast"]) == UsageError.exit_code
    assert "no CUDA device is visible; rehearse with --rehearse" in capsys.readouterr().err


def test_a_record_survives_a_cut_line_and_another_device(tmp_path: Path) -> None:
    record = Record(tmp_path / "facts.jsonl", "one")
    record.add("a", value=1)
    Record(record.path, "other").add("b", value=2)
    with record.path.open("a") as file:
        file.write('{"key": "c", "dev')
    assert list(record.known()) == ["a"] and record.known()["a"]["value"] == 1


def test_an_archive_is_never_too_large_and_takes_what_comes_first(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("first", "large", "last")]
    for file, size in zip(files, (1000, 50_000, 1000), strict=True):
        file.write_bytes(bytes(range(256)) * (size // 256))
    assert pack(tmp_path / "found.zip", tmp_path, files, limit=5000) == [files[1]]
    assert (tmp_path / "found.zip").stat().st_size <= 5000
    assert zipfile.ZipFile(tmp_path / "found.zip").namelist() == ["first", "last"]


def test_time_runs_out() -> None:
    assert 0 < Clock(5).left <= 5 and Clock(0).left <= 0


def test_real_runs_come_in_the_planned_order() -> None:
    found = [(scale, runs[0].study, len(runs)) for scale, runs in blocks(rehearse=False)]
    minis = [("mini", study) for study in ("ring", "bitnet", "precision", "atq")]
    assert [part[:2] for part in found] == [*minis, ("full", "ring"), ("full", "bitnet")]
    assert found[4][2] == 2 * 8 * 3  # two networks, eight arms, three seeds


def test_training_needs_nothing_that_the_lent_machine_lacks() -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {ABSENT!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import benchmarks.gpu.run, bitq.train.pool, bitq.measure.speed, bitq.verbs.train, tests.test_gpu, bitq.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
