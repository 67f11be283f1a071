"""Read the entries of a foreign `.pth` archive within limits, so that no crafted file exhausts memory."""

import zipfile
from pathlib import Path

from bitq.errors import DataError

MOST_BYTES = 2**31  # of the archive; the networks that bitq knows take a twentieth
MOST_PICKLE_BYTES = 2**24
MOST_ENTRIES = 20_000
MOST_REBUILT = 4  # times the size of the file: tensors may share a storage, but not multiply it a hundredfold


class Archive:
    """A zip archive none of whose entries is larger than it looks."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        entries, size = archive.infolist(), path.stat().st_size
        self.most_rebuilt = MOST_REBUILT * size
        if size > MOST_BYTES or len(entries) > MOST_ENTRIES:
            raise DataError(
                f"{path} has {size:,} bytes in {len(entries):,} entries; at most {MOST_BYTES:,} and {MOST_ENTRIES:,} "
                "are read; save the network alone."
            )
        # torch.save compresses nothing; a compressed entry could expand to any size.
        if any(
            entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries
        ):
            raise DataError(f"{path} holds compressed entries, which torch.save never writes; get the file again.")
        if sum(entry.file_size for entry in entries) > size:
            raise DataError(f"{path} has {size:,} bytes, but its entries claim more; get the file again.")
        names = [entry.filename for entry in entries]
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1 or len(set(names)) != len(names):
            raise DataError(
                f"{path} is not an archive of torch.save: it holds {len(pickles)} data.pkl; get the file again."
            )
        self.root = pickles[0].removesuffix("data.pkl")
        if f"{self.root}byteorder" in names and self.read("byteorder") != b"little":
            raise DataError(f"{path} was written on a big-endian machine; save it again on a little-endian one.")

    def pickle(self) -> bytes:
        """Read the pickle."""
        if self.archive.getinfo(f"{self.root}data.pkl").file_size > MOST_PICKLE_BYTES:
            raise DataError(
                f"{self.path}: its data.pkl is larger than {MOST_PICKLE_BYTES:,} bytes; save the network alone."
            )
        return self.read("data.pkl")

    def read(self, name: str) -> bytes:
        """Read one entry and verify its checksum."""
        try:
            return self.archive.read(self.root + name)
        except KeyError as error:
            raise DataError(
                f"{self.path}: there is no entry {name!r}, which its data.pkl names; get the file again."
            ) from error
