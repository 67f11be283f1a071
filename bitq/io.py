"""Read and write files so that a crash at any instant leaves the old file or the new one, never half."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bitq.errors import DataError, StorageError

Buffer = bytes | bytearray | memoryview


def canonical_json(value: Any) -> str:
    """Serialise a value as its one canonical text, whose hash identifies it: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    '{"a":[true,null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def pretty_json(value: Any) -> str:
    """Serialise a value for people, as it is written to disk."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def sha256(data: Buffer | str) -> str:
    """Compute the hex digest of bytes, or of a text in UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def sha256_file(path: Path) -> str:
    """Compute the hex digest of a file's content."""
    with open_for_reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_for_reading(path: Path) -> Any:
    """Open a binary file, or say in one sentence why not."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give a file that is there.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a file in it.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; give another file, or start again.") from error


def read_bytes(path: Path) -> bytes:
    """Read a file's content, or say in one sentence why not."""
    with open_for_reading(path) as file:
        content: bytes = file.read()
    return content


def write_atomic(path: Path, *chunks: Buffer) -> None:
    """Write `chunks` to `path` completely or not at all, and have them on the disk when this returns."""
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished_writes(path.parent)
        # 0o666 less the umask: a results file gets the permissions of any new file of its owner.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write_all(handle, chunks)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} was not written and its old content is kept: {error.strerror}; free space or choose "
            "another folder, then start again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write a large file to, which takes the place of `path` when the block ends well."""
    temporary = _temporary(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path} was not written: {error.strerror}; free space or choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{this_host()}{secrets.token_hex(4)}")


# .NAME.PID-HOST then random digits; before hosts were named, random digits alone.
UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)-(?P<host>[0-9a-f]{8})?[0-9a-f]{8}")


def is_unfinished_write(name: str) -> bool:
    """Recognise the temporary file that write_atomic leaves if its process is killed.

    >>> is_unfinished_write(".results.json.4711-0a1b2c3d4e5f6071"), is_unfinished_write("results.json")
    (True, False)
    """
    return UNFINISHED.fullmatch(name) is not None


def remove_unfinished_writes(folder: Path) -> None:
    """Delete the temporary files of processes of this machine that are no more."""
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        for file in files:
            found = UNFINISHED.fullmatch(file.name)
            # A process of another machine that shares the folder may be alive, whatever runs here.
            if found and found["host"] == this_host() and not is_alive(int(found["pid"])):
                with contextlib.suppress(OSError):
                    os.unlink(file.path)


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


@cache
def this_host() -> str:
    """Digest the name of this machine to eight digits."""
    return sha256(os.uname().nodename)[:8]


def must_be_writable(folder: Path) -> None:
    """Refuse a folder into which nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"nothing can be written to {folder}: {error.strerror}; name another folder.") from error


def _write_all(handle: int, chunks: Iterable[Buffer]) -> None:
    for chunk in chunks:
        rest = memoryview(chunk).cast("B")
        while rest:
            rest = rest[os.write(handle, rest) :]


def _sync_directory(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a value as sorted, NaN-free JSON, atomically."""
    write_atomic(path, pretty_json(value).encode())


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote; a torn or foreign one is a data error."""
    try:
        return json.loads(read_bytes(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); delete it and run its command again.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
