"""What a bundle holds, and the list of it that travels as its first file."""

from typing import Literal

from bitq.records import Frozen
from bitq.results.manifest import Files, root_digest

LIST = "bundle.json"
CRATE = "ro-crate-metadata.json"
SBOM = "sbom.cdx.json"
RESULTS = "results"  # folder of the bundle
LARGEST_LIST = 2**28  # bytes


class Bundle(Frozen):
    """Every other file of a bundle by path, and one digest over them."""

    kind: Literal["bitq bundle"] = "bitq bundle"
    schema_version: Literal[1] = 1
    runs: tuple[str, ...]  # folders, as below results
    models: int  # of these, with their packed file
    files: Files
    root: str

    @property
    def is_whole(self) -> bool:
        """Tell whether the digest is that of the list."""
        return self.root == root_digest(self.files)
