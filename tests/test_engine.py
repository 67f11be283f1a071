"""The digest of the engine changes with what can change a number, and with nothing else."""

import pytest

from bitq import engine


def digest_with(monkeypatch: pytest.MonkeyPatch, change: dict[str, tuple[str, str]]) -> str:
    plain = engine.Path.read_text

    def read(path: engine.Path) -> str:
        text = plain(path)
        old, new = change.get(path.relative_to(engine.PACKAGE).as_posix(), ("", ""))
        assert old in text
        return text.replace(old, new, 1) if old else text

    monkeypatch.setattr(engine.Path, "read_text", read)
    return engine.code_sha256.__wrapped__()


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("quant/twn.py", "threshold: float = 0.7", "threshold: float = 0.75", True),
        ("precision.py", "return torch.autocast", "return  torch.autocast", True),
        ("train/loop.py", '"""Train to the end', '"""Train until the end', False),
        ("run.py", "class Recipe(", "# why\n\nclass Recipe(", False),
        ("train/progress.py", "import sys", "import sys, os", False),
        ("report/tables.py", "import", "import  ", False),
    ],
)
def test_the_digest_follows_the_statements(
    file: str, old: str, new: str, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = engine.code_sha256()
    assert (digest_with(monkeypatch, {file: (old, new)}) != now) == changes


def test_every_file_that_is_left_out_exists() -> None:
    assert all((engine.PACKAGE / name).exists() for name in (*engine.WITHOUT, *engine.MODULES, *engine.FOLDERS))
