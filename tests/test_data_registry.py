"""The registry: known sets, the meaning of a name, and the error for an unknown one."""

import subprocess
import sys
from pathlib import Path

import pytest

from bitq.data.registry import datasets, download, registered, variant
from bitq.errors import UsageError
from bitq.io import canonical_json, sha256

DIGESTS = {
    "cifar10": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar100": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "tiny_imagenet": "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
}


@pytest.mark.parametrize("dataset", datasets())
def test_every_set_has_an_official_and_a_procedural_form_with_licence_and_citation(dataset: str) -> None:
    known = registered(dataset)
    assert {"official", "procedural"} <= known.keys()
    assert all(one.licence and one.citation and len(one.digest) == 64 for one in known.values())


@pytest.mark.parametrize(("dataset", "digest"), DIGESTS.items())
def test_an_official_archive_is_known_by_its_published_digest(dataset: str, digest: str) -> None:
    official = variant(dataset)
    assert (official.digest, official.digest_kind) == (digest, "archive")
    assert [archive.sha256 for archive in download(dataset).archives] == [digest]


@pytest.mark.parametrize(("dataset", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_addresses_and_md5_sums_are_those_of_torchvision(dataset: str, name: str) -> None:
    from torchvision import datasets as theirs

    known = getattr(theirs, name)
    assert [(archive.name, archive.md5) for archive in download(dataset).archives] == known.resources
    assert list(download(dataset).mirrors) == known.mirrors


def test_a_subset_has_its_own_size_and_digest() -> None:
    whole, part = variant("cifar10", "cifar10-q5"), variant("cifar10", "cifar10-q5@5000")
    assert (part.train, part.test, part.base, part.is_subset) == (5000, 1000, whole.name, True)
    assert part.digest == sha256(canonical_json([whole.digest, 5000, 1000]))


@pytest.mark.parametrize(
    ("dataset", "name", "test"),
    [
        ("cifar10", "official@10000", 2000),
        ("cifar10", "procedural@640", 250),
        ("cifar100", "procedural@640", 240),  # half of 500 is 250, which 20 classes do not share evenly
        ("cifar100", "official@100", 100),  # one of each class
        ("mnist", "official@10000", 1660),
        ("fashion_sst2", "procedural@2560", 500),
        ("tiny_imagenet", "tiny_imagenet20@5000", 500),
    ],
)
def test_the_test_images_of_a_subset_are_in_proportion(dataset: str, name: str, test: int) -> None:
    assert variant(dataset, name).test == test


@pytest.mark.parametrize("name", ["@0", "@5001", "@50010", "@-10", "@", "@x", "@10@10"])
def test_an_impossible_subset_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(UsageError, match="multiple of the 10 classes, at most 50000, for example cifar10-q5@100"):
        variant("cifar10", "cifar10-q5" + name)


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'cifar'; allowed: cifar10, .*Did you mean 'cifar10'"):
        variant("cifar")
    with pytest.raises(UsageError, match=r"unknown variant of cifar10 'q5'; allowed: cifar10-q5, official"):
        variant("cifar10", "q5")
    with pytest.raises(UsageError, match="unknown variant"):
        variant("cifar10", "../cifar100/official")


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from bitq.data import fetch, importers, registry, store\n"
        f"store.open_set(registry.variant('mnist', 'procedural'), pathlib.Path({str(tmp_path)!r}))\n"
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
