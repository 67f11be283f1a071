"""Fixtures of every test: one thread, private folders, no reader that executes what it reads."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# In CI the same examples every time; on a desk new ones. No deadline: a busy machine is not a bug.
settings.register_profile("bitq", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("bitq")


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Data, results and state of the tests lie outside the checkout."""
    folder = tmp_path_factory.mktemp("bitq")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("data", "results", "state"):
            patch.setenv(f"BITQ_{name.upper()}", str(folder / name))
        yield


@pytest.fixture(autouse=True)
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.load can run code from a file; nothing here may call it, through a library either."""
    if torch := sys.modules.get("torch"):
        monkeypatch.setattr(torch, "load", _refuse)


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("torch.load was called; read safetensors instead")


# Not yet mended. Each stays visible as xfailed with its reason, and leaves this list with its repair.
OPEN: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, reason in OPEN.items():
            if name in item.nodeid:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
