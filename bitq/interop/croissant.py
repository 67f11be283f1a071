"""Describe an image set in Croissant, the JSON-LD that data catalogues and dataset search read."""

import re
from typing import Any

from bitq.data.registry import OFFICIAL, Archive, Variant, download, paired_with, registered

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
# The prefixes and terms that the specification's version 1.0 asks for.
TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in TERMS},
}


def describe(dataset: str) -> dict[str, Any]:
    """Describe the official form of a set: licence, citation, archives with their digests, fields."""
    official = registered(dataset)[OFFICIAL]
    images = paired_with(dataset) or dataset  # the archives of a set of pairs are those of its images
    source = download(images)
    archives = [_file(source.mirrors[0], archive) for archive in source.archives]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": dataset,
        "description": _about(official),
        "url": official.source.split()[0],
        "license": official.licence,
        "citeAs": official.citation,
        "datePublished": year_of(official.citation),
        "version": "1.0.0",
        "distribution": archives,
        "recordSet": [_records(official, archives[0]["@id"])],
    }


def year_of(citation: str) -> str:
    """Find the year of the work that a citation names first.

    >>> year_of("Krizhevsky, A. (2009). Learning multiple layers of features from tiny images.")
    '2009'
    """
    return next(iter(re.findall(r"\(((?:19|20)\d\d)\)", citation)), "")


def _about(found: Variant) -> str:
    words = f", each beside a sentence of at most {found.words} words" if found.words else ""
    return (
        f"{found.train:,} training and {found.test:,} test images of {found.image_size}×{found.image_size} pixels, "
        f"{found.channels} channels, {found.classes} classes{words}. bitq knows this form by the digest {found.digest}."
    )


def _file(mirror: str, archive: Archive) -> dict[str, Any]:
    digest = {"sha256": archive.sha256} if archive.sha256 else {"md5": archive.md5}
    return {
        "@type": "cr:FileObject",
        "@id": archive.name,
        "name": archive.name,
        "contentUrl": mirror + archive.name,
        "encodingFormat": "application/zip" if archive.name.endswith(".zip") else "application/gzip",
        **digest,
    }


def _records(found: Variant, archive: str) -> dict[str, Any]:
    kinds = {"image": "sc:ImageObject", "label": "sc:Integer"} | ({"sentence": "sc:Text"} if found.words else {})
    source = {"fileObject": {"@id": archive}, "extract": {"fileProperty": "content"}}
    fields = [
        {"@type": "cr:Field", "@id": f"examples/{name}", "name": name, "dataType": kind, "source": source}
        for name, kind in kinds.items()
    ]
    return {"@type": "cr:RecordSet", "@id": "examples", "name": "examples", "field": fields}
