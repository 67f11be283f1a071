"""A small disk: a file system in memory that only this process and its children see, and that ends with them."""

import os
import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

FILLER = "filler"


def private_mounts() -> list[str] | None:
    """Find the words that let a command mount file systems which nobody else sees, if this machine has any."""
    if shutil.which("unshare") is None:
        return None
    for words in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        test = [*words, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        if subprocess.run(test, capture_output=True).returncode == 0:
            return words
    return None


def mount(folder: Path, size_mib: int) -> None:
    """Mount an empty file system of a given size."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)


def fill(folder: Path, draw: random.Random) -> None:
    """Leave at most a few pages free."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with suppress(OSError), open(folder / FILLER, "wb", buffering=0) as file:
        for _ in range((free - draw.choice((0, 4096, 65536))) // 4096):
            file.write(bytes(4096))


def free(folder: Path) -> None:
    """Give the space back."""
    (folder / FILLER).unlink(missing_ok=True)
