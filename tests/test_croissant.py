"""Image sets are described in Croissant, as its own reference reader reads it."""

import mlcroissant
import pytest

from bitq.data.registry import datasets, registered
from bitq.errors import UsageError
from bitq.interop.croissant import describe


@pytest.mark.parametrize("name", datasets())
def test_every_set_is_described_as_the_reference_reader_asks(name: str) -> None:
    read = mlcroissant.Dataset(jsonld=describe(name)).metadata
    official = registered(name)["official"]
    assert (read.name, read.cite_as) == (name, official.citation)
    assert read.date_published and f"({read.date_published.year})" in official.citation
    assert all(file.sha256 or file.md5 for file in read.distribution)
    assert {field.name for field in read.record_sets[0].fields} >= {"image", "label"}
    assert official.digest in read.description


def test_an_unknown_set_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="cifar10"):
        describe("cifar11")
