"""One process per run, on one machine and on file systems that many machines share."""

import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from bitq.errors import Preempted, StorageError

LEASE = 60.0  # s without a sign of life after which a process on another machine counts as dead
BEAT = 10.0  # s from one sign of life to the next


@contextmanager
def exclusive(folder: Path, run_id: str) -> Iterator[None]:
    """Hold the run's folder alone, or raise Preempted while a living process holds it.

    Of one machine the kernel's lock tells at once, and is released when its process dies, however it dies. Not every
    network file system passes it on to other machines, so a lease lies beside it: a file whose time its holder renews.
    Who finds one watches it by its own clock that cannot jump, and takes it over only when it stands still.
    """
    try:
        handle = _open(folder / "lock")
    except FileNotFoundError:  # another process finished the run and removed the folder in between
        handle = _open(folder / "lock")
    except OSError as error:
        raise StorageError(
            f"{folder / 'lock'} cannot be opened: {error.strerror}; give another folder: --state DIR."
        ) from error
    try:
        _take(handle, run_id)
        with _leased(folder / "lease", run_id):
            yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):  # what a network file system kept of a finished run until both were closed
            folder.rmdir()


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _take(handle: int, run_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _already_running(run_id, os.pread(handle, 200, 0).decode(errors="replace").strip()) from None
    except OSError:  # a file system without such locks: the lease decides alone
        return
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.uname().nodename} {os.getpid()}\n".encode())


@contextmanager
def _leased(path: Path, run_id: str) -> Iterator[None]:
    lease = SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=BEAT, on_compromise=_stop, mode=0o666)
    seen: list[int] = []

    def holder_lives() -> bool:
        with contextlib.suppress(OSError):
            seen.append(path.stat().st_mtime_ns)
        if len(seen) == 1:
            print(f"bitq: {run_id} may be running elsewhere; watching for up to {LEASE:.0f} s.", file=sys.stderr)
        return len(set(seen)) > 1

    try:
        lease.acquire(timeout=2 * LEASE, poll_interval=min(1.0, BEAT / 2), cancel_check=holder_lives)
    except Timeout:
        raise _already_running(run_id, _holder(path)) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}; give another --state.") from error
    try:
        yield
    finally:
        lease.release()


def _already_running(run_id: str, holder: str) -> Preempted:
    return Preempted(
        f"{run_id} is already running ({holder or 'another process'}); wait for it, or stop it, then start again."
    )


def _holder(path: Path) -> str:
    """Read who holds a lease: machine and process."""
    try:
        said = dict(line.partition("=")[::2] for line in path.read_text(errors="replace").splitlines())
    except OSError:
        return ""
    return f"{said.get('host', '').partition('?')[0]} {said.get('pid', '')}".strip()


def _stop(lost: LeaseCompromise) -> None:
    """Stop as a signal would: somebody took the lease of a process that had stood still for too long."""
    if lost.reason == "marker-missing":  # the folder went, with all that could be shared
        return
    text = f"bitq: {lost.lock_file} was taken over by another process ({lost.reason}); this one stops.\n"
    os.write(2, text.encode())
    os.kill(os.getpid(), signal.SIGTERM)
