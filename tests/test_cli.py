"""The command line as a user meets it: data on stdout, one sentence on stderr, the right exit code."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from bitq.catalogue import MODELS
from bitq.cli import main
from bitq.data.registry import datasets, variant
from bitq.data.store import open_set
from bitq.errors import Bug, DataError, StorageError, UsageError
from bitq.grid import adhoc
from bitq.grid.plan import plan_row
from bitq.grid.select import grid
from bitq.machine import machine
from bitq.measure.speed import Planner
from bitq.quant.registry import METHODS
from bitq.results.folder import MODEL, folder_of
from bitq.results.predictions import PREDICTIONS
from bitq.run import Recipe
from bitq.verbs.options import shown
from bitq.verbs.packed import named
from tests.support import in_child, session, small_run

TEACHER = "bitnet/cifar10/resnet18/fp32/s42"
ONE_OFF = ("train", "--model", "resnet18", "--dataset", "cifar10", "--method", "fp32")
KEEP = ("none", "conv1", "layer1", "layer2,layer3", "layer4", "fc", "*.downsample.0")


Outcome = subprocess.CompletedProcess[str]


def bitq(*arguments: str, cwd: Path | None = None, **env: str) -> Outcome:
    """A process of its own."""
    command = [sys.executable, "-m", "bitq.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, check=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The same in this process, where torch is loaded already."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bitq", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *capsys.readouterr())

    return call


def refused(run: Outcome, code: int, *words: str) -> bool:
    """One sentence with these words, and nothing on stdout."""
    assert run.returncode == code, run.stderr
    assert run.stdout == "" and "Traceback" not in run.stderr
    assert run.stderr.startswith("bitq: ") and run.stderr.count("\n") == 1
    for word in words:
        assert word in run.stderr
    return True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grid", "--scale", "ful"], ["unknown scale 'ful'", "Did you mean 'full'"]),
        (["grid", "bitnet/cifar10/resnet18/fp32/s41"], ["bitq grid --scale full lists all", "Did you mean 'bitnet/"]),
        (["grid", "--phase", "7"], ["unknown phase '7'", "allowed"]),
        (["train"], ["a run needs --model", "for example"]),
        (["train", TEACHER, "--lr", "0.5"], ["runs of the grid are fixed, so --lr cannot go"]),
        ([*ONE_OFF, "--alpha", "1"], ["need a teacher"]),
        ([*ONE_OFF, "--seed", "9" * 20], ["allowed: 0 to 4294967295"]),
        (["grid", "abc"], ["unknown run 'abc'", "Of a hash at least 6 digits are needed"]),
        (
            ["grid", "adhoc/cifar10/resnet18/fp32/s1"],
            ["no finished one-off run", "bitq results --study adhoc"],
        ),
        (["export", "README.md", "README.md"], ["README.md exists"]),
        (["export", "README.md", "nowhere/x"], ["nowhere is no folder; make it first"]),
        (["import", "README.md", "nowhere/x"], ["nowhere is no folder; make it first"]),
        (["data", "fetch", "imagenet"], ["unknown data set 'imagenet'"]),
    ],
)
def test_names_that_do_not_exist_are_refused_at_once(
    arguments: list[str], words: list[str], here: Callable[..., Outcome]
) -> None:
    assert refused(here(*arguments), UsageError.exit_code, *words)


RING = {"model": ["resnet20"], "dataset": ["cifar10"], "method": ["ring"]}
OPTIONS = {"--scale": "smoke", "--model": "resnet18", "--dataset": "cifar10", "--method": "bitnet"}


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"--method": "bitnt"}, 2, ["unknown method 'bitnt'", "Did you mean 'bitnet'"]),
        ({"--model": "resnet19"}, 2, ["unknown model 'resnet19'"]),
        ({"--keep": "layer9"}, 2, ["layer9"]),
        ({"--keep": "stem.*"}, 2, ["stem.*"]),
        ({"--setting": "treshold=1", "--method": "ttq"}, 2, ["no setting 'treshold'", "threshold"]),
        ({"--setting": "threshold"}, 2, ["KEY=VALUE"]),
        ({"--epochs": "2", "--warmup-epochs": "3"}, 2, ["warmup_epochs 3.0 must be less than epochs 2"]),
        ({"--device": "tpu"}, 2, ["allowed: auto, cpu, cuda"]),
        ({"--mode": "quick"}, 2, ["unknown mode 'quick'"]),
        ({"--teacher": "missing.safetensors"}, 65, ["missing.safetensors does not exist"]),
        ({"--variant": "official"}, 65, ["bitq data fetch cifar10"]),
        ({"--epochs": "0"}, 2, ["epochs 0 trains nothing; name a start, the run or file to quantize as it is."]),
        ({"--min-lr": "1"}, 2, ["bitnet: min_lr 1.0 must not exceed lr 0.1."]),
        ({"--width": "0"}, 2, ["width 0 was given; allowed: greater than or equal to 1"]),
        ({"--width": "100000"}, 2, ["width 100000 was given; allowed: less than or equal to 1024"]),
        ({"--keep": "layer1.9", "--variant": "official"}, 2, ["no layer matches 'layer1.9'"]),  # before the data
        ({"--precision": "fp8"}, 2, ["unknown precision 'fp8'; allowed: bf16, fp16, fp32"]),
        ({"--lr-every": "day"}, 2, ["unknown lr_every 'day'; allowed: epoch, step"]),
        ({"--norm": "batch"}, 2, ["unknown norm 'batch'; allowed: layer, none"]),
        ({"--teacher": "online", "--alpha": "2"}, 2, ["--alpha 2.0 was given; allowed: less than or equal to 1"]),
        ({"--teacher": "online", "--temperature": "0"}, 2, ["--temperature 0.0 was given; allowed: greater than 0"]),
        ({"--start": "README.md"}, 2, ["neither a run of the grid", "FILE.safetensors (bitq import writes one"]),
        ({"--start": "nosuch"}, 2, ["neither a run of the grid", "STUDY/DATASET/MODEL/ARM/sSEED"]),
        ({"--calibration": "fold"}, 2, ["--calibration 'fold' was given; write KEY=VALUE once, as in fold=true"]),
        ({"--start": TEACHER, "--calibration": "images=1000"}, 2, ["there are 640 training images; allowed: 1 to 640"]),
        ({"--calibration": "activation_range=mse"}, 2, ["give activations=static with it"]),
        ({"--calibration": "activations=static"}, 2, ["is for a trained network; name a start"]),
        ({"--calibration": "fold=true"}, 2, ["calibration fold is for a trained network; name a start"]),
        ({"--gamma": "0.3"}, 2, ["gamma 0.3 changes nothing with schedule cosine; it is for step"]),
        ({"--augment": "none", "--pad": "7"}, 2, ["pad 7 changes nothing with augment none"]),
        ({"--schedule": "step", "--milestones": "-5"}, 2, ["milestones [-5.0] must be epochs above 0"]),
        ({"--batch": "1000"}, 2, ["batch=1000 was given, but there are 640 training images; allowed: 1 to 640"]),
        ({"--threads": "0"}, 2, ["--threads 0 was given; allowed: 1 and more"]),
        ({"--device": "cpu:x"}, 2, ["--device cpu:x was given; allowed: auto, cpu, cuda, cuda:N"]),
        ({"--start": "ring/cifar10/resnet20/fp32/s42"}, 2, ["a network of model=resnet20", "but model=resnet18"]),
        ({"--teacher": "atq/mnist/atq_cnn/fp32/s42"}, 2, ["dataset=mnist", "give", "a teacher of its own data"]),
        ({"--results": "README.md"}, 74, ["nothing can be written to README.md", "name another folder"]),
        ({"--model": "resnet20", "--stem": "imagenet"}, 2, ["resnet20 has one stem; leave --stem out"]),
        ({"--method": "twn", "--setting": "threshold=NaN"}, 2, ["threshold=NaN was given; it takes a number"]),
        ({"--method": "fp32", "--setting": "levels=3"}, 2, ["method 'fp32' has no setting 'levels'; allowed: none"]),
    ],
)
def test_bad_options_end_in_one_sentence(
    changed: dict[str, str], code: int, words: list[str], here: Callable[..., Outcome]
) -> None:
    arguments = [part for pair in (OPTIONS | changed).items() for part in pair]
    assert refused(here("train", *arguments), code, *words)


@pytest.mark.parametrize("verb", [["evaluate"], ["demo"], ["import"]])
def test_a_folder_is_no_file(verb: list[str], tmp_path: Path, here: Callable[..., Outcome]) -> None:
    rest = [str(tmp_path / "out")] if verb == ["import"] else []
    assert refused(here(*verb, str(tmp_path), *rest), DataError.exit_code, str(tmp_path))


def test_whatever_is_no_refusal_is_a_bug(monkeypatch: pytest.MonkeyPatch, here: Callable[..., Outcome]) -> None:
    monkeypatch.setattr("bitq.grid.select.find_run", lambda *_: 1 / 0)
    ended = here("grid", TEACHER)
    assert ended.returncode == Bug.exit_code and "bitq: ZeroDivisionError is a bug" in ended.stderr


@pytest.mark.parametrize(
    ("verb", "work"),
    [
        (["demo"], "bitq.measure.demo.tour"),
        (["evaluate", __file__], "bitq.measure.packed_file.evaluate_file"),
        (["plan"], "bitq.measure.speed.plan_studies"),
    ],
)
def test_ctrl_c_ends_a_command_in_one_sentence(
    verb: list[str], work: str, monkeypatch: pytest.MonkeyPatch, here: Callable[..., Outcome]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
    monkeypatch.setattr(work, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        assert refused(here(*verb), 130, "stopped by Ctrl-C")
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_key_of_a_recipe_is_an_option_with_its_default_and_what_it_means(here: Callable[..., Outcome]) -> None:
    text = " ".join(here("train", "--help").stdout.partition("\nRecipe:\n")[2].split())
    for name, field in Recipe.model_fields.items():
        described = text.partition(f" --{name.replace('_', '-')} ")[2].partition("]")[0]
        assert field.description and field.description.removesuffix(".") in described, name
        assert described.endswith(f" [default: {shown(field.default)}"), name
    assert adhoc.sweep("smoke", {**RING, "nesterov": [False], "lr_every": ["epoch"]})[0].recipe.nesterov is False


def test_the_help_of_train_shows_what_is_allowed_and_usual(here: Callable[..., Outcome]) -> None:
    lines = here("train", "--help").stdout
    text = " ".join(lines.split())
    for title in ("Run", "Network", "Method", "Teacher and start", "Recipe", "Machine"):
        assert f"\n{title}:\n" in lines
    assert text.count("epeatable") == 1
    for words in (", ".join(MODELS), ", ".join(METHODS), ", ".join(datasets()), "[default: 42]", "[default: fp32]"):
        assert words in text
    assert all(name in text for name in ("bf16 and fp16 need a GPU", "sgd, adamw, adam", "[default: cosine]"))


def test_what_is_not_there_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from bitq.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    for arguments, word in (
        (["train", "--help"], ""),
        ([*ONE_OFF, "--method", "bitnt"], "Did you mean 'bitnet'"),
        ([*ONE_OFF, "--setting", "levels=3"], "no setting 'levels'"),
        ([*ONE_OFF, "--keep", "conv_1"], "Did you mean 'conv1'"),
        (["evaluate", str(tmp_path / "missing")], "does not exist"),
        (["evaluate", __file__, "--plots", "/proc/nope"], "nothing can be written to /proc/nope"),
        (["export", __file__, str(tmp_path / "no" / "x")], "is no folder"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert word in done.stderr and "AssertionError" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m bitq.cli grid --json | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


def test_no_configuration_is_no_empty_grid(tmp_path: Path) -> None:
    assert refused(bitq("grid", BITQ_CONFIG=str(tmp_path)), UsageError.exit_code, "$BITQ_CONFIG")


def test_one_off_runs_are_listed_explained_and_parents_by_name(
    tmp_path: Path, here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITQ_RESULTS", str(tmp_path / "results"))
    first = small_run(epochs=1, warmup_epochs=0.0, precision="fp32")
    assert in_child(lambda: session(tmp_path).train([first])) == 0
    assert (
        first.id == "adhoc/cifar10/resnet18/fp32-procedural@160-epochs1-warmup_epochs0-mixup0.2-label_smoothing0.1/s42"
    )
    at = ("--scale", "smoke")
    packed = json.loads((folder_of(first, tmp_path / "results") / "results.json").read_text())["packed"]
    listed = here("results", "--study", "adhoc", *at).stdout.splitlines()
    assert listed[0].split() == ["run", "status", "accuracy", "file", "bytes", "compression"]
    assert listed[1].split()[:4] == [first.id, "done", f"{packed['accuracy']:.2f}", f"{packed['file_bytes']:,}"]
    assert listed[2].startswith("1 finished runs at scale smoke")
    row = json.loads(here("results", "--study", "adhoc", "--json", "--method", "fp32", *at).stdout)[0]
    assert (row["accuracy"], row["file_bytes"], row["method"]) == (packed["accuracy"], packed["file_bytes"], "fp32")
    assert here("results").stdout.endswith("; there are some at smoke\n")
    assert "epochs=1" in here("grid", first.id, *at).stdout and first.id in here("grid", first.hash[:6], *at).stdout
    assert refused(here("grid", first.id[:-1], *at), UsageError.exit_code, f"Did you mean '{first.id}'")
    quantized = small_run("int4", start=first.id, epochs=0, warmup_epochs=0.0, precision="fp32")
    taught = small_run("twn", teacher=first.id, epochs=1, warmup_epochs=0.0, mixup=0.0, label_smoothing=0.0)
    assert taught.arm.startswith("twn-kd-procedural@160-bf16-teacher_adhoc.fp32-procedural@160-epochs1")
    assert len(taught.arm) <= 100
    assert in_child(lambda: session(tmp_path).train([quantized, taught])) == 0
    assert "3 finished runs at scale smoke" in here("results", "--study", "adhoc", *at).stdout


def test_a_packed_file_is_evaluated_and_exported_alone(tmp_path: Path, here: Callable[..., Outcome]) -> None:
    run = small_run("bitnet")
    assert in_child(lambda: session(tmp_path).train([run])) == 0
    file = folder_of(run, tmp_path / "results") / MODEL
    results = json.loads((file.parent / "results.json").read_text())
    (tmp_path / "alone").mkdir()
    alone = file.rename(tmp_path / "alone" / "net.safetensors")
    found = json.loads(here("evaluate", str(alone), "--json").stdout)
    assert found["accuracy"] == results["packed"]["accuracy"] and found["bytes"] == results["packed"]["file_bytes"]
    assert json.loads(here("evaluate", str(alone), "--batch-size", "7", "--json").stdout)["images"] == found["images"]
    told = tmp_path / "told.bin"
    assert json.loads(here("evaluate", str(alone), "--predictions", str(told), "--json").stdout) == found
    assert told.read_bytes() == (file.parent / PREDICTIONS).read_bytes()
    again = here("evaluate", str(alone), "--predictions", str(told))
    assert refused(again, UsageError.exit_code, "told.bin exists; give a name that is free")
    plots = here("evaluate", str(alone), "--plots", str(tmp_path / "plots")).stderr
    assert "level_distribution.pdf" in plots and "no training_curve: it needs the records of a run" in plots
    shown = here("demo", str(alone), "--dataset", "cifar10", "--variant", "procedural@640", "--image", "3").stdout
    assert shown.startswith("test image 3: class")
    answer = {"class": 6, "class_name": "frog", "says": 3, "says_name": None}
    assert (named(answer, "class"), named(answer, "says")) == ("6 (frog)", "3")
    two = tmp_path / "two.safetensors"
    assert (
        json.loads(here("export", str(alone), str(two), "--packing", "b2", "--json").stdout)["bytes"] > found["bytes"]
    )
    assert json.loads(here("evaluate", str(two), "--json").stdout)["accuracy"] == found["accuracy"]
    wrong = here("evaluate", str(alone), "--dataset", "cifar100", "--variant", "procedural")
    assert refused(wrong, UsageError.exit_code, "evaluate it on cifar10: --dataset cifar10 --variant procedural@160")
    large = here("evaluate", str(alone), "--variant", "official")
    assert refused(large, UsageError.exit_code, "image_size=16, but image_size=32 was asked for")
    alone.write_bytes(alone.read_bytes()[:-1])
    assert refused(here("evaluate", str(alone)), DataError.exit_code, "net.safetensors")


def test_grid_explains_a_run_and_prints_commands() -> None:
    text = bitq("grid", "bitnet/cifar10/resnet50/bitnet-keep_conv1-kd/s123").stdout
    assert "conv1 in full precision" in text and "fp32/s123" in text and "epochs=300" in text
    commands = bitq("grid", "--study", "bitnet", "--commands").stdout.splitlines()
    assert len(set(commands)) == 153 and all(line.startswith("bitq train ") for line in commands)


def test_imported_data_is_trained_on_by_name(tmp_path: Path) -> None:
    images = open_set(variant("cifar10", "procedural@160"))
    arrays = {name: getattr(images, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(tmp_path / "mine.npz", **arrays)
    data = {"BITQ_DATA": str(tmp_path / "data")}
    source = str(tmp_path / "mine.npz")
    assert refused(bitq("data", "import", "cifar10", source, **data), UsageError.exit_code, "--provenance")
    assert bitq("data", "import", "cifar10", source, "--provenance", "made here", **data).returncode == 0
    options = {**OPTIONS, "--variant": "custom", "--epochs": "1", "--warmup-epochs": "0"}
    arguments = [part for pair in options.items() for part in pair]
    done = bitq("train", *arguments, "--json", cwd=tmp_path, **data, BITQ_RESULTS="results", BITQ_STATE="state")
    assert done.returncode == 0 and json.loads(done.stdout)[0]["status"] == "done"


def test_a_terminal_that_lacks_a_letter_shows_another() -> None:
    listing = ("grid", "--scale", "smoke", "--study", "bitnet", "--seed", "42")
    arrows, plain = bitq(*listing), bitq(*listing, PYTHONIOENCODING="ascii")
    assert "←" in arrows.stdout and plain.stdout == arrows.stdout.replace("←", "?")
    assert (plain.returncode, plain.stderr) == (0, "")


def test_an_error_of_input_or_output_is_no_bug(
    here: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert refused(here("submission", "--build", str(tmp_path / "file")), DataError.exit_code, "holds no typeset paper")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "build/paper/main.tex")

    monkeypatch.setattr("bitq.report.paper.submission", full)
    sentence = "build/paper/main.tex: No space left on device; give another place, or start again."
    assert refused(here("submission"), StorageError.exit_code, sentence)


@pytest.mark.slow
def test_every_method_keep_and_teacher_ends_in_valid_results(tmp_path: Path) -> None:
    """From a shell, at smoke scale: every way to keep layers for one method of each work, and every method."""
    place = ("--scale", "smoke", "--model", "resnet18", "--dataset", "cifar10", "--json")
    short = ("--epochs", "1", "--warmup-epochs", "0.25")
    kept = [f"--method={name}" for name in ("bitnet", "ttq", "ring", "atq", "int4")]
    kept += [f"--keep={keep}" for keep in KEEP]
    sweeps = [kept, [f"--method={name}" for name in METHODS]]
    env = {"BITQ_RESULTS": str(tmp_path / "results"), "BITQ_STATE": str(tmp_path / "state")}
    outcomes = []
    for sweep, teacher in product(sweeps, ([], [f"--teacher={TEACHER}"])):
        done = bitq("train", *place, *short, *sweep, *teacher, **env)
        assert done.returncode == 0, done.stderr
        outcomes += json.loads(done.stdout)
    assert len(outcomes) == 2 * (5 * len(KEEP) + len(METHODS))
    assert all(one["status"] == "done" and one["packed"]["accuracy"] == one["accuracy"] for one in outcomes)


@pytest.mark.slow
def test_the_plan_of_a_smoke_study_comes_true(tmp_path: Path) -> None:
    """Predicted and measured hours agree within 30 %, both on the clock of this thread: others may be busy here."""
    runs = [r for r in grid("smoke", ["bitnet"]) if r.data.dataset == "cifar10"]
    row = plan_row("bitnet", "smoke", runs, (), Planner(machine("cpu"), startup=0.0).cost, jobs=1)
    start = time.process_time()
    assert session(tmp_path).train(runs) == 0
    measured = (time.process_time() - start) / 3600
    assert row.hours == pytest.approx(measured, rel=0.3)
