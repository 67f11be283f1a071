"""Download the official image sets from their publishers, check the published digests, and decode them."""

import hashlib
import http.client
import tempfile
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from bitq.data.archives import READERS
from bitq.data.registry import Archive, Download, Variant, default_data_dir, download
from bitq.data.registry import variant as find_variant
from bitq.data.store import status, summary, write_set
from bitq.errors import DataError, StorageError

TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20  # bytes


def fetch(dataset: str, data_dir: Path | None = None, mirror: str | None = None) -> dict[str, Any]:
    """Download and decode an official set, unless it is there already.

    `mirror` replaces the published address: a URL or folder that holds the archives under their names.
    """
    source = download(dataset)
    if mirror:
        source = source.model_copy(update={"mirrors": (as_url(mirror),)})
    return fetch_variant(find_variant(dataset), source, data_dir or default_data_dir())


def as_url(place: str) -> str:
    """Return the URL of a URL or a folder, with a slash at its end."""
    url = place if "://" in place else Path(place).resolve().as_uri()
    return url.rstrip("/") + "/"


def fetch_variant(variant: Variant, source: Download, data_dir: Path) -> dict[str, Any]:
    """Download and decode one variant from one source, unless it is there already."""
    if status(variant, data_dir) != "present":
        with ExitStack() as stack:
            # Unnamed temporary files: a crash leaves nothing behind.
            files = {a.name: stack.enter_context(tempfile.TemporaryFile()) for a in source.archives}
            for archive in source.archives:
                _download(archive, source.mirrors, files[archive.name], variant)
            arrays, names = READERS[source.layout](files, variant)
        write_set(variant, arrays, names, data_dir)
    return summary(variant, data_dir)


def _download(archive: Archive, mirrors: tuple[str, ...], file: IO[bytes], variant: Variant) -> None:
    """Fill `file` from the first mirror that delivers the archive undamaged."""
    *others, last = mirrors
    for mirror in others:
        try:
            return _receive(mirror, archive, file, variant)
        except (DataError, StorageError):
            continue
    _receive(last, archive, file, variant)


def _receive(mirror: str, archive: Archive, file: IO[bytes], variant: Variant) -> None:
    try:
        _copy(mirror + archive.name, archive, file)
    except (OSError, http.client.HTTPException) as error:
        host = urlsplit(mirror).netloc or mirror
        raise StorageError(
            f"{archive.name} could not be downloaded from {host} ({_reason(error)}); try again later, or get the file "
            f"elsewhere and run `bitq data fetch {variant.dataset} --mirror FOLDER`, or use `bitq data import`."
        ) from error
    file.seek(0)


def _reason(error: Exception) -> object:
    return getattr(error, "reason", None) or error


def _copy(url: str, archive: Archive, file: IO[bytes]) -> None:
    algorithm, expected = ("sha256", archive.sha256) if archive.sha256 else ("md5", archive.md5)
    digest, received, limit = hashlib.new(algorithm, usedforsecurity=False), 0, archive.max_mib << 20
    file.seek(0)
    file.truncate()
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        total = response.headers.get("Content-Length")
        while chunk := response.read(CHUNK):
            received += len(chunk)
            if received > limit:
                raise DataError(
                    f"{url} is larger than {archive.max_mib} MiB, so it is not {archive.name}; nothing was kept, "
                    "give another --mirror."
                )
            digest.update(chunk)
            file.write(chunk)
    if total and received < int(total):
        raise ConnectionError(f"only {received} of {total} bytes came")
    if digest.hexdigest() != expected:
        raise DataError(
            f"{url} gave {received} bytes whose {algorithm} is {digest.hexdigest()}, not the published {expected}; "
            f"nothing was kept, try again or take another mirror."
        )
