"""The binary format of checkpoints and models: a safetensors file in which every byte is under a digest.

The header's metadata holds `bitq`, a canonical JSON text, and `sha256`, the digest of the whole file with the digest's
own 64 characters read as zeros.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bitq.errors import Bug, DataError, StorageError
from bitq.io import Buffer, canonical_json, open_for_reading, write_atomic

# A checkpoint of ResNet-50 with AdamW has a header of 0.2 MiB, one of VGG-16 is 1.6 GiB long.
MAX_HEADER = 4 * 2**20
MAX_FILE = 8 * 2**30
ALIGNMENT = 8
LENGTH_BYTES = 8

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

NO_DIGEST = b"0" * 64
# Inside the `bitq` text quotes are escaped, so these bytes occur once: before the digest.
DIGEST_KEY = b'"sha256":"'


def write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """Write atomically and return the sha256 of the file."""
    header = _header(tensors, meta)
    payload = [_bytes(tensors[name]) for name in _order(tensors)]
    header = header.replace(DIGEST_KEY + NO_DIGEST, DIGEST_KEY + _sha256(header, *payload).encode())
    write_atomic(path, header, *payload)
    return _sha256(header, *payload)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the metadata of a file that `write` wrote; anything else is a data error."""
    try:
        with open_for_reading(path) as file:
            header = _read_header(path, file)
            meta, digest = _parse(path, header)
            file.seek(0)
            content = file.read()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    if _digest(content) != digest:
        raise _damaged(path, "does not match its own digest")
    try:
        return safetensors.torch.load(content), meta
    except (safetensors.SafetensorError, RuntimeError, AssertionError) as error:
        raise _damaged(path, f"describes tensors that it does not hold ({error})") from error


def measure(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> int:
    """Compute the size in bytes of the file that `write` would write."""
    return len(_header(tensors, meta)) + sum(tensor.nbytes for tensor in tensors.values())


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Sort wide elements first: then each tensor is aligned without a gap, which the format forbids."""
    return sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))


def _header(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """Build length and header with a digest of zeros; safetensors itself would shuffle metadata from run to run."""
    fields: dict[str, Any] = {"__metadata__": {"bitq": canonical_json(meta), "sha256": NO_DIGEST.decode()}}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise Bug(f"{name} is {tensor.dtype}; the file format holds {', '.join(map(str, DTYPES))}.")
        extent = [offset, offset + tensor.nbytes]
        fields[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": extent}
        offset += tensor.nbytes
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > MAX_HEADER or offset > MAX_FILE - MAX_HEADER - LENGTH_BYTES:
        raise Bug(f"a header of {len(text)} and tensors of {offset} bytes are more than a reader would accept.")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    """View the elements in row-major order, without a copy where they already lie so in main memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")  # type: ignore[arg-type]


def _sha256(*chunks: Buffer) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _read_header(path: Path, file: Any) -> bytes:
    """Read length and header, after its size was checked against the cap and the file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size > MAX_FILE:
        raise _damaged(path, f"has {size} bytes, more than the {MAX_FILE} allowed")
    if length > min(MAX_HEADER, size - LENGTH_BYTES):
        raise _damaged(path, f"announces a header of {length} bytes in a file of {size} (at most {MAX_HEADER})")
    file.seek(0)
    header: bytes = file.read(LENGTH_BYTES + length)
    return header


def _parse(path: Path, header: bytes) -> tuple[dict[str, Any], str]:
    """Parse metadata and digest, after the types of the other entries were checked."""
    if header.count(DIGEST_KEY) != 1:
        raise DataError(
            f"{path} is no file that bitq wrote, or its header is damaged: it carries no digest; bitq reads the files "
            "that it wrote itself, and bitq import writes one of a published .pth."
        )
    try:
        fields = json.loads(header[LENGTH_BYTES:])
        metadata = fields.pop("__metadata__")
        meta = json.loads(metadata["bitq"])
        if canonical_json(meta) != metadata["bitq"]:  # refuses NaN and keys that occur twice, too
            raise ValueError("its metadata is not canonical")
        types = {str(entry["dtype"]) for entry in fields.values()}
        digest = str(metadata["sha256"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"has no readable header ({type(error).__name__}: {error})") from error
    if types - set(DTYPES.values()) or not isinstance(meta, dict):
        raise _damaged(path, "holds what bitq never writes: metadata that is no object, or tensors of foreign types")
    return meta, digest


def _digest(content: bytes) -> str:
    """Compute the digest that the file has to name."""
    start = content.index(DIGEST_KEY) + len(DIGEST_KEY)
    view = memoryview(content)
    return _sha256(view[:start], NO_DIGEST, view[start + len(NO_DIGEST) :])


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} {why}; delete it and run the command that wrote it again, if that was bitq's.")
