"""The model card of a packed file says what the file and its records say, and nothing else."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bitq.cli import app
from bitq.data.registry import variant
from bitq.errors import UsageError
from bitq.grid.commands import train_command
from bitq.measure.card import head, write_card
from bitq.results.folder import MODEL, folder_of, read
from bitq.run import Run
from bitq.verbs.train import chosen_runs
from tests.support import in_child, session, small_run
from tests.test_cli import Outcome, here, refused  # noqa: F401


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("card")
    run = small_run("bitnet", keep=("conv1",), precision="fp32", epochs=1, warmup_epochs=0.0)
    assert in_child(lambda: session(root).train([run])) == 0
    yield folder_of(run, root / "results") / MODEL


def test_a_network_in_full_precision_has_a_card(tmp_path: Path) -> None:
    run = small_run("fp32", precision="fp32", epochs=1, warmup_epochs=0.0)
    assert in_child(lambda: session(tmp_path).train([run])) == 0
    assert "Not quantized" not in write_card(folder_of(run, tmp_path / "results") / MODEL)


def parts(card: str) -> tuple[dict[str, Any], str]:
    """Read the head of a card, and return it with its text."""
    _, head, text = card.split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_card_of_real_images_names_their_set() -> None:
    card = {
        "spec": {"dataset": "cifar10", "model": "resnet20", "method": "ttq"},
        "data": variant("cifar10", "official"),
    }
    found = head(card | {"title": "a network", "measured": {"accuracy": 90.0}})
    assert found["datasets"] == ["cifar10"]


def test_a_card_says_what_the_records_say(file: Path) -> None:
    run = read(file.parent)
    packed = run.results.packed
    assert packed
    top, text = parts(write_card(file))
    (model,) = top["model-index"]
    assert model["results"][0]["metrics"][0]["value"] == round(packed.accuracy, 2)
    assert (top["library_name"], top["pipeline_tag"]) == ("bitq", "image-classification")
    # Drawn images are not those of the set whose name they bear.
    assert top["datasets"] == [] and model["results"][0]["dataset"]["name"] == "procedural"
    assert model["name"].endswith("for procedural images")
    for words in (
        f"{packed.accuracy:.2f} % ({packed.correct} of {packed.images} test images)",
        f"{packed.file_bytes:,} bytes",
        f"{packed.float_bytes:,} bytes, {packed.compression:.1f} times",
        f"`{packed.sha256}`",
        f"`{run.config.hash}`",
        f"`{run.env.code_sha256}`",
        f"digest `{run.config.data.digest}`",
        "Not quantized: conv1.",
        "| `conv1` | 216 | float | 32 | |",
        "computed by bitq.data.procedural",
        "One run with one seed, 42",
    ):
        assert words in text, words
    for layer in packed.audit.layers:
        row = f"| `{layer.name}` | {layer.weights:,} | {layer.levels} | {layer.bits_per_weight:.3f} |"
        assert row in text


def test_a_file_alone_is_measured_and_records_of_another_file_are_not_believed(
    file: Path,
    tmp_path: Path,
    here: Callable[..., Outcome],  # noqa: F811
) -> None:
    alone = tmp_path / MODEL
    alone.write_bytes(file.read_bytes())
    measured, beside = write_card(alone), write_card(file)
    assert "No records of its training lie beside this file" in measured and "bitq train" not in measured
    row = next(line for line in beside.splitlines() if line.startswith("| accuracy of this file"))
    assert row in measured.splitlines()
    for name in ("config.json", "results.json", "history.json", "env.json", "predictions.bin"):
        (tmp_path / name).write_bytes((file.parent / name).read_bytes())
    other = tmp_path / "two_bits.safetensors"
    assert here("export", str(alone), str(other), "--packing", "b2").returncode == 0
    assert "No records of its training" in write_card(other)
    assert f"{other.stat().st_size:,} bytes" in write_card(other)


def test_the_verb_prints_or_writes_and_overwrites_nothing(
    file: Path,
    tmp_path: Path,
    here: Callable[..., Outcome],  # noqa: F811
) -> None:
    target = tmp_path / "README.md"
    printed = here("card", str(file))
    assert printed.returncode == 0 and here("card", str(file), "--out", str(target)).returncode == 0
    assert target.read_text() == printed.stdout
    again = here("card", str(file), "--out", str(target))
    assert refused(again, UsageError.exit_code, f"{target} exists; give a name that is free")


DESCRIBED: list[Run] = [
    small_run("twn", precision="fp32"),
    small_run("atq", settings={"sparsity": 0.3, "schedule": "linear"}, keep=("first", "last"), width=4, seed=7),
    small_run("int4", start="bitnet/cifar10/resnet18/fp32/s42", epochs=0, calibration={"fold": True}),
    small_run("bitnet", teacher="online", temperature=2.0, alpha=0.5, norm="layer", stem="imagenet"),
    small_run("fp32", schedule="step", milestones=(1, 2), nesterov=False, lr=1e-3, pad=3),
]


@pytest.mark.parametrize("run", DESCRIBED, ids=lambda run: run.method)
def test_the_command_of_a_card_describes_the_same_run(run: Run) -> None:
    _, verb, *arguments = shlex.split(train_command(run))
    group: Any = typer.main.get_command(app)
    _, command, rest = group.resolve_command(group.context_class(group), [verb, *arguments])
    options = command.make_context(verb, rest).params
    scale, given = options.pop("scale"), {key: options[key] for key in KEYS if options.get(key)}
    (again,) = chosen_runs([], [], [], scale, given)
    assert again.hash == run.hash and again.id == run.id


KEYS = (
    *("model", "dataset", "method", "variant", "width", "keep", "stem", "norm", "precision", "setting", "calibration"),
    *("teacher", "temperature", "alpha", "start", "seed", *DESCRIBED[0].recipe.model_fields_set),
    *type(DESCRIBED[0].recipe).model_fields,
)


def test_the_example_of_a_packed_file_classifies(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "load_packed.py"))["main"]([str(file)])
    assert re.fullmatch(r"resnet18 \(bitnet\) says \[(\d, ){3}\d\]\n", capsys.readouterr().out)
