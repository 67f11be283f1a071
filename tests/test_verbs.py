"""What the command line offers: groups, examples, lists, choices of runs, curves."""

import shlex
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from bitq.catalogue import ABOUT_METHODS, ABOUT_MODELS, MODELS
from bitq.cli import VERBS, app
from bitq.errors import UsageError
from bitq.quant.registry import METHODS
from bitq.verbs.train import chosen_runs
from tests.test_cli import Outcome, bitq, here  # noqa: F401 - a fixture

ROOT = typer.main.get_command(app)
EXAMPLES = [example for verbs in VERBS.values() for example in verbs.values()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood_by_the_verb_that_shows_it(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "bitq"
    if arguments[-1] == "--help":
        return
    context = typer.Context(ROOT)
    _, command, rest = ROOT.resolve_command(context, arguments)
    command.make_context(arguments[0], rest, parent=context).close()


def test_every_verb_stands_in_a_group_of_the_help() -> None:
    text = bitq("--help").stdout
    for title, verbs in VERBS.items():
        section = text.partition(f"{title}:\n")[2].partition("\n\n")[0]
        assert all(f"  {verb.__name__.rstrip('_')} " in section for verb in verbs), title


def test_the_lists_name_all_that_there_is(here: Callable[..., Outcome]) -> None:  # noqa: F811
    assert list(ABOUT_MODELS) == list(MODELS) and set(ABOUT_METHODS) == set(METHODS)
    for verb, names in (("models", MODELS), ("methods", ABOUT_METHODS)):
        lines = here(verb).stdout.splitlines()[1:]
        assert [line.split()[0] for line in lines] == list(names)
    title, *lines = here("datasets").stdout.splitlines()
    assert title.split() == ["dataset", "about", "here"] and all(" classes  " in line for line in lines)


def test_version_and_completion_are_there(
    here: Callable[..., Outcome],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert here("--version").stdout.strip()[0].isdigit()
    monkeypatch.setenv("_BITQ_COMPLETE", "source_bash")
    assert "complete -o default -F _bitq_completion bitq" in here().stdout


def ids(
    *names: str, study: list[str] | None = None, phase: list[str] | None = None, **options: list[object]
) -> list[str]:
    return [run.id for run in chosen_runs(list(names), study or [], phase or [], "smoke", options)]


def test_runs_are_chosen_by_glob_and_by_study_with_filters() -> None:
    depths = [f"ring/cifar10/{model}/fp32/s42" for model in ("resnet20", "resnet32", "resnet44")]
    assert ids("ring/*/fp32/s42") == ids(study=["ring"], method=["fp32"], seed=[42]) == depths
    assert ids(study=["ring"], phase=["fp32"], seed=[42]) == depths


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (lambda: ids("ring/*/fp33/s42"), "no run matches 'ring/*/fp33/s42'"),
        (lambda: ids(study=["ring"], seed=[43]), "unknown seed 43; allowed: 123, 42, 456"),
        (lambda: ids(study=["ring"], lr=[0.1]), "runs of the grid are fixed, so --lr cannot go"),
        (lambda: ids(phase=["fp32"]), "--phase fp32 was given without its study"),
    ],
)
def test_choices_without_a_run_are_refused(chosen: Callable[[], list[str]], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("*", r"\*")):
        chosen()


def test_curves_are_drawn_and_written_for_tensorboard_on_request(
    tmp_path: Path,
    here: Callable[..., Outcome],  # noqa: F811
) -> None:
    described = [
        "--scale",
        "smoke",
        "--model",
        "resnet20",
        "--dataset",
        "cifar10",
        "--method",
        "twn",
        "--epochs",
        "1",
        "--curves",
    ]
    folders = [
        "--results",
        str(tmp_path),
        "--state",
        str(tmp_path / "state"),
        "--tensorboard",
        str(tmp_path / "events"),
    ]
    first, again = here("train", *described, *folders), here("train", *described, *folders)
    assert "Next: bitq evaluate" in first.stderr and "1 of 1 finished runs were there before" in again.stderr
    (drawn,) = tmp_path.rglob("curves.png")
    width, height = struct.unpack(">II", drawn.read_bytes()[16:24])
    assert width > 2 * height > 500
    assert list((tmp_path / "events").rglob("events.out.tfevents*"))
    listed = here("results", "--scale", "smoke", "--results", str(tmp_path)).stdout
    assert "adhoc/cifar10/resnet20/twn-epochs1/s42" in listed and "1 finished runs" in listed
