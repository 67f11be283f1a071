"""Foreign checkpoints are read without executing anything, and measured like any other network."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitq import models
from bitq.deploy.load import load
from bitq.errors import BitqError, DataError, UsageError
from bitq.interop.pth import read_pth, state_of
from bitq.interop.published_ring import import_published
from bitq.quant.ring_legacy import RingLegacy
from bitq.quant.waves import both_ends


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def forged(path: Path, program: bytes, storages: dict[str, bytes] | None = None, compress: bool = False) -> Path:
    """An archive as torch.save writes it, around a pickle of ours."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def tensor_program(size: str, stride: str, count: int = 4, offset: int = 0) -> bytes:
    """{'w': a tensor of this size and stride over storage 0 of `count` floats}, as a protocol 2 pickle."""
    storage = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ{count}tQ"
    count_bytes, offset_bytes = count.to_bytes(4, "little"), offset.to_bytes(4, "little")
    before, after = storage.encode().split(b"{count}")
    shape = b"(" + b"".join(b"J" + int(n).to_bytes(4, "little") for n in size.split()) + b"t"
    steps = b"(" + b"".join(b"J" + int(n).to_bytes(4, "little") for n in stride.split()) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + before + count_bytes + after
    return (
        b"\x80\x02}X\x01\0\0\0w" + call + b"J" + offset_bytes + shape + steps + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def test_what_torch_saves_is_what_is_read(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    value = {
        "model_state_dict": OrderedDict(
            a=base, view=base.t(), part=base[1:, ::2], half=base.bfloat16(), count=torch.tensor(7), empty=torch.empty(0)
        ),
        "optimizer": {"state": {0: {"momentum_buffer": None}}, "groups": [{"lr": 0.1, "nesterov": False}]},
        "best_accuracy": 89.27, "epoch": 155, "name": "ring",
    }  # fmt: skip
    read = read_pth(saved(tmp_path / "x.pth", value))
    for name, tensor in value["model_state_dict"].items():
        assert (
            torch.equal(read["model_state_dict"][name], tensor) and read["model_state_dict"][name].dtype == tensor.dtype
        )
    assert read["optimizer"] == value["optimizer"] and read["best_accuracy"] == 89.27 and read["epoch"] == 155
    assert list(state_of(read, tmp_path)) == list(value["model_state_dict"])


def test_a_state_dict_and_its_parameters_are_read(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    for value in (network.state_dict(), {"state_dict": dict(network.named_parameters())}):
        state = state_of(read_pth(saved(tmp_path / "x.pth", value)), tmp_path)
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items() if name in state)
        assert "0.weight" in state


class Malicious:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Malicious(os.system, "touch executed"),
        Malicious(eval, "open('executed', 'w')"),
        Malicious(getattr, "x", "upper"),
        Malicious(OrderedDict, [("a", 1)]),
        Malicious(torch.load, "executed"),
        {1, 2},
        b"bytes",
        nn.Linear(2, 2),
        OrderedDict,
        (OrderedDict, torch.float32),
        {(1, 2): 3},
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_executed_and_nothing_else_is_built(tmp_path: Path, value: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for number, disguise in enumerate((value, {"a": value}, {"a": [value]}, {"a": (1, (value,))})):
        with pytest.raises(DataError, match="asks for|holds a"):
            read_pth(saved(tmp_path / f"{number}.pth", disguise))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_programs_of_any_protocol_run_or_are_refused(tmp_path: Path, protocol: int) -> None:
    program = pickle.dumps({"a": [1, 2.5, "x", None, True, (1, 2, 3, 4)]}, protocol)
    try:
        assert read_pth(forged(tmp_path / "x.pth", program))["a"][1] == 2.5
    except DataError as error:
        assert protocol < 2 and "asks for the instruction" in str(error)


@pytest.mark.parametrize(
    ("size", "stride", "count"),
    [
        ("5", "1", 4),  # beyond the end
        ("2000000000 2000000000", "0 0", 4),  # much of little
        ("100", "0", 4),
        ("2 2", "4 1", 4),
        ("2", "1", 2**31 - 1),  # a storage larger than its entry
        ("2 2", "1", 4),  # more sizes than strides
    ],
)
def test_tensors_stay_within_their_storage(tmp_path: Path, size: str, stride: str, count: int) -> None:
    with pytest.raises(DataError, match="beyond its storage|has 16 bytes|is damaged"):
        read_pth(forged(tmp_path / "x.pth", tensor_program(size, stride, count), {"0": bytes(16)}))


def test_a_forged_archive_in_good_order_is_read(tmp_path: Path) -> None:
    data = torch.arange(4.0).numpy().tobytes()
    read = read_pth(forged(tmp_path / "x.pth", tensor_program("2 2", "1 2"), {"0": data}))
    assert read["w"].tolist() == [[0.0, 2.0], [1.0, 3.0]]


def test_archives_that_burst_overlap_or_miss_entries_are_refused(tmp_path: Path) -> None:
    good = tensor_program("2 2", "2 1")
    for path, why in (
        (forged(tmp_path / "a.pth", good, {"0": bytes(2**20)}, compress=True), "compressed"),
        (forged(tmp_path / "b.pth", good), "no entry"),
        (forged(tmp_path / "c.pth", good + bytes(2**24), {"0": bytes(16)}), "larger than"),
        (forged(tmp_path / "d.pth", good, {"0": bytes(12)}), "has 12 bytes"),
        (forged(tmp_path / "e.pth", b"\x80\x02]."), "holds a list"),
        (forged(tmp_path / "f.pth", good[:-5], {"0": bytes(16)}), "damaged|complete"),
    ):
        with pytest.raises(DataError, match=why):
            read_pth(path)


def test_many_views_of_one_storage_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    base = torch.zeros(50_000)
    assert read_pth(saved(tmp_path / "tied.pth", {"a": base, "b": base}))["b"].shape == base.shape
    with pytest.raises(DataError, match="more than 4 times the bytes of the file"):
        read_pth(saved(tmp_path / "x.pth", {str(number): base.view(-1) for number in range(100)}))


def test_a_cut_or_altered_file_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "x.pth", {"w": torch.arange(1000.0)}).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(DataError, match="not an archive"):
            read_pth(tmp_path / "cut.pth")
    where = whole.index(torch.arange(1000.0).numpy().tobytes()[400:420])
    (tmp_path / "bad.pth").write_bytes(whole[:where] + b"\xff" + whole[where + 1 :])
    with pytest.raises(DataError, match="not an archive.*CRC"):
        read_pth(tmp_path / "bad.pth")
    with pytest.raises(DataError, match="cannot be read"):
        read_pth(tmp_path / "absent.pth")


def test_no_damage_to_the_pickle_does_more_than_a_refusal(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 2), "b": [1, "x"]}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        program = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        damaged = bytearray(program)
        damaged[int(torch.randint(len(damaged), (), generator=generator))] = int(
            torch.randint(256, (), generator=generator)
        )
        with suppress(BitqError):
            read_pth(forged(tmp_path / "x.pth", bytes(damaged), {"0": bytes(16)}))


def published_checkpoint(path: Path, ring_size: int | None = 4, classes: int = 10) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint in the layout of the original: its names, positions lying flat, the ring beside each layer."""
    network = models.build("resnet20", classes)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        theirs = name.replace("fc.", "linear.").replace(".downsample.", ".shortcut.")
        if value.dim() == 4 and ring_size:
            layer = theirs.removesuffix(".weight")
            state[f"{layer}.ring_template"] = torch.tensor(both_ends(ring_size, "triangle"))
            state[f"{layer}.positions"] = torch.rand(value.numel())
        else:
            state[theirs] = value
    return saved(path, {"epoch": 155, "model_state_dict": state, "best_accuracy": 89.27}), state


def test_a_published_checkpoint_becomes_the_same_network(tmp_path: Path) -> None:
    source, state = published_checkpoint(tmp_path / "best_ResNet20_ring4.pth")
    import_published(source, tmp_path / "soft.safetensors", "resnet20", 4, snap=False)
    soft, spec = load(tmp_path / "soft.safetensors")
    assert (
        spec["settings"] == {"ring_size": 4, "wave": "triangle", "snap": False} and spec["normalisation"] == "cifar10"
    )
    layer = soft.get_submodule("layer2.0.downsample.0")
    positions = state["layer2.0.shortcut.0.positions"].view(layer.weight.shape)  # type: ignore[arg-type]
    assert torch.equal(layer.weight, positions)
    import_published(source, tmp_path / "hard.safetensors", "resnet20", None, snap=True)
    hard, _ = load(tmp_path / "hard.safetensors")
    weight = hard.get_submodule("layer2.0.downsample.0").weight
    snapped = RingLegacy(positions, 4, snap=True).eval()
    assert torch.equal(weight, snapped(positions)) and len(weight.unique()) == 2
    assert (tmp_path / "hard.safetensors").stat().st_size < (tmp_path / "soft.safetensors").stat().st_size / 14


def test_an_fp32_checkpoint_is_imported_as_what_it_is(tmp_path: Path) -> None:
    source, state = published_checkpoint(tmp_path / "best_resnet20_none.pth", ring_size=None)
    import_published(source, tmp_path / "x.safetensors", "resnet20", None, snap=False)
    network, spec = load(tmp_path / "x.safetensors")
    assert spec["method"] == "fp32" and torch.equal(network.get_parameter("conv1.weight"), state["conv1.weight"])


def test_a_checkpoint_of_something_else_is_refused_in_one_sentence(tmp_path: Path) -> None:
    source, state = published_checkpoint(tmp_path / "x.pth")
    with pytest.raises(UsageError, match="--ring-size 8 was given, but the ring .* has 4 points"):
        import_published(source, tmp_path / "y", "resnet20", 8, snap=False)
    with pytest.raises(DataError, match="does not hold a resnet32: layer1.3.* is missing"):
        import_published(source, tmp_path / "y", "resnet32", None, snap=False)
    with pytest.raises(UsageError, match="resnet20, resnet32, resnet44"):
        import_published(source, tmp_path / "y", "resnet18", None, snap=False)
    for name, changed, why in (
        ("conv1.ring_template", torch.linspace(-1, 1, 4), "neither a triangle nor a sine"),
        ("bn1.weight", torch.ones(17), r"bn1.weight has shape \(17,\), where \(16,\) belongs"),
        ("linear.weight", state["linear.weight"].t(), r"fc.weight has shape \(64, 10\), where \(10, 64\) belongs"),
        ("bn1.weight", torch.full((16,), torch.nan), "bn1.weight holds NaN or infinite numbers"),
        ("conv1.positions", state["conv1.positions"] * 5, "conv1.weight holds positions beyond its ring"),
        ("conv1.positions", torch.ones(432).long(), "conv1.weight holds torch.int64, where torch.float32 belongs"),
        ("conv1.positions", state["conv1.positions"].view(16, 3, 3, 3), r"where \(432,\) belongs"),
    ):
        with pytest.raises(DataError, match=why):
            import_published(
                saved(tmp_path / "z.pth", state | {name: changed}), tmp_path / "y", "resnet20", None, False
            )
    del state["conv1.ring_template"]
    with pytest.raises(DataError, match="conv1 has no ring, where it should have one"):
        import_published(saved(tmp_path / "z.pth", state), tmp_path / "y", "resnet20", None, False)
    assert not (tmp_path / "y").exists()
