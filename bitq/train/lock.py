"""One process per run."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitq.errors import Preempted, StorageError


@contextmanager
def exclusive(folder: Path, run_id: str) -> Iterator[None]:
    """Lock the run's folder; the kernel releases it when the process dies, however it dies."""
    try:
        handle = _open(folder / "lock")
    except FileNotFoundError:  # another process finished the run and removed the folder in between
        handle = _open(folder / "lock")
    except OSError as error:
        raise StorageError(f"{folder / 'lock'} cannot be opened: {error.strerror}.") from error
    try:
        _take(handle, run_id)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _take(handle: int, run_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        raise Preempted(f"{run_id} is already running ({owner}); wait for it, or stop it, then start again.") from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.uname().nodename} {os.getpid()}\n".encode())
