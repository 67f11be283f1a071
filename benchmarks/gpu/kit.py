"""What the stages share: a clock, a record of what is already known, and the archive that goes home."""

import json
import platform
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ARCHIVE_BYTES = 16 * 2**20  # what one file may be that comes back from a lent machine


@dataclass
class Clock:
    """The time that a stage may take."""

    seconds: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.seconds - (time.monotonic() - self.start)


@dataclass
class Record:
    """Facts, one JSON object a line, each written as soon as it is known; what is there is not measured again."""

    path: Path
    device: str

    def known(self) -> dict[str, dict[str, Any]]:
        """The facts of this device by their keys; a last line that was cut off is none."""
        facts = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                fact = json.loads(line)
            except ValueError:
                continue
            if fact["device"] == self.device:
                facts[fact["key"]] = fact
        return facts

    def add(self, key: str, **values: Any) -> None:
        """Write a fact down."""
        line = json.dumps({"key": key, "device": self.device, **values})
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def device_name(rehearse: bool) -> str:
    """The card, or the processor of a rehearsal."""
    return platform.machine() if rehearse else torch.cuda.get_device_name()


def pack(archive: Path, root: Path, files: Iterable[Path], limit: int = ARCHIVE_BYTES) -> list[Path]:
    """Write the files into one archive, in their order, but for those that would make it too large: these are returned.

    Whether a file fits is asked of its plain size, so that an archive is never larger than the limit.
    """
    left_out = []
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        size = 0
        for file in files:
            name, plain = file.relative_to(root).as_posix(), file.stat().st_size
            overhead = 200 + 2 * len(name)  # of its two headers
            if size + plain + overhead > limit:
                left_out.append(file)
                continue
            packed.write(file, name)
            size += packed.getinfo(name).compress_size + overhead
    part.replace(archive)
    return left_out
