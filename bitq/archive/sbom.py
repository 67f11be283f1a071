"""The software bill of materials: every locked package with version, hashes and licence, as CycloneDX 1.5.

`uv export` writes one from a uv.lock; the locks here are requirement files, which say as much.
"""

import importlib.metadata
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bitq.errors import DataError
from bitq.io import canonical_json, read_bytes

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)([^#]*)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
SETS = ("base", "train")  # requirement files of what computes and reports
NAMESPACE = uuid.UUID("6a0f2b0b-c673-5b1d-9c55-000000000000")


def bill_of_materials(requirements: Path, version: str) -> dict[str, Any]:
    """Describe the locked packages of a folder of requirement files."""
    packages = {name: each for kind in SETS for name, each in packages_of(requirements / f"{kind}.txt").items()}
    if not packages:
        raise DataError(f"{requirements} holds no locked package; call this from a checkout of bitq.")
    components = [packages[name] for name in sorted(packages)]
    main = {"type": "application", "name": "bitq", "version": version, "bom-ref": "bitq", "licenses": [_id("MIT")]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        # Of the content, not of the hour: equal locks give an equal bill.
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, canonical_json(components))}",
        "metadata": {"component": main},
        "components": components,
    }


def packages_of(lock: Path) -> dict[str, dict[str, Any]]:
    """Read the packages of a requirement file."""
    return {name: component(name, version, hashes) for name, version, hashes in pins(read_bytes(lock).decode())}


def pins(lock: str) -> Iterator[tuple[str, str, list[str]]]:
    """Read name, version and hashes of every pinned package.

    >>> list(pins("numpy==2.4.6 ; python_version < '3.14' \\\\\\n    --hash=sha256:" + 64 * "0" + "\\n    # via scipy"))
    [('numpy', '2.4.6', ['0000000000000000000000000000000000000000000000000000000000000000'])]
    """
    for name, version, rest in PINNED.findall(lock):
        yield name, version, HASH.findall(rest)


def component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """Describe a package; its licence as its own metadata says, where this version is installed."""
    url = f"pkg:pypi/{name}@{version}"
    found = {"type": "library", "name": name, "version": version, "bom-ref": url, "purl": url}
    licences = licence_of(name, version)
    described = found | {"hashes": [{"alg": "SHA-256", "content": each} for each in sorted(hashes)]}
    return described | ({"licenses": licences} if licences else {})


def licence_of(name: str, version: str) -> list[dict[str, Any]]:
    """Read a package's licence: its expression, else the classifiers, else the first line of the text."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if found.version != version:
        return []
    said = found.metadata.json
    if expression := said.get("license_expression"):
        return [{"expression": expression}]
    named = [each.rpartition(" :: ")[2] for each in said.get("classifier", []) if "License ::" in each]
    text = str(said.get("license", "")).strip().splitlines()
    return [{"license": {"name": each}} for each in named or text[:1]]


def _id(licence: str) -> dict[str, Any]:
    return {"license": {"id": licence}}
