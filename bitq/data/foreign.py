"""Read the image files of others: the usual .npz layout, and Parquet tables as data hubs export them."""

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitq.data.images import decode_images
from bitq.data.store import ARRAYS
from bitq.errors import DataError, UsageError

Content = tuple[dict[str, np.ndarray[Any, Any]], tuple[str, ...] | None]  # arrays, names of the classes
Rows = list[tuple[bytes, Any]]  # encoded image, label

MAX_BYTES = 16 << 30  # unpacked; a small file can claim any size
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "labels", "fine_label")
SPLITS = {"train": ("train",), "test": ("test", "validation", "valid", "val")}  # the first one present is read
BATCH = 1024  # rows


def read_foreign(file: Path, channels: int) -> Content:
    """Read the arrays named in ARRAYS as the file has them, and the names of the classes if it has any."""
    if not file.exists():
        raise UsageError(f"{file} does not exist; give a .npz file, a .parquet file or a folder of .parquet files.")
    if file.is_dir() or file.suffix == ".parquet":
        return read_parquet(file, channels)
    if file.suffix == ".npz":
        return read_npz(file)
    raise UsageError(f"{file} was given; allowed: a .npz file, a .parquet file or a folder of .parquet files.")


def read_npz(file: Path) -> Content:
    """Read x_train, y_train, x_test, y_test and, if present, classes."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check_unpacked_size(file, sum(member.file_size for member in archive.infolist()))
        with np.load(file, allow_pickle=False) as content:
            for name in ARRAYS:
                if name not in content:
                    raise DataError(f"{file} has no {name}; expected arrays: {', '.join(ARRAYS)}.")
            names = tuple(map(str, content["classes"])) if "classes" in content else None
            return {name: content[name] for name in ARRAYS}, names
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file} cannot be read as .npz ({error}); get the file again.") from error


def _check_unpacked_size(file: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"{file} would unpack to {size >> 30} GiB; at most {MAX_BYTES >> 30} GiB are read.")


def read_parquet(place: Path, channels: int) -> Content:
    """Read one file with a column `split`, or a folder of files named by split, such as train-00000-of-00001."""
    rows: dict[str, Rows] = defaultdict(list)
    names = None
    for file in sorted(place.glob("*.parquet")) if place.is_dir() else [place]:
        names = _read_table(file, rows) or names
    arrays = {}
    for split, aliases in SPLITS.items():
        found = next((rows[alias] for alias in aliases if alias in rows), None)
        if not found:
            raise UsageError(
                f"{place} has no {split} images; give a folder with train-*.parquet and test-*.parquet (or "
                f"validation-*.parquet), or a file with a column `split`."
            )
        images = ((f"{split} image {index} of {place}", blob) for index, (blob, _) in enumerate(found))
        arrays[f"x_{split}"] = decode_images(images, len(found), channels)
        arrays[f"y_{split}"] = np.array([label for _, label in found])
    return arrays, names


def _read_table(file: Path, rows: dict[str, Rows]) -> tuple[str, ...] | None:
    """Append the rows of a file to those of their split, and return the names of the classes."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            groups = range(table.metadata.num_row_groups)
            _check_unpacked_size(file, sum(table.metadata.row_group(group).total_byte_size for group in groups))
            image, label = (_column(file, table.schema_arrow.names, some) for some in (IMAGE_COLUMNS, LABEL_COLUMNS))
            split = ["split"] if "split" in table.schema_arrow.names else []
            for row in _records(table, [image, label, *split]):
                name = row["split"] if split else file.stem.partition("-")[0]
                rows[name].append((_encoded_image(row[image], file), row[label]))
            return _class_names(table.schema_arrow.metadata or {}, label)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file} cannot be read as Parquet ({error}); get the file again.") from error


def _column(file: Path, names: Sequence[str], allowed: Sequence[str]) -> str:
    for name in allowed:
        if name in names:
            return name
    raise DataError(f"{file} has the columns {', '.join(names)}; one of them must be {' or '.join(allowed)}.")


def _records(table: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(BATCH, columns=columns):
        yield from batch.to_pylist()


def _encoded_image(image: Any, file: Path) -> bytes:
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise DataError(f"{file} does not hold the images themselves; export it with embedded PNG or JPEG bytes.")
    return content


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...] | None:
    """Read the class names that data hubs keep in the metadata of the schema."""
    try:
        return tuple(map(str, json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]))
    except (KeyError, ValueError, TypeError):
        return None
