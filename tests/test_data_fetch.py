"""Official archives: downloaded from a local server, checked, decoded; hostile or damaged ones refused."""

import gzip
import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitq.data.fetch import as_url, fetch, fetch_variant
from bitq.data.registry import Archive, Download, Variant, variant
from bitq.data.store import ARRAYS, arrays_digest, open_set
from bitq.errors import DataError, StorageError

RNG = np.random.default_rng(0)
Members = dict[str, bytes]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path_factory.mktemp("shelf")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def source(layout: str, url: str, files: Members, max_mib: int = 1) -> Download:
    archives = tuple(Archive(name=n, sha256=hashlib.sha256(c).hexdigest(), max_mib=max_mib) for n, c in files.items())
    return Download(layout=layout, mirrors=(url,), archives=archives)


def images(count: int, size: int, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def tar(members: Members, *extra: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return file.getvalue()


def small_cifar(dataset: str, train: int, test: int) -> tuple[Variant, dict[str, np.ndarray], Members]:
    """A record, the arrays, and the members of an archive that holds them."""
    record = variant(dataset).model_copy(update={"train": train, "test": test})
    arrays = {"x_train": images(train, 32), "x_test": images(test, 32)}
    arrays |= {f"y_{split}": np.arange(len(arrays[f"x_{split}"]), dtype=np.uint8) % 10 for split in ("train", "test")}
    coarse = {"cifar10": 0, "cifar100": 1}[dataset]

    def records(split: str) -> np.ndarray:
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        labels = [np.full((len(x), 1), 7, np.uint8)] * coarse + [y[:, None]]
        return np.hstack([*labels, x.transpose(0, 3, 1, 2).reshape(len(x), -1)])

    if dataset == "cifar100":
        root, names = "cifar-100-binary/", "fine_label_names.txt"
        members = {f"{root}train.bin": records("train").tobytes(), f"{root}test.bin": records("test").tobytes()}
    else:
        root, names = "cifar-10-batches-bin/", "batches.meta.txt"
        batches = np.split(records("train"), 5)
        members = {f"{root}data_batch_{i}.bin": batch.tobytes() for i, batch in enumerate(batches, 1)}
        members[f"{root}test_batch.bin"] = records("test").tobytes()
    members[root + names] = "\n".join(f"class{i}" for i in range(record.classes)).encode() + b"\n\n"
    return record, arrays, members


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_comes_from_its_binary_archive(dataset: str, shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    record, arrays, members = small_cifar(dataset, 20, 6)
    content = tar(dict(reversed(members.items())) | {"readme.html": b"hello"})
    (folder / "c.tar.gz").write_bytes(content)
    found = fetch_variant(record, source(dataset, url, {"c.tar.gz": content}), tmp_path)
    opened = open_set(record, tmp_path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(opened, name), arrays[name])
    assert opened.classes is not None and opened.classes[:2] == ("class0", "class1")
    assert (found["variant"], found["train"], found["path"]) == ("official", 20, str(tmp_path / dataset / "official"))


def test_a_set_that_is_there_is_not_downloaded_again(shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    record, _, members = small_cifar("cifar10", 10, 2)
    content = tar(members)
    (folder / "once.tar.gz").write_bytes(content)
    fetch_variant(record, source("cifar10", url, {"once.tar.gz": content}), tmp_path)
    (folder / "once.tar.gz").unlink()
    fetch_variant(record, source("cifar10", url, {"once.tar.gz": content}), tmp_path)
    (tmp_path / "cifar10/official/y_test.npy").unlink()
    with pytest.raises(StorageError, match="File not found"):
        fetch_variant(record, source("cifar10", url, {"once.tar.gz": content}), tmp_path)


def test_grey_sets_come_from_four_idx_files(shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    arrays = {"x_train": images(12, 28, 1), "x_test": images(4, 28, 1)}
    arrays |= {f"y_{split}": np.arange(len(arrays[f"x_{split}"]), dtype=np.uint8) % 10 for split in ("train", "test")}
    own = {"train": 12, "test": 4, "digest": arrays_digest(arrays)}
    record = variant("fashion_mnist").model_copy(update=own)
    files = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for key, kind, magic in (("x", "images-idx3", 0x803), ("y", "labels-idx1", 0x801)):
            array = arrays[f"{key}_{split}"].squeeze()
            header = np.array([magic, *array.shape], ">i4").tobytes()
            files[f"{prefix}-{kind}-ubyte.gz"] = gzip.compress(header + array.tobytes())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    fetch_variant(record, source("idx", url, files), tmp_path)
    np.testing.assert_array_equal(open_set(record, tmp_path).x_train, arrays["x_train"])

    name = "t10k-images-idx3-ubyte.gz"
    for bad in (files["train-images-idx3-ubyte.gz"], gzip.compress(b"\0" * 4000), b"no gzip", files[name][:-9]):
        (folder / name).write_bytes(bad)
        with pytest.raises(DataError, match=name):
            fetch_variant(record, source("idx", url, files | {name: bad}), tmp_path / "other")


def small_tiny() -> tuple[Variant, Members]:
    """Two classes of two training and one test image, in an order that is not theirs; one image is grey."""
    ids, root = ["n02", "n01"], "tiny-imagenet-200/"
    members = {f"{root}wnids.txt": "\n".join(ids).encode(), f"{root}words.txt": b"n01\tgoldfish\nn02\tbison\nn03\tx"}
    shades = {"n01": 10, "n02": 200}
    for wnid in ids:
        for number in (10, 9):
            mode, shade = ("RGB", (shades[wnid],) * 3) if number == 9 else ("L", shades[wnid] + 1)
            members[f"{root}train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(Image.new(mode, (64, 64), shade))
        members[f"{root}train/{wnid}/{wnid}_boxes.txt"] = b"ignored"
        members[f"{root}val/images/val_{shades[wnid]}.JPEG"] = jpeg(Image.new("RGB", (64, 64), (shades[wnid] + 2,) * 3))
    members[f"{root}val/val_annotations.txt"] = b"val_200.JPEG\tn02\t0\t0\t9\t9\nval_10.JPEG\tn01\t0\t0\t9\t9\n"
    return variant("tiny_imagenet").model_copy(update={"classes": 2, "train": 4, "test": 2}), members


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100)
    return file.getvalue()


def zipped(members: Members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_tiny_imagenet_is_decoded_in_the_order_of_its_ids_and_names(shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    record, members = small_tiny()
    content = zipped(members)
    (folder / "tiny.zip").write_bytes(content)
    fetch_variant(record, source("tiny_imagenet", url, {"tiny.zip": content}), tmp_path)
    opened = open_set(record, tmp_path)
    assert opened.classes == ("goldfish", "bison")
    assert opened.y_train.tolist() == [0, 0, 1, 1]
    assert opened.y_test.tolist() == [0, 1]
    assert opened.x_train[:, 0, 0, 0].tolist() == [11, 10, 201, 200]  # _10 sorts before _9
    assert opened.x_test[:, 5, 5, 1].tolist() == [12, 202]


def hostile_zips() -> dict[str, tuple[Members, str]]:
    _, good = small_tiny()
    root = "tiny-imagenet-200/"
    first = f"{root}train/n01/images/n01_9.JPEG"
    return {
        "traversal": (good | {"../../evil.JPEG": b"x"}, "leads out of it"),
        "oversized": (good | {first: b"\0" * (2 << 20)}, "expected at most"),
        "no image": (good | {first: b"GIF89a"}, "not a whole PNG or JPEG"),
        "gigapixel": (good | {first: jpeg(Image.new("L", (1500, 2)))}, "at most 1024 a side"),
        "other size": (good | {first: jpeg(Image.new("L", (32, 32)))}, "all must agree"),
        "lost image": ({name: content for name, content in good.items() if name != first}, "train arrays are not"),
        "lost text": ({name: content for name, content in good.items() if "wnids" not in name}, "wnids.txt is missing"),
        "odd text": (good | {f"{root}val/val_annotations.txt": b"val_10.JPEG n01"}, "cannot be read"),
    }


@pytest.mark.parametrize("kind", hostile_zips())
def test_a_hostile_zip_is_refused(kind: str, shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    members, message = hostile_zips()[kind]
    content = zipped(members)
    (folder / "bad.zip").write_bytes(content)
    record, _ = small_tiny()
    with pytest.raises(DataError, match=message):
        fetch_variant(record, source("tiny_imagenet", url, {"bad.zip": content}), tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def hostile_tars() -> dict[str, tuple[bytes, str]]:
    _, _, good = small_cifar("cifar10", 10, 2)
    root, outside, link = "cifar-10-batches-bin/", tarfile.TarInfo("../../evil"), tarfile.TarInfo("link")
    outside.size = 3
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    absolute, device, huge = tarfile.TarInfo("/evil"), tarfile.TarInfo("null"), tarfile.TarInfo("huge")
    device.type, huge.size = tarfile.CHRTYPE, 2 << 20
    longer = good[f"{root}test_batch.bin"] + b"x"
    return {
        "traversal": (tar(good, outside), "leads out of it"),
        "absolute": (tar(good, absolute), "leads out of it"),
        "link": (tar(good, link), "neither a file nor a folder"),
        "device": (tar(good, device), "neither a file nor a folder"),
        "huge stranger": (tar(good, huge), "huge has 2097152 bytes"),
        "oversized": (tar(good | {f"{root}test_batch.bin": longer}), r"test_batch.bin has \d+ bytes, expected at most"),
        "undersized": (
            tar(good | {f"{root}test_batch.bin": longer[:-2]}),
            "test_batch.bin is missing or has the wrong",
        ),
        "missing": (tar(dict(list(good.items())[1:])), "data_batch_1.bin is missing"),
        "truncated": (tar(good)[:-900], "cannot be read"),
        "no archive": (b"<html>sorry</html>", "cannot be read"),
    }


@pytest.mark.parametrize("kind", hostile_tars())
def test_a_hostile_tar_is_refused(kind: str, shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    content, message = hostile_tars()[kind]
    (folder / "bad.tar.gz").write_bytes(content)
    record, _, _ = small_cifar("cifar10", 10, 2)
    with pytest.raises(DataError, match=message):
        fetch_variant(record, source("cifar10", url, {"bad.tar.gz": content}), tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_a_wrong_digest_and_a_truncated_download_are_refused_before_parsing(
    shelf: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = shelf
    record, _, members = small_cifar("cifar10", 10, 2)
    content = tar(members)
    for wrong in (content[:-1], content + b"\0", content[:100] + b"!" + content[101:]):
        (folder / "w.tar.gz").write_bytes(wrong)
        with pytest.raises(DataError, match=f"gave {len(wrong)} bytes whose sha256 is .* not the published"):
            fetch_variant(record, source("cifar10", url, {"w.tar.gz": content}), tmp_path)
    (folder / "w.tar.gz").write_bytes(RNG.bytes((1 << 20) + 1))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        fetch_variant(record, source("cifar10", url, {"w.tar.gz": content}), tmp_path)


def test_a_server_that_hangs_up_is_a_storage_error(tmp_path: Path) -> None:
    record, _, members = small_cifar("cifar10", 10, 2)
    content = tar(members)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def hang_up() -> None:
            with server.accept()[0] as client:
                client.recv(9999)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc")

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(StorageError, match=r"c.tar.gz could not be downloaded .*only 3 of 99999 bytes came"):
            fetch_variant(record, source("cifar10", url, {"c.tar.gz": content}), tmp_path)
        thread.join()


def test_an_unreachable_host_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(
        StorageError, match=rf"from {address} .*fetch cifar10 --mirror FOLDER`, or use `bitq data import"
    ):
        fetch("cifar10", tmp_path, mirror=f"http://{address}")


def test_the_next_mirror_is_tried(shelf: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = shelf
    record, _, members = small_cifar("cifar10", 10, 2)
    content = tar(members)
    (folder / "damaged").mkdir(exist_ok=True)
    (folder / "m.tar.gz").write_bytes(content)
    (folder / "damaged/m.tar.gz").write_bytes(content * 2)
    mirrors = (f"{url}nowhere/", f"{url}damaged/", url)
    fetch_variant(
        record, source("cifar10", url, {"m.tar.gz": content}).model_copy(update={"mirrors": mirrors}), tmp_path
    )
    assert open_set(record, tmp_path).variant == record


def test_a_folder_can_stand_in_for_the_network(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/cifar-10-binary.tar.gz").write_bytes(b"something else")
    assert as_url(str(tmp_path / "stick")) == f"file://{tmp_path}/stick/"
    with pytest.raises(DataError, match="gave 14 bytes whose sha256"):
        fetch("cifar10", tmp_path / "data", mirror=str(tmp_path / "stick"))
