"""A bundle brings results to another place whole, or is refused and leaves no trace."""

import copy
import json
import random
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bitq.archive.adopt import adopt, check
from bitq.archive.contents import CRATE, LIST, SBOM
from bitq.archive.write import write_bundle
from bitq.errors import BitqError, DataError, StorageError, UsageError
from bitq.grid.select import Selection, grid
from bitq.io import sha256
from bitq.paths import CHECKOUT
from bitq.results.folder import MODEL, card_of, folder_of, text
from bitq.results.manifest import NAME as MANIFEST
from bitq.results.manifest import Entry, Manifest, root_digest
from bitq.results.verify import verify
from tests import synthetic
from tests.synthetic import pretend, pretend_all

RUNS = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "ttq"]).of(grid("smoke", ["bitnet"]))[:4]
A, B = RUNS[:2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "results"
    pretend_all(RUNS, root)
    (folder_of(A, root) / MODEL).unlink()  # known by digest alone
    return root


@pytest.fixture(scope="module")
def bundle(source: Path) -> Path:
    path = source.with_name("results.crate.zip")
    write_bundle(path, source, RUNS, models=True)
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(bundle: Path, root: Path, error: type[BitqError] = DataError, match: str = "") -> None:
    """The bundle is refused, and nothing is changed."""
    before, was_there = contents(root.parent), root.exists()
    for attempt in (lambda: adopt(bundle, root), lambda: check(bundle)):
        with pytest.raises(error, match=match):
            attempt()
    assert contents(root.parent) == before and root.exists() == was_there


def test_results_come_back_whole_elsewhere(bundle: Path, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere" / "results"
    done = adopt(bundle, root)
    assert done.new == tuple(run.path for run in RUNS) and not done.there and done.manifest
    assert contents(root) == contents(source) | {MANIFEST: (root / MANIFEST).read_bytes()}
    verdict = verify(root, RUNS)
    assert verdict.ok and verdict.manifest == verdict.root == verify(source, RUNS).root


def test_equal_results_make_equal_bundles(bundle: Path, source: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(source, tmp_path / "copied"))
    write_bundle(tmp_path / "again.zip", copied, RUNS, models=True)
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_what_was_adopted_is_adopted_again_without_a_change(bundle: Path, tmp_path: Path) -> None:
    adopt(bundle, tmp_path)
    before = contents(tmp_path)
    done = adopt(bundle, tmp_path)
    assert not done.new and len(done.there) == len(RUNS) and contents(tmp_path) == before


def test_an_adoption_that_was_cut_short_goes_on(bundle: Path, tmp_path: Path) -> None:
    adopt(bundle, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (folder_of(B, tmp_path / "cut") / "results.json").unlink()
    (folder_of(B, tmp_path / "cut") / "env.json").unlink()
    assert adopt(bundle, tmp_path / "cut").new == (B.path,)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_packed_file_that_lacks_is_brought(bundle: Path, tmp_path: Path) -> None:
    adopt(bundle, tmp_path)
    before = contents(tmp_path)
    (folder_of(B, tmp_path) / MODEL).unlink()
    adopt(bundle, tmp_path)
    assert contents(tmp_path) == before


def test_another_result_of_the_same_run_is_never_overwritten(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "results"
    monkeypatch.setattr(synthetic, "correct_of", lambda _: 7)
    pretend(RUNS[-1], root)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"{RUNS[-1].path} holds another result"):
        adopt(bundle, root)
    assert contents(tmp_path) == before


def test_a_bundle_without_packed_files_knows_them_by_digest(source: Path, tmp_path: Path) -> None:
    found = write_bundle(tmp_path / "small.zip", source, RUNS, models=False)
    adopt(tmp_path / "small.zip", tmp_path / "results")
    assert found.models == 0 and not list(tmp_path.rglob(MODEL)) and verify(tmp_path / "results", RUNS).ok


def test_a_packed_file_brings_its_model_card(source: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(source, tmp_path / "results"))
    for run in (A, B):
        card_of(run, root).parent.mkdir(exist_ok=True)
        card_of(run, root).write_text(f"card of {run.id}")
    for models, cards in ((True, [card_of(B, root).name]), (False, [])):  # A's packed file is not here
        write_bundle(tmp_path / "with.zip", root, RUNS, models)
        with zipfile.ZipFile(tmp_path / "with.zip") as bundle:
            assert [name for name in bundle.namelist() if name.startswith("cards/")] == [
                f"cards/{name}" for name in cards
            ]
        adopt(tmp_path / "with.zip", tmp_path / f"adopted-{models}")


def test_the_bundle_describes_itself(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        crate, bill = (json.loads(archive.read(name)) for name in (CRATE, SBOM))
        assert archive.read("LICENSE") == (CHECKOUT / "LICENSE").read_bytes()
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert entities["ro-crate-metadata.json"]["conformsTo"]["@id"].startswith("https://w3id.org/ro/crate/1.")
    assert entities["./"]["license"] == {"@id": "LICENSE"}
    assert all(entities[f"results/{run.path}/"]["identifier"] == run.hash for run in RUNS)
    assert all(part["@id"] in entities for part in entities["./"]["hasPart"])
    assert not any(str(bundle.parent) in json.dumps(each) for each in (crate, bill))
    jsonschema.validate(bill, CYCLONEDX)
    purls = {each["purl"] for each in bill["components"]}
    assert any(purl.startswith("pkg:pypi/torch@") for purl in purls) and len(purls) == len(bill["components"])
    licensed = [each for each in bill["components"] if "licenses" in each]
    assert len(licensed) > len(bill["components"]) / 2


# What CycloneDX 1.5 asks of the parts that are used here.
CYCLONEDX: dict[str, Any] = {
    "type": "object",
    "required": ["bomFormat", "specVersion", "components"],
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.5"},
        "serialNumber": {"pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        "version": {"type": "integer", "minimum": 1},
        "components": {
            "items": {
                "type": "object",
                "required": ["type", "name"],
                "properties": {
                    "type": {"enum": ["library", "application"]},
                    "hashes": {
                        "items": {
                            "required": ["alg", "content"],
                            "properties": {"alg": {"const": "SHA-256"}, "content": {"pattern": "^[0-9a-f]{64}$"}},
                        }
                    },
                    "licenses": {"items": {"oneOf": [{"required": ["license"]}, {"required": ["expression"]}]}},
                },
            }
        },
    },
}


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_bundle_is_refused_or_harmless(seed: int, bundle: Path, tmp_path: Path) -> None:
    draw, content = random.Random(seed), bytearray(bundle.read_bytes())
    if seed % 4:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    else:
        del content[draw.randrange(len(content)) :]
    (tmp_path / "damaged.zip").write_bytes(content)
    root = tmp_path / "results"
    try:
        adopt(tmp_path / "damaged.zip", root)
    except BitqError as error:
        assert error.exit_code == DataError.exit_code and not contents(root)
    else:  # a bit that says nothing of a file, such as one of its hour
        assert verify(root, RUNS).ok


def rewritten(bundle: Path, target: Path, change: Callable[[dict[str, bytes]], object], relist: bool = True) -> Path:
    """A bundle of somebody who can compute digests, but means no good."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    if relist:
        listing = json.loads(files[LIST])
        entries = {name: Entry(sha256(data), len(data)) for name, data in files.items() if name != LIST}
        listing |= {"files": {name: vars_of(entry) for name, entry in entries.items()}, "root": root_digest(entries)}
        files[LIST] = json.dumps(listing).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return target


def vars_of(entry: Entry) -> dict[str, Any]:
    return {"sha256": entry.sha256, "size": entry.size}


def swapped(files: dict[str, bytes]) -> None:
    for name in [name for name in files if name.startswith(f"results/{A.path}/")]:
        other = name.replace(A.path, B.path)
        if other in files:
            files[name], files[other] = files[other], files[name]


def relabelled(files: dict[str, bytes]) -> None:
    """Labels under the digest of others, which no run of the bundle needs."""
    files[f"results/labels/{'0' * 64}.bin"] = b"evil"


def with_another_manifest(files: dict[str, bytes]) -> None:
    listed = Manifest.model_validate_json(files[f"results/{MANIFEST}"]).files
    changed = listed | {f"{A.path}/results.json": Entry("0" * 64, 1)}
    files[f"results/{MANIFEST}"] = text(Manifest(root=root_digest(changed), files=changed))


CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "above": (lambda files: files.update({"../evil": b"x"}), "leaves the folder"),
    "within": (lambda files: files.update({"results/smoke/../../../evil": b"x"}), "leaves the folder"),
    "absolute": (lambda files: files.update({"/tmp/evil": b"x"}), "leaves the folder"),
    "backslash": (lambda files: files.update({"results\\..\\evil": b"x"}), "leaves the folder"),
    "stranger": (lambda files: files.update({"results/evil.sh": b"x"}), "belongs to no run"),
    "in a run": (lambda files: files.update({f"results/{A.path}/evil.pth": b"x"}), "belongs to no run"),
    "lacking": (lambda files: files.pop(f"results/{A.path}/results.json"), "does not exist"),
    "swapped": (swapped, "holds bitnet|does not|holds smoke"),
    "labels": (lambda files: files.update({name: b"\0" for name in files if "/labels/" in name}), "was changed"),
    "labels of others": (relabelled, "was changed"),
    "manifest": (with_another_manifest, "its manifest has another digest of"),
    "edited": (
        lambda files: files.update(
            {f"results/{B.path}/results.json": files[f"results/{B.path}/results.json"].replace(b'"done"', b'"gone"')}
        ),
        "status",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_evil_bundle_is_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    change, sentence = CHANGES[name]
    (tmp_path / "place").mkdir()
    refused(rewritten(bundle, tmp_path / "evil.zip", change), tmp_path / "place" / "results", match=sentence)
    assert not (tmp_path / "evil").exists() and not Path("/tmp/evil").exists()


def test_what_the_list_does_not_name_is_refused(bundle: Path, tmp_path: Path) -> None:
    added = rewritten(bundle, tmp_path / "added.zip", lambda files: files.update({"more": b""}), relist=False)
    refused(added, tmp_path / "results", match="does not hold exactly what it lists: 'more'")


def with_entry(bundle: Path, target: Path, info: zipfile.ZipInfo, **options: Any) -> Path:
    shutil.copy(bundle, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(info, b"/etc/passwd" * 100, **options)
    return target


def test_links_compression_and_doubles_are_refused(bundle: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(with_entry(bundle, tmp_path / "link.zip", link), tmp_path / "results", match="no plain file")
    bomb = with_entry(bundle, tmp_path / "bomb.zip", zipfile.ZipInfo("bomb"), compress_type=zipfile.ZIP_DEFLATED)
    refused(bomb, tmp_path / "results", match="compressed or encrypted")
    with pytest.warns(UserWarning, match="Duplicate name"):
        double = with_entry(bundle, tmp_path / "double.zip", zipfile.ZipInfo("LICENSE"))
    refused(double, tmp_path / "results", match="a name twice, 'LICENSE'")


def test_entries_that_share_their_bytes_are_refused(bundle: Path, tmp_path: Path) -> None:
    """A few bytes listed a thousand times would fill a disk."""
    shutil.copy(bundle, tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(1000):
            again = copy.copy(largest)
            again.filename = f"again{number}"
            archive.filelist.append(again)
        archive.writestr("last", b"")
    refused(tmp_path / "bomb.zip", tmp_path / "results", match="more bytes than it has")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    refused(tmp_path / "text.zip", tmp_path / "results", match="is no bundle that bitq archive wrote")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("README", "hello")
    refused(tmp_path / "other.zip", tmp_path / "results", match=f"it has no {LIST}")
    refused(tmp_path / "absent.zip", tmp_path / "results", match="does not exist")
    assert not (tmp_path / "results").exists()


def test_nothing_is_archived_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of the selected runs"):
        write_bundle(tmp_path / "empty.zip", tmp_path, RUNS, models=True)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_cannot_be_written_leaves_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="was not written"):
        write_bundle(tmp_path / "nowhere" / "b.zip", source, RUNS, models=True)
