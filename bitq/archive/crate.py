"""The bundle as a Research Object Crate, which catalogues of data can read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bitq.archive.contents import RESULTS, SBOM
from bitq.engine import code_sha256
from bitq.results.folder import Finished

ENCODING = {
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".cff": "application/yaml",
    ".md": "text/markdown",
    "": "text/plain",
}


def metadata(runs: Sequence[Finished], beside: Sequence[str], title: str, epoch: int, version: str) -> dict[str, Any]:
    """Describe the runs, each a data set with its numbers, and the files beside them."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(gen_preview=False)
    crate.name = title
    crate.description = (
        f"{len(runs)} finished runs of bitq: their configurations, results, curves, environments, predictions and, as "
        "far as they travel, the packed files that were measured."
    )
    # A date of the content, so that the same results make the same bundle.
    crate.root_dataset["datePublished"] = datetime.fromtimestamp(epoch, UTC).date().isoformat()
    software = {"@type": "SoftwareApplication", "name": "bitq", "softwareVersion": version, "sha256": code_sha256()}
    crate.add(ContextEntity(crate, "#bitq", properties=software))
    for path in beside:
        kind = ENCODING.get(path[path.rfind(".") :] if "." in path else "", "application/octet-stream")
        added = crate.add_file(dest_path=path, properties={"encodingFormat": kind, "name": name_of(path)})
        if path == "LICENSE":
            crate.license = added
    for run in runs:
        crate.add_dataset(dest_path=f"{RESULTS}/{run.config.path}", properties=of_run(run))
    found: dict[str, Any] = crate.metadata.generate()
    return found


def name_of(path: str) -> str:
    """Say what a file is."""
    names = {SBOM: "Software bill of materials", "LICENSE": "Licence", "CITATION.cff": "How to cite"}
    return names.get(path, path)


def of_run(run: Finished) -> dict[str, Any]:
    """Describe a run: what was trained on what, and what came out."""
    config, packed = run.config, run.results.packed
    outcome = f"{packed.accuracy:.2f} % from {packed.file_bytes:,} bytes" if packed else "diverged"
    return {
        "name": config.id,
        "identifier": config.hash,
        "description": f"{config.method}, {config.model} on {config.data.dataset}, seed {config.seed}: {outcome}",
        "creator": {"@id": "#bitq"},
        "sha256": run.env.code_sha256,
    }
