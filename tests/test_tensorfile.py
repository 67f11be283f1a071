"""The binary format: what was written comes back, every damaged byte is noticed, no crafted header is believed."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitq.deploy import tensorfile
from bitq.deploy.tensorfile import DIGEST_KEY, DTYPES, MAX_HEADER, NO_DIGEST, measure, read, write
from bitq.errors import Bug, DataError
from bitq.io import sha256, sha256_file

META = {"epoch": 3, "text": 'ü "sha256":"' + "0" * 64, "nested": {"list": [1.5, None, True]}}


def some_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"part.{name}": torch.arange(3).to(dtype) for dtype, name in DTYPES.items()}
    image = torch.randn(2, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
    return tensors | {"image": image, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 4), "every": image[:, ::2]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write(tmp_path / "some file.safetensors", some_tensors(), META)
    return tmp_path / "some file.safetensors"


def test_tensors_and_metadata_come_back(saved: Path) -> None:
    tensors, meta = read(saved)
    assert meta == META and tensors.keys() == some_tensors().keys()
    for name, tensor in some_tensors().items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor), name


def test_any_reader_of_the_format_can_open_it(saved: Path) -> None:
    with safetensors.safe_open(saved, framework="pt") as file:
        assert json.loads(file.metadata()["bitq"]) == META
        assert torch.equal(file.get_tensor("image"), some_tensors()["image"])


def test_size_and_digest_are_those_of_the_file(tmp_path: Path) -> None:
    digest = write(tmp_path / "a", some_tensors(), META)
    assert digest == sha256_file(tmp_path / "a")
    assert measure(some_tensors(), META) == (tmp_path / "a").stat().st_size


def test_equal_content_gives_equal_bytes_in_any_process(tmp_path: Path, saved: Path) -> None:
    backwards = dict(reversed(some_tensors().items()))
    assert write(tmp_path / "again", backwards, dict(reversed(META.items()))) == sha256_file(saved)
    golden = "5f62106ee68e394d65acef260f3dac3f71338f33144f4204203a3376444a5bda"
    assert write(tmp_path / "golden", {"b": torch.ones(3), "a": torch.ones(2)}, {"y": 2, "x": 1}) == golden


def test_every_byte_of_the_file_is_under_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "small"
    write(path, {"a": torch.arange(5, dtype=torch.uint8), "b": torch.ones(2)}, {"k": "v"})
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])  # 0x20: case, space to NUL
        with pytest.raises(DataError, match="small"):
            read(path)


@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_is_noticed(saved: Path, where: float, flip: int) -> None:
    content = bytearray(saved.read_bytes())
    content[int(where * len(content))] ^= flip
    _refused(saved, bytes(content))


@given(length=st.floats(0, 1, exclude_max=True), extra=st.binary(min_size=1, max_size=20))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncation_and_extension_are_noticed(saved: Path, length: float, extra: bytes) -> None:
    content = saved.read_bytes()
    _refused(saved, content[: int(length * len(content))])
    _refused(saved, content + extra)


def test_swapped_parts_of_two_good_files_are_noticed(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, {"w": torch.full((64,), float(ord(name)))}, {"name": name})
    first, second = (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()
    _refused(tmp_path / "mixed", first[:-256] + second[-256:])


def _refused(path: Path, content: bytes) -> None:
    broken = path.with_name("broken")
    broken.write_bytes(content)
    with pytest.raises(DataError, match="broken .*; (delete it and run|bitq reads the files that it wrote)"):
        read(broken)


# Crafted files: the digest is right, what the header says is not.


def craft(path: Path, fields: Any, payload: bytes = bytes(16), text: bytes | None = None) -> Path:
    if isinstance(fields, dict):
        fields = {"__metadata__": {"bitq": "{}", "sha256": NO_DIGEST.decode()}} | fields
    text = text or json.dumps(fields, separators=(",", ":")).encode()
    content = struct.pack("<Q", len(text)) + text + payload
    path.write_bytes(content.replace(DIGEST_KEY + NO_DIGEST, DIGEST_KEY + sha256(content).encode()))
    return path


def entry(shape: Any = (4,), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_well_crafted_file_is_read(tmp_path: Path) -> None:
    tensors, meta = read(craft(tmp_path / "good", {"w": entry()}))
    assert torch.equal(tensors["w"], torch.zeros(4)) and meta == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"w": entry(shape=[5])},
        {"w": entry(shape=[-4])},
        {"w": entry(shape=[2, -2])},
        {"w": entry(shape=[2**32, 2**32])},
        {"w": entry(shape=[2**61])},
        {"w": entry(shape=[2**70])},
        {"w": entry(shape=[4.0])},
        {"w": entry(shape="4")},
        {"w": entry(offsets=[0, 2**63])},
        {"w": entry(offsets=[16, 0])},
        {"w": entry(offsets=[-16, 0])},
        {"w": entry(offsets=[16, 32])},
        {"w": entry(), "v": entry()},  # overlap
        {"w": entry([2], [0, 8]), "v": entry([1], [12, 16])},  # hole
        {"w": entry([2], [0, 8])},  # bytes that belong to nobody
        {"w": entry([2**62, 2**62, 0], [0, 0]), "v": entry()},
        {"w": entry(dtype="F8_E4M3", shape=[16])},
        {"w": entry(dtype="C64", shape=[2])},
        {"w": entry(dtype=["F32"])},
        {"w": {"dtype": "F32"}},
        {"w": None},
        {"__metadata__": {"bitq": "{}"}},
        {"__metadata__": {"bitq": "[]", "sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"bitq": "{", "sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"bitq": '{"loss":NaN}', "sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"bitq": '{"loss":1e999}', "sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"bitq": '{"a":1,"a":2}', "sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"sha256": NO_DIGEST.decode()}},
        {"__metadata__": {"bitq": {}, "sha256": NO_DIGEST.decode()}},
        {"__metadata__": None},
        {"__metadata__": {"bitq": "{}", "sha256": NO_DIGEST.decode(), "more": {"sha256": "twice"}}},
        [],
        "text",
        7,
    ],
    ids=lambda fields: json.dumps(fields)[:60],
)
def test_crafted_headers_are_refused(tmp_path: Path, fields: Any) -> None:
    with pytest.raises(DataError, match="crafted .*; (delete it and run|bitq reads the files that it wrote)"):
        read(craft(tmp_path / "crafted", fields))


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**31, 2**62, 2**64 - 1])
def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "crafted"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(DataError, match=f"announces a header of {length} bytes"):
        read(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "crafted"
    with open(path, "wb") as file:
        file.truncate(tensorfile.MAX_FILE + 1)
    with pytest.raises(DataError, match="more than the"):
        read(path)


def test_deeply_nested_headers_do_not_end_the_process(tmp_path: Path) -> None:
    deep = b'{"__metadata__":{"sha256":"' + NO_DIGEST + b'"},"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(DataError):
        read(craft(tmp_path / "crafted", None, text=deep))


@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 8, b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\0." * 9])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    _refused(tmp_path / "x", content)


def test_foreign_safetensors_are_refused_by_name(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(3)}, tmp_path / "foreign")
    with pytest.raises(DataError, match="is no file that bitq wrote, or .*bitq import"):
        read(tmp_path / "foreign")


def test_absent_files_and_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="is a folder; give a file in it"):
        read(tmp_path)


def test_random_junk_never_ends_in_another_error(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(200):
        header = bytes(chance.choices(b'{}[]":,0123456789abcde\\ \xff', k=chance.randrange(60)))
        _refused(tmp_path / "x", struct.pack("<Q", len(header)) + header + chance.randbytes(chance.randrange(30)))


def test_what_a_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(Bug, match="complex64"):
        write(tmp_path / "a", {"w": torch.zeros(2, dtype=torch.complex64)}, {})
    with pytest.raises(Bug, match="header"):
        write(tmp_path / "a", {}, {"long": "x" * MAX_HEADER})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ValueError):
        write(saved, {}, {"loss": float("nan")})
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
