"""The workflow: its entry points plan the right jobs, a bare call is set up, and no file time can mislead it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from bitq.grid.expand import expand
from bitq.grid.select import Selection, grid
from bitq.results.folder import MODEL, folder_of
from bitq.results.jobs import flops, jobs_of
from tests.synthetic import pretend_all

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "workflow" / "profiles").iterdir())
PAPER = {"verify", "aggregate", "statistics", "tables", "figures", "numbers", "pdf", "paper"}
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))

STUDY = """
study: tiny
title: two teachers, two students
runs: 4
distilled: 2
datasets: {mnist: {}}
phases:
  - phase: "1"
    title: teachers
    runs: 2
    blocks: [{models: [resnet18], datasets: [mnist], seeds: [1, 2], arms: [{method: fp32}]}]
  - phase: "2"
    title: students
    runs: 2
    blocks: [{models: [resnet18], datasets: [mnist], seeds: [1, 2], arms: [{method: bitnet, teacher: fp32/s1}]}]
"""
SCALE = """
scale: smoke
summary: seconds
variants: {mnist: procedural@160}
widths: {resnet18: 4}
recipe: {epochs: 1, batch: 32, lr_every: step, pad: 2}
batch_runs: 2
"""

Outcome = subprocess.CompletedProcess[str]


def snakemake(folder: Path, *words: str, **env: str) -> Outcome:
    """The workflow of this checkout, working in another folder."""
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile", "--directory", folder]
    own = {key: value for key, value in os.environ.items() if key not in ("BITQ_RESULTS", "BITQ_STATE")}
    env = own | ({"BITQ_CONFIG": str(folder / "config")} if (folder / "config").exists() else {}) | env
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run([*command, *words], cwd=ROOT, env=env, **said)  # type: ignore[call-overload,no-any-return]


def planned(outcome: Outcome) -> dict[str, int]:
    """How many jobs of each rule a dry run announces."""
    assert outcome.returncode == 0, outcome.stdout
    if "Nothing to be done" in outcome.stdout:
        return {}
    table = outcome.stdout.split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\S+) +(\d+)$", table, re.M)}


def plan(folder: Path, *words: str, **env: str) -> dict[str, int]:
    return planned(snakemake(folder, "--dry-run", *words, **env))


PAPER_YAML = """\
studies: {tiny: smoke}
growing: false
title: T
subtitles: {smoke: S}
notices: {smoke: N}
images: {smoke: I}
source_date_epoch: 0
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A grid of four runs, two of which learn from a third, in a folder whose name is not plain."""
    folder = tmp_path / "a gríd's folder"
    for name, text in {
        "studies/tiny.yaml": STUDY,
        "scales/smoke.yaml": SCALE,
        "paper.yaml": PAPER_YAML,
    }.items():
        (folder / "config" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "config" / name).write_text(text)
    monkeypatch.setenv("BITQ_CONFIG", str(folder / "config"))
    yield folder


def is_installed(settings: dict[str, str]) -> bool:
    """Are the plugins here that a profile needs?"""
    needed = {"executor": settings.get("executor"), "storage": settings.get("default-storage-provider")}
    return all(find_spec(f"snakemake_{kind}_plugin_{name}") for kind, name in needed.items() if name)


def set_times(folder: Path, year: int) -> None:
    subprocess.run(["find", folder, "-exec", "touch", "-h", "-d", f"{year}-01-01", "{}", "+"], check=True)


# --- which jobs ------------------------------------------------------------------------------------------------------


def test_a_job_lacks_what_its_results_lack(project: Path) -> None:
    runs = expand("tiny", "smoke")
    root = project / "results"

    def lacking() -> list[tuple[list[str], bool]]:
        return [(job["todo"], job["models"]) for job in jobs_of(runs, root)]

    pretend_all(runs, root)
    assert lacking() == [([], False), ([], False)]
    shutil.rmtree(folder_of(runs[-1], root))
    assert lacking() == [([], False), ([runs[-1].id], False)]
    (folder_of(runs[0], root) / MODEL).unlink()
    assert lacking() == [([runs[0].id], True), ([runs[-1].id], False)]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"hash": 1}', "null"])
def test_what_is_not_this_runs_result_has_to_be_trained(project: Path, damage: str) -> None:
    runs = expand("tiny", "smoke")
    pretend_all(runs, project / "results")
    (folder_of(runs[1], project / "results") / "results.json").write_text(damage)
    assert [job["todo"] for job in jobs_of(runs, project / "results")] == [[runs[1].id], []]


def test_a_selection_brings_the_teachers_that_it_needs() -> None:
    students = Selection(phases=["2"], seeds=[123]).of(expand("bitnet", "full"))
    jobs = jobs_of(students)
    assert [job["runs"][0] for job in jobs if not job["needs"]] == [
        f"bitnet/{dataset}/resnet18/fp32/s123"
        for dataset in ("tiny_imagenet", "cifar100", "cifar10")  # by work: a classifier of 100 classes costs more
    ]
    assert sum(len(job["runs"]) for job in jobs) == len(students) + 3


def test_a_job_has_another_name_as_soon_as_one_of_its_runs_is_another() -> None:
    runs = expand("bitnet", "full")[:2]
    other = runs[1].model_copy(update={"seed": 7})
    names, others = ([job["name"] for job in jobs_of(pair)] for pair in (runs, (runs[0], other)))
    assert names[0] == others[0] and names[1] != others[1]


def test_jobs_that_others_wait_for_and_long_ones_come_first() -> None:
    jobs = {job["name"]: job for job in jobs_of(grid("full"))}
    assert all(jobs[need]["priority"] > job["priority"] for job in jobs.values() for need in job["needs"])
    alone = [job for job in jobs.values() if job["study"] == "bitnet" and job["phases"] == ["3"]]
    cost = {run.id: flops(run) for run in expand("bitnet", "full")}
    assert sorted(alone, key=lambda job: -job["priority"]) == sorted(alone, key=lambda job: -cost[job["runs"][0]])


@pytest.mark.parametrize("at", ["full", "mini"])
def test_a_phase_that_fills_a_job_shares_none(at: str) -> None:
    assert all(len(job["phases"]) == 1 for job in jobs_of(expand("bitnet", at)))


def test_jobs_of_a_kind_take_equally_long() -> None:
    runs = expand("bitnet", "smoke")
    cost = {run.id: flops(run) for run in runs}
    for waits in (False, True):
        jobs = [sum(cost[run] for run in job["runs"]) for job in jobs_of(runs) if bool(job["needs"]) == waits]
        assert len(jobs) > 1 and max(jobs) < 1.5 * min(jobs)


# --- how it is written ------------------------------------------------------------------------------------------------


def test_rules_read_like_forms() -> None:
    texts = {path.name: path.read_text() for path in [ROOT / "Snakefile", *RULES]}
    for name, text in texts.items():
        assert not re.search(r"^\s+(run|script|notebook):|\blambda\b|import (pandas|torch|numpy)", text, re.M), name
    for rule in re.findall(r"^rule \w+:\n((?:    .*\n|\n)+)", "\n".join(texts.values()), re.M):
        if "shell:" in rule:
            for part in ("output:", "log:", "benchmark:", "resources:", "params:", "message:", "mem_mb=", "runtime="):
                assert part in rule, f"{part}\n{rule}"
            assert re.search(r'shell:\n\s+"\(?(exec until_done --attempt .* on_free_gpu"\n\s+" )?bitq ', rule)


def test_no_rules_file_is_long() -> None:
    assert all(len(path.read_text().splitlines()) <= 150 for path in [ROOT / "Snakefile", *RULES])


def test_the_format_is_snakefmts() -> None:
    done = subprocess.run([sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"], cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["paper", "smoke", "grid"])
def test_the_linter_is_content(target: str, project: Path) -> None:
    done = snakemake(project, target, "--lint", *(["--config", "scale=smoke"] if target == "grid" else []))
    assert "in a good condition" in done.stdout


def test_profiles_name_only_options_that_there_are() -> None:
    code = "from snakemake.cli import get_argument_parser as p; print(*p()._option_string_actions)"
    options = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    for profile in PROFILES:
        settings = yaml.safe_load((profile / "config.yaml").read_text())
        own = {key for key in settings if key.startswith(f"{settings.get('executor')}-")}
        known = own if not is_installed(settings) else set()
        assert {f"--{key}" for key in settings.keys() - known} <= set(options)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_a_profile_plans_the_grid(profile: Path, project: Path) -> None:
    if not is_installed(yaml.safe_load((profile / "config.yaml").read_text())):
        pytest.skip("its plugins are not installed")
    assert plan(project, "grid", "--profile", str(profile), "--config", "scale=smoke") == {"train": 2, "grid": 1}


# --- targets ---------------------------------------------------------------------------------------------------------


def test_a_bare_call_is_set_up_and_plans_the_paper_without_training(project: Path) -> None:
    said = snakemake(project, "--dry-run")
    assert "profiles/default" in said.stdout
    assert planned(said) == dict.fromkeys(PAPER, 1)


@pytest.mark.slow
def test_the_paper_does_not_load_the_rules_that_train(project: Path) -> None:
    rules = {target: snakemake(project, target, "--list-rules").stdout.split() for target in ("paper", "smoke")}
    assert "train" not in rules["paper"] and "train" in rules["smoke"]


def test_the_default_profile_is_greedy_and_reruns_what_is_incomplete() -> None:
    settings = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert settings["scheduler"] == "greedy" and settings["rerun-incomplete"] is True
    assert set(settings["rerun-triggers"]) == {"code", "mtime", "params"}


def test_any_part_of_the_grid_can_be_asked_for(tmp_path: Path) -> None:
    asked = ("grid", "--config", "study=bitnet", "phase=5", "seed=42,123")
    assert plan(tmp_path, *asked) == {"train": 48 + 6, "grid": 1}  # and their teachers


def test_each_phase_is_a_target(tmp_path: Path) -> None:
    name = "grid_bitnet_6"
    assert plan(tmp_path, name, "--config", "scale=mini") == {"train": 6, name: 1}  # 21 runs, four a job


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["grid", "--config", "study=bitnett"], "unknown study 'bitnett'"),
        pytest.param(
            ["--config", "phse=5"], "--config phse=… is not known here; allowed: scale, study", marks=pytest.mark.slow
        ),
    ],
)
def test_what_does_not_exist_is_refused_by_name(words: list[str], complaint: str, tmp_path: Path) -> None:
    refused = snakemake(tmp_path, "--dry-run", *words)
    assert refused.returncode != 0 and complaint in refused.stdout


def test_results_that_are_there_are_not_trained_again(project: Path) -> None:
    pretend_all(expand("tiny", "smoke"), project / "results")
    assert "train" not in plan(project, "grid", "--config", "scale=smoke")


# --- freshness -------------------------------------------------------------------------------------------------------


@pytest.fixture
def collected(project: Path) -> Path:
    """With verified and collected results."""
    pretend_all(expand("tiny", "smoke"), project / "results")
    done = snakemake(project, "build/runs.parquet")
    assert done.returncode == 0, done.stdout
    return project


@pytest.mark.parametrize("year", [pytest.param(1999, marks=pytest.mark.slow), 2031])
def test_no_file_time_means_anything(year: int, collected: Path) -> None:
    set_times(collected, year)
    assert plan(collected, "build/runs.parquet") == {}


@pytest.mark.slow
def test_new_results_are_noticed_whatever_their_time(collected: Path) -> None:
    set_times(collected, 2031)
    env = folder_of(expand("tiny", "smoke")[0], collected / "results") / "env.json"
    env.write_text(env.read_text().replace('"threads": 1', '"threads": 2'))
    set_times(env, 1999)
    assert plan(collected, "build/runs.parquet") == {"verify": 1, "aggregate": 1}
    assert snakemake(collected, "build/runs.parquet").returncode == 0
    assert plan(collected, "build/runs.parquet") == {}


@pytest.mark.slow
def test_a_flipped_byte_stops_everything_whatever_its_time(collected: Path) -> None:
    record = folder_of(expand("tiny", "smoke")[0], collected / "results") / "history.json"
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 1
    record.write_bytes(content)
    set_times(record, 1999)
    refused = snakemake(collected, "build/runs.parquet")
    assert refused.returncode != 0 and "damaged" in refused.stdout
    assert "Collecting" not in refused.stdout


@pytest.mark.slow
def test_an_extra_run_is_listed(collected: Path) -> None:
    run = expand("tiny", "smoke")[0]
    stranger = run.model_copy(update={"seed": 99})
    pretend_all([stranger], collected / "results")
    refused = snakemake(collected, "build/runs.parquet")
    assert refused.returncode != 0 and re.search(rf"extra +{stranger.path}", refused.stdout)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_failed_or_was_deleted_is_trained_again(project: Path) -> None:
    teachers, students = expand("tiny", "smoke")[:2], expand("tiny", "smoke")[2:]
    root = project / "results"
    grid_door = ("grid", "--config", "scale=smoke")

    def times() -> dict[str, int]:
        return {
            path.parent.name + path.parent.parent.name: path.stat().st_mtime_ns for path in root.rglob("results.json")
        }

    # A run that cannot be trained, since something else lies in its place, fails alone.
    broken = folder_of(students[1], root)
    broken.mkdir(parents=True)
    (broken / "results.json").write_text("{")
    assert snakemake(project, *grid_door).returncode != 0
    assert len(list(root.rglob(MODEL))) == 3
    before = times()

    shutil.rmtree(broken)
    assert snakemake(project, *grid_door).returncode == 0
    after = times()
    assert {name for name in after if after[name] != before.get(name)} == {"s2bitnet-kd"}
    assert "train" not in plan(project, *grid_door)

    for _ in range(2):
        before = times()
        shutil.rmtree(folder_of(teachers[1], root))
        assert snakemake(project, *grid_door).returncode == 0
        after = times()
        assert {name for name in after if after[name] != before.get(name)} == {"s2fp32"}

    # As after a clone, which has no packed files: the teacher is trained again for its student, and nothing else.
    before = times()
    for model in root.rglob(MODEL):
        model.unlink()
    shutil.rmtree(folder_of(students[0], root))
    assert snakemake(project, *grid_door).returncode == 0
    after = times()
    assert {name for name in after if after[name] != before.get(name)} == {"s1fp32", "s1bitnet-kd"}


@pytest.mark.slow
def test_the_smoke_door_trains_in_its_own_folder(project: Path) -> None:
    assert snakemake(project, "smoke_runs").returncode == 0
    assert not (project / "results").exists() and not (project / "state").exists()
    assert plan(project, "smoke_runs").get("train") is None
    shutil.rmtree(next((project / "build/smoke/results").rglob("bitnet-kd")) / "s1")
    assert plan(project, "smoke_runs") == {"train": 1, "verify_smoke": 1, "smoke_runs": 1}


def test_each_command_gets_the_gpu_with_the_fewest(tmp_path: Path) -> None:
    script = [str(ROOT / "workflow/scripts/on_free_gpu"), "sh", "-c", "echo $CUDA_VISIBLE_DEVICES; read until_told"]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "2,5", "TMPDIR": str(tmp_path)}
    with ExitStack() as running:
        shown = []
        for _ in range(4):
            command = subprocess.Popen(script, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.enter_context(command)
            assert command.stdin and command.stdout
            running.callback(command.stdin.close)
            shown.append(command.stdout.readline().strip())
    assert shown == ["2", "5", "2", "5"]
