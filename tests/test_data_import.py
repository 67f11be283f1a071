"""Files of others: recognised by their digest, or imported with a provenance; anything odd is refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from bitq.data import foreign, procedural
from bitq.data.importers import import_set, info
from bitq.data.registry import PROCEDURAL, variant
from bitq.data.store import ARRAYS, open_set
from bitq.errors import BitqError, DataError, UsageError

RNG = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]


def small(channels: int = 3) -> Arrays:
    shape = (8, 8) if channels == 1 else (8, 8, channels)
    return {
        "x_train": RNG.integers(0, 256, (12, *shape), np.uint8),
        "y_train": np.arange(12, dtype=np.uint8) % 3,
        "x_test": RNG.integers(0, 256, (6, *shape), np.uint8),
        "y_test": np.arange(6, dtype=np.uint8) % 3,
    }


def npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_an_npz_of_known_content_becomes_that_variant(tmp_path: Path) -> None:
    file = npz(tmp_path / "x.npz", procedural.images("cifar10", 10))
    found = import_set("cifar10", file, "any name", data_dir=tmp_path)
    assert (found["variant"], found["train"], found["test"], found["provenance"]) == (PROCEDURAL, 1280, 500, "")
    assert open_set(variant("cifar10", PROCEDURAL), tmp_path).variant == variant("cifar10", PROCEDURAL)


@pytest.mark.parametrize(("dataset", "channels"), [("cifar10", 3), ("mnist", 1)])
def test_an_unknown_npz_is_kept_with_its_provenance(tmp_path: Path, dataset: str, channels: int) -> None:
    arrays = small(channels)
    names = np.array(["a", "b", "c", "d"])
    wide = {key: value.astype(np.int64) if key.startswith("y") else value for key, value in arrays.items()}
    file = npz(tmp_path / "x.npz", wide | {"classes": names, "terms_train": names})
    found = import_set(dataset, file, provenance="a drawer", data_dir=tmp_path)
    opened = open_set(variant(dataset, "custom", tmp_path), tmp_path)
    assert opened.classes == ("a", "b", "c", "d")
    assert (opened.variant.provenance, opened.variant.classes, opened.variant.image_size) == ("a drawer", 4, 8)
    assert found["digest"] == opened.variant.digest and opened.variant.digest_kind == "arrays"
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name).squeeze(), arrays[name])


def test_unknown_data_without_provenance_are_refused_with_the_right_call(tmp_path: Path) -> None:
    file = npz(tmp_path / "x.npz", small())
    with pytest.raises(
        UsageError, match=r"official, cifar10-q5.*bitq data import cifar10 .*x.npz --variant custom --prov"
    ):
        import_set("cifar10", file, data_dir=tmp_path)
    with pytest.raises(DataError, match="does not hold the images of cifar10/cifar10-q5"):
        import_set("cifar10", file, "cifar10-q5", "a drawer", data_dir=tmp_path)
    with pytest.raises(UsageError, match="allowed: small letters"):
        import_set("cifar10", file, "../x@3", "a drawer", data_dir=tmp_path)


def test_a_name_that_is_taken_is_not_overwritten_but_its_own_data_repair_it(tmp_path: Path) -> None:
    file = npz(tmp_path / "x.npz", small())
    found = import_set("cifar10", file, "mine", "a drawer", tmp_path)
    with pytest.raises(UsageError, match="cifar10/mine already holds other images"):
        import_set("cifar10", npz(tmp_path / "y.npz", small()), "mine", "another drawer", tmp_path)
    (Path(found["path"]) / "x_test.npy").write_bytes(b"")
    import_set("cifar10", file, "mine", "a drawer", tmp_path)
    assert open_set(variant("cifar10", "mine", tmp_path), tmp_path).variant.provenance == "a drawer"


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    arrays = small()
    return arrays | {name: change(arrays[name])}


BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "float pixels": (changed("x_train", lambda x: x / 255), "x_train is float64 .*allowed: uint8"),
    "not square": (changed("x_train", lambda x: x[:, :4]), r"x_train is uint8 of shape \(12, 4, 8, 3\)"),
    "grey": (changed("x_test", lambda x: x[..., 0]), r"allowed: uint8, \(N, H, H, 3\)"),
    "flat": (changed("x_test", lambda x: x.reshape(6, -1)), "x_test is uint8"),
    "other size": (changed("x_test", lambda x: x[:, :4, :4]), "test arrays are not"),
    "fewer labels": (changed("y_test", lambda y: y[:5]), "test arrays are not"),
    "empty split": (changed("x_test", lambda x: x[:0]), "x_test is uint8 of shape"),
    "no labels": (changed("y_train", lambda y: y[:0]), "y_train is uint8 of shape"),
    "float labels": (changed("y_train", lambda y: y / 2), "y_train is float64 .*allowed: whole numbers"),
    "negative labels": (changed("y_train", lambda y: y.astype(int) - 2), "labels from -2 to 0; allowed: 0 to 255"),
    "too many classes": (changed("y_train", lambda y: y.astype(int) + 254), "labels from 254 to 256"),
    "more labels than names": (small() | {"classes": np.array(["a", "b"])}, "train label 2 is not below 2"),
    "too many names": (small() | {"classes": np.arange(300).astype(str)}, "has 300 classes; allowed: 2 to 256"),
    "one class": (small() | {"y_train": np.zeros(12, int), "y_test": np.zeros(6, int)}, "has 1 classes"),
    "no x_test": ({key: value for key, value in small().items() if key != "x_test"}, "has no x_test"),
    "objects": (small() | {"y_test": np.array([0, None] * 3)}, "cannot be read as .npz"),
}


@pytest.mark.parametrize("kind", BAD_NPZ)
def test_an_odd_npz_is_refused(tmp_path: Path, kind: str) -> None:
    arrays, message = BAD_NPZ[kind]
    with pytest.raises(DataError, match=message):
        import_set("cifar10", npz(tmp_path / "x.npz", arrays), None, "a drawer", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_damaged_bombs_and_strangers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = npz(tmp_path / "x.npz", small())
    cut, stranger = tmp_path / "cut.npz", tmp_path / "x.pkl"
    cut.write_bytes(file.read_bytes()[:-40])
    stranger.write_bytes(b"")
    for path, message in ((cut, "cannot be read"), (stranger, "allowed: a .npz"), (tmp_path / "no", "does not exist")):
        with pytest.raises(BitqError, match=message):
            import_set("cifar10", path, None, "a drawer", tmp_path)
    monkeypatch.setattr(foreign, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="would unpack to"):
        import_set("cifar10", file, None, "a drawer", tmp_path)


def table(
    x: np.ndarray, y: np.ndarray, image: str = "image", label: str = "label", plain: bool = False
) -> pyarrow.Table:
    blobs = [png(pixels) for pixels in x]
    column = blobs if plain else [{"bytes": blob, "path": f"{i}.png"} for i, blob in enumerate(blobs)]
    features = {"info": {"features": {label: {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    made = pyarrow.table({image: column, label: pyarrow.array(y.astype(np.int64)), "extra": ["?"] * len(y)})
    return made.replace_schema_metadata({"huggingface": json.dumps(features)})


@pytest.mark.parametrize(
    ("image", "label", "plain", "test"),
    [
        ("image", "label", False, "test"),
        ("img", "fine_label", False, "validation"),
        ("image", "labels", True, "valid"),
    ],
)
def test_a_folder_of_parquet_tables_is_read(tmp_path: Path, image: str, label: str, plain: bool, test: str) -> None:
    arrays = small()
    for part in range(2):
        rows = slice(6 * part, 6 * part + 6)
        made = table(arrays["x_train"][rows], arrays["y_train"][rows], image, label, plain)
        pyarrow.parquet.write_table(made, tmp_path / f"train-0000{part}-of-00002.parquet")
    made = table(arrays["x_test"], arrays["y_test"], image, label, plain)
    pyarrow.parquet.write_table(made, tmp_path / f"{test}-00000-of-00001.parquet")
    import_set("cifar10", tmp_path, "hub", "a hub", tmp_path / "data")
    opened = open_set(variant("cifar10", "hub", tmp_path / "data"), tmp_path / "data")
    assert opened.classes == ("a", "b", "c")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), arrays[name])


def test_one_parquet_file_with_a_column_split_is_read(tmp_path: Path) -> None:
    arrays = procedural.images("cifar10", 10)
    kept = {key: value[:50] for key, value in arrays.items()}
    both = table(*(np.concatenate([kept[f"{key}_train"], kept[f"{key}_test"]]) for key in ("x", "y")), plain=True)
    both = both.append_column("split", pyarrow.array(["train"] * 50 + ["val"] * 50)).replace_schema_metadata()
    pyarrow.parquet.write_table(both, tmp_path / "x.parquet")
    import_set("cifar100", tmp_path / "x.parquet", "one", "a hub", tmp_path)
    opened = open_set(variant("cifar100", "one", tmp_path), tmp_path)
    assert opened.classes is None
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), kept[name])


def test_odd_parquet_tables_are_refused(tmp_path: Path) -> None:
    arrays = small()
    good = table(arrays["x_train"], arrays["y_train"])
    paths = pyarrow.array([{"bytes": None, "path": "a.png"}] * 12, blobs_type())
    cases = {
        "no test images": (good, UsageError),
        "one of them must be image or img": (good.rename_columns(["pixels", "label", "extra"]), DataError),
        "does not hold the images themselves": (good.set_column(0, "image", paths), DataError),
        "is not a whole PNG or JPEG": (good.set_column(0, "image", pyarrow.array([b"GIF89a"] * 12)), DataError),
    }
    for message, (made, kind) in cases.items():
        pyarrow.parquet.write_table(made, tmp_path / "train.parquet")
        with pytest.raises(kind, match=message):
            import_set("cifar10", tmp_path, None, "a hub", tmp_path / "data")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(DataError, match=r"train.parquet cannot be read as Parquet"):
        import_set("cifar10", tmp_path, None, "a hub", tmp_path / "data")


def blobs_type() -> pyarrow.DataType:
    return pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_info_lists_what_is_known_present_and_damaged(tmp_path: Path) -> None:
    import_set("cifar10", npz(tmp_path / "x.npz", small()), "mine", "a drawer", tmp_path)
    open_set(variant("cifar10", PROCEDURAL), tmp_path)
    (tmp_path / "cifar10/procedural/y_test.npy").write_bytes(b"")
    found = {row["variant"]: row for row in info("cifar10", tmp_path)}
    assert {name: row["status"] for name, row in found.items()} == {
        "official": "missing",
        "cifar10-q5": "missing",
        "procedural": "damaged",
        "mine": "present",
    }
    assert (found["mine"]["provenance"], found["mine"]["path"]) == ("a drawer", str(tmp_path / "cifar10/mine"))
    assert json.dumps(info(data_dir=tmp_path))
    assert {row["dataset"] for row in info(data_dir=tmp_path)} > {"cifar10", "tiny_imagenet"}
    with pytest.raises(UsageError, match="unknown data set"):
        info("cifar", tmp_path)
