"""Decoded sets on disk: whole or absent, checked at each opening, split and cut reproducibly."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitq.data import procedural
from bitq.data.registry import INFO, Variant, variant
from bitq.data.store import ARRAYS, arrays_digest, folder_of, open_set, split, status, write_set
from bitq.errors import DataError, UsageError

PROCEDURAL = variant("cifar10", "procedural")


def make(name: str, train: int = 20, **changes: object) -> tuple[Variant, dict[str, np.ndarray]]:
    """A tiny set of 4×4 images that nobody else knows."""
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (train, 4, 4, 3)), "y_train": np.arange(train) % 2}
    arrays |= {"x_test": rng.integers(0, 256, (6, 4, 4, 3)), "y_test": np.arange(6) % 2}
    arrays = {key: value.astype(np.uint8) for key, value in arrays.items()}
    own = {"name": name, "classes": 2, "image_size": 4, "train": train, "test": 6, "provenance": "made up"}
    record = PROCEDURAL.model_copy(update={**own, "digest": arrays_digest(arrays), **changes})
    return record, arrays


def test_the_digest_covers_names_shapes_types_and_bytes() -> None:
    _, arrays = make("x")
    digest = arrays_digest(arrays)
    assert arrays_digest(dict(reversed(arrays.items()))) == digest
    assert arrays_digest({key: np.asfortranarray(value) for key, value in arrays.items()}) == digest
    others = (
        arrays | {"x_test": arrays["x_test"].reshape(6, 16, 1, 3)},
        arrays | {"y_test": arrays["y_test"].view(np.int8)},
        arrays | {"y_test": arrays["y_test"] ^ 1},
        arrays | {"x_train": arrays["x_train"][:6], "x_test": arrays["x_train"]},
    )
    assert len({digest, *map(arrays_digest, others)}) == 5


def test_what_is_written_is_read_back_mapped_and_equal(tmp_path: Path) -> None:
    record, arrays = make("tiny")
    write_set(record, arrays, ("odd", "even"), tmp_path)
    opened = open_set(variant("cifar10", "tiny", tmp_path), tmp_path)
    assert opened.variant == record
    assert opened.classes == ("odd", "even")
    for name in ARRAYS:
        assert isinstance(getattr(opened, name), np.memmap)
        np.testing.assert_array_equal(getattr(opened, name), arrays[name])


def test_the_procedural_set_is_made_at_first_use_and_then_read(tmp_path: Path) -> None:
    open_set(PROCEDURAL, tmp_path)
    before = (tmp_path / "cifar10/procedural/x_train.npy").stat().st_ino
    images = open_set(PROCEDURAL, tmp_path)
    assert (tmp_path / "cifar10/procedural/x_train.npy").stat().st_ino == before
    np.testing.assert_array_equal(images.x_test, procedural.images("cifar10", 10)["x_test"])


def test_processes_that_make_it_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            open_set(PROCEDURAL, tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == ["procedural"]


@pytest.mark.parametrize(
    ("dataset", "name", "command"),
    [
        ("cifar10", "official", "bitq data fetch cifar10"),
        ("cifar100", "cifar100-q11@1000", "bitq data import cifar100 FILE --variant cifar100-q11"),
    ],
)
def test_a_missing_set_names_the_command_that_gets_it(tmp_path: Path, dataset: str, name: str, command: str) -> None:
    with pytest.raises(DataError, match=f"`{command}`") as caught:
        open_set(variant(dataset, name), tmp_path)
    assert caught.value.exit_code == 65


def test_a_missing_variant_names_those_that_are_there(tmp_path: Path) -> None:
    write_set(*make("tiny"), None, tmp_path)
    with pytest.raises(DataError, match=r"cifar10/official is not in .*, or use what is there: --variant tiny\."):
        open_set(variant("cifar10"), tmp_path)


@pytest.mark.parametrize("name", [f"{name}.npy" for name in ARRAYS])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, name: str, harm: str) -> None:
    record, arrays = make("tiny")
    path = write_set(record, arrays, None, tmp_path) / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1 if harm == "flip" else 0
    path.write_bytes(content[:-1] if harm == "cut" else content)
    path.unlink() if harm == "remove" else None
    assert status(record, tmp_path) == "damaged"
    with pytest.raises(DataError, match=f"{name} is damaged .*bitq data import cifar10 FILE --variant tiny"):
        open_set(record, tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record, arrays = make("tiny")
    path = write_set(record, arrays, None, tmp_path) / INFO
    for content in ("{}", "", "[1", '{"variant": 1, "class_names": null, "arrays": []}'):
        path.write_text(content)
        with pytest.raises(DataError, match=INFO):
            open_set(record, tmp_path)


def test_other_pixels_under_a_known_name_are_refused(tmp_path: Path) -> None:
    record, arrays = make("tiny")
    folder = write_set(record, arrays, None, tmp_path)
    folder.rename(folder.with_name("procedural"))
    with pytest.raises(DataError, match="not the procedural form of cifar10; delete its folder"):
        open_set(PROCEDURAL, tmp_path)


def test_writing_replaces_a_damaged_set_and_leaves_no_rest(tmp_path: Path) -> None:
    record, arrays = make("tiny")
    folder = write_set(record, arrays, None, tmp_path)
    (folder / "x_test.npy").write_bytes(b"")
    write_set(record, arrays, None, tmp_path)
    assert status(record, tmp_path) == "present"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    "changes", [{"digest": "0" * 64}, {"classes": 1, "digest_kind": "archive"}, {"test": 5}, {"channels": 1}]
)
def test_arrays_that_do_not_fit_their_record_are_not_written(tmp_path: Path, changes: dict[str, object]) -> None:
    record, arrays = make("tiny", **changes)
    with pytest.raises(DataError, match="cifar10/tiny"):
        write_set(record, arrays, None, tmp_path)
    assert not folder_of(record, tmp_path).exists()


@pytest.mark.parametrize(("split", "each"), [("train", 32), ("test", 12)])
def test_a_subset_is_the_first_images_of_each_class(tmp_path: Path, split: str, each: int) -> None:
    whole, part = open_set(PROCEDURAL, tmp_path), open_set(variant("cifar10", "procedural@320"), tmp_path)
    seen = dict.fromkeys(range(10), 0)
    chosen = []
    for index, label in enumerate(getattr(whole, f"y_{split}")):
        seen[int(label)] += 1
        chosen += [index] if seen[int(label)] <= each else []
    for name in (f"x_{split}", f"y_{split}"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])
    assert part.variant.shape(split)[0] == len(getattr(part, f"y_{split}")) == 10 * each


def test_a_subset_needs_enough_images_of_each_class(tmp_path: Path) -> None:
    record, arrays = make("uneven")
    arrays["y_train"][:] = [0] * 18 + [1] * 2
    write_set(record.model_copy(update={"digest": arrays_digest(arrays)}), arrays, None, tmp_path)
    with pytest.raises(UsageError, match="uneven@8 needs 4 train images of each class"):
        open_set(variant("cifar10", "uneven@8", tmp_path), tmp_path)


@given(st.lists(st.integers(0, 4), min_size=40, max_size=120), st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 99))
def test_a_split_is_disjoint_complete_stratified_and_seeded(labels: list[int], share: float, seed: int) -> None:
    y = np.array(labels, np.uint8)
    train, validation = split(y, share, seed)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(y)))
    for label in set(labels):
        assert (y[validation] == label).sum() == round(share * (y == label).sum())
    again = split(y, share, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(validation, again[1])


def test_another_seed_splits_otherwise_and_an_empty_side_is_refused() -> None:
    y = (np.arange(100) % 10).astype(np.uint8)
    assert not np.array_equal(split(y, 0.2, 1)[1], split(y, 0.2, 2)[1])
    with pytest.raises(UsageError, match="leaves one side empty"):
        split(y, 0.01, 1)
