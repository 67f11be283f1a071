"""What a killed process left half-written is removed by the next write beside it, and never seen by git."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from bitq import io
from bitq.io import is_unfinished_write, this_host, write_atomic
from bitq.paths import CHECKOUT
from tests.support import in_child, kill_myself


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if is_unfinished_write(path.name)]


def killed_while_writing(path: Path) -> int:
    def work() -> int:
        os.fsync = lambda _: kill_myself()
        write_atomic(path, b"half")
        return 0

    return os.WTERMSIG(in_child(work))


def test_the_next_write_in_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    assert killed_while_writing(tmp_path / "model.safetensors") == signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1 and not (tmp_path / "model.safetensors").exists()
    write_atomic(tmp_path / "results.json", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "name",
    [
        f".model.safetensors.{os.getpid()}-{this_host()}0a1b2c3d",  # of a process that is at work
        f".model.safetensors.999999999-{io.sha256('elsewhere')[:8]}0a1b2c3d",  # of another machine
        ".model.safetensors.999999999-0a1b2c3d",  # of nobody knows which machine
        f".model.safetensors.{this_host()}0a1b2c3d",
        "model.safetensors",
    ],
    ids=["at work", "another machine", "an unknown machine", "no process", "finished"],  # equal in every process
)
def test_nothing_else_is_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    write_atomic(tmp_path / "results.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {name, "results.json"}


def test_git_ignores_them(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "predictions.bin")
    (name,) = leftovers(tmp_path)
    path = f"results/smoke/ring/cifar10/resnet20/ring/s42/{name}"
    if (CHECKOUT / ".git").exists():
        assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=CHECKOUT).returncode == 0
        assert subprocess.run(["git", "check-ignore", "--quiet", "results/manifest.json"], cwd=CHECKOUT).returncode == 1
