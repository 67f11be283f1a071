"""Decode the official archives to arrays: nothing is unpacked to disk, only members of expected size are read."""

import gzip
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO

import numpy as np

from bitq.data.images import decode_images
from bitq.data.registry import Variant
from bitq.data.store import Pixels
from bitq.errors import DataError

Decoded = tuple[dict[str, Pixels], tuple[str, ...] | None]  # arrays, names of the classes
Files = Mapping[str, IO[bytes]]  # an archive's name to its bytes

SMALL = 1 << 20  # bytes: text files and single JPEG images
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError)
MAX_MEMBERS = 200_000  # the largest set has 120,609


@contextmanager
def _reporting_damage(name: str) -> Iterator[None]:
    """Report a damaged archive in one sentence."""
    try:
        yield
    except (*UNREADABLE, LookupError, ValueError, RuntimeError) as error:  # the last three: odd text, encryption
        raise DataError(f"{name} cannot be read ({error}); fetch it again.") from error


def _foreign(name: str, why: str) -> DataError:
    return DataError(f"{name} is not the official file: {why}; get it again, or give another --mirror.")


def read_cifar10(files: Files, variant: Variant) -> Decoded:
    """Decode cifar-10-binary: five training batches and a test batch, records of a label and 3×32×32 bytes."""
    (name, file), folder = _only(files), "cifar-10-batches-bin/"
    batches = [f"{folder}data_batch_{number}.bin" for number in range(1, 6)]
    record = 1 + _image_bytes(variant)
    sizes = {batch: variant.train // 5 * record for batch in batches} | {
        f"{folder}test_batch.bin": variant.test * record
    }
    members = _tar_members(name, file, sizes, f"{folder}batches.meta.txt")
    train, test = b"".join(members[batch] for batch in batches), members[f"{folder}test_batch.bin"]
    return _records(train, test, variant, labels=1), _lines(members[f"{folder}batches.meta.txt"])


def read_cifar100(files: Files, variant: Variant) -> Decoded:
    """Decode cifar-100-binary: records of a coarse label, a fine label and 3×32×32 bytes."""
    (name, file), folder = _only(files), "cifar-100-binary/"
    record = 2 + _image_bytes(variant)
    sizes = {f"{folder}train.bin": variant.train * record, f"{folder}test.bin": variant.test * record}
    members = _tar_members(name, file, sizes, f"{folder}fine_label_names.txt")
    arrays = _records(members[f"{folder}train.bin"], members[f"{folder}test.bin"], variant, labels=2)
    return arrays, _lines(members[f"{folder}fine_label_names.txt"])


def _only(files: Files) -> tuple[str, IO[bytes]]:
    ((name, file),) = files.items()
    return name, file


def _image_bytes(variant: Variant) -> int:
    return variant.channels * variant.image_size**2


def _lines(text: bytes) -> tuple[str, ...]:
    return tuple(text.decode().split())


def _records(train: bytes, test: bytes, variant: Variant, labels: int) -> dict[str, Pixels]:
    """Split records into images, stored channel by channel, and the last of their `labels` label bytes."""
    arrays = {}
    for split, data in (("train", train), ("test", test)):
        table = np.frombuffer(data, np.uint8).reshape(-1, labels + _image_bytes(variant))
        images = table[:, labels:].reshape(-1, variant.channels, variant.image_size, variant.image_size)
        arrays[f"x_{split}"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        arrays[f"y_{split}"] = table[:, labels - 1].copy()
    return arrays


def _tar_members(name: str, file: IO[bytes], sizes: Mapping[str, int], text: str) -> dict[str, bytes]:
    """Read the members of exactly these sizes, and one small text file."""
    found: dict[str, bytes] = {}
    with _reporting_damage(name), tarfile.open(fileobj=file, mode="r:gz") as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()):
                raise _foreign(name, f"{member.name} is neither a file nor a folder")
            _check_member(name, member.name, member.size, sizes.get(member.name, SMALL))
            if member.name in sizes or member.name == text:
                content = archive.extractfile(member)
                found[member.name] = content.read() if content else b""
    for expected, size in [*sizes.items(), (text, None)]:
        if expected not in found or size not in (None, len(found[expected])):
            raise _foreign(name, f"{expected} is missing or has the wrong size")
    return found


def _check_member(name: str, member: str, size: int, limit: int) -> None:
    if member.startswith("/") or "\\" in member or ".." in PurePosixPath(member).parts:
        raise _foreign(name, f"the path {member!r} leads out of it")
    if size > limit:
        raise _foreign(name, f"{member} has {size} bytes, expected at most {limit}")


def read_tiny_imagenet(files: Files, variant: Variant) -> Decoded:
    """Decode tiny-imagenet-200: JPEG files, classes in the order of WordNet ids, images in the order of names.

    The test set is `val`, ordered as if its images, too, lay in one folder per class.
    """
    name, file = _only(files)
    with _reporting_damage(name), zipfile.ZipFile(file) as archive:
        _check_zip(name, archive)
        root = "tiny-imagenet-200/"
        ids = sorted(_text(archive, f"{root}wnids.txt", name).split())
        words = dict(line.split("\t") for line in _text(archive, f"{root}words.txt", name).splitlines())
        train = _train_members(archive, ids)
        test = _val_members(_text(archive, f"{root}val/val_annotations.txt", name), ids)
        arrays: dict[str, Pixels] = {}
        for split, members in (("train", train), ("test", test)):
            images = ((f"{path} in {name}", archive.read(path)) for path, _ in members)
            arrays[f"x_{split}"] = decode_images(images, len(members), variant.channels)
            arrays[f"y_{split}"] = np.array([label for _, label in members], np.uint8)
    return arrays, tuple(words.get(wnid, wnid) for wnid in ids)


def _check_zip(name: str, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise _foreign(name, f"it has {len(members)} members, expected at most {MAX_MEMBERS}")
    for member in members:
        limit = 8 * SMALL if member.filename.endswith(".txt") else SMALL
        _check_member(name, member.filename, member.file_size, limit)


def _text(archive: zipfile.ZipFile, member: str, name: str) -> str:
    try:
        return archive.read(member).decode()
    except KeyError:
        raise _foreign(name, f"{member} is missing") from None


def _train_members(archive: zipfile.ZipFile, ids: Sequence[str]) -> list[tuple[str, int]]:
    members = defaultdict(list)
    for path in archive.namelist():
        parts = PurePosixPath(path).parts
        if len(parts) == 5 and parts[1] == "train" and parts[3] == "images" and path.endswith(".JPEG"):
            members[parts[2]].append(path)
    return [(path, label) for label, wnid in enumerate(ids) for path in sorted(members[wnid])]


def _val_members(annotations: str, ids: Sequence[str]) -> list[tuple[str, int]]:
    labels = {wnid: label for label, wnid in enumerate(ids)}
    rows = (line.split("\t") for line in annotations.splitlines())
    members = [(f"tiny-imagenet-200/val/images/{row[0]}", labels[row[1]]) for row in rows]
    return sorted(members, key=lambda member: (member[1], member[0]))


def read_idx(files: Files, variant: Variant) -> Decoded:
    """Decode four gzipped IDX files: a magic number, the sizes as big-endian integers, then the bytes."""
    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        shape = variant.shape(split)
        arrays[f"x_{split}"] = _idx(images, files[images], shape[:3]).reshape(shape)
        arrays[f"y_{split}"] = _idx(labels, files[labels], shape[:1])
    return arrays, None


def _idx(name: str, file: IO[bytes], shape: tuple[int, ...]) -> Pixels:
    header = np.array([0x800 | len(shape), *shape], ">i4").tobytes()
    size = len(header) + int(np.prod(shape))
    with _reporting_damage(name), gzip.open(file) as content:
        data = content.read(size + 1)
    if not data.startswith(header) or len(data) != size:
        raise _foreign(name, f"it does not hold {'×'.join(map(str, shape))} bytes")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


READERS: dict[str, Callable[[Files, Variant], Decoded]] = {
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "tiny_imagenet": read_tiny_imagenet,
    "idx": read_idx,
}
