"""The C program sums the same integers as the packed file, bit by bit, and answers alike."""

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitq.data.inputs import Inputs
from bitq.deploy.load import load
from bitq.errors import UsageError
from bitq.interop.c_export import c_files, export_c
from bitq.interop.calls import example_for
from bitq.interop.conformance import conformance, export_conformance
from bitq.models.registry import build
from bitq.quant.convert import convert, quantized_layers
from tests.test_onnx import Foreign, alike, calibrated, packed

BUILD = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "network", "network.c"]
BUILD += ["reference.c", "main.c", "-lm"]
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles the programs")
QUICK = [("bitnet", "atq_cnn"), ("bitnet", "gated_fusion"), ("ttq", "resnet20"), ("twn", "vgg11")]
SLOW = [
    ("bitnet", "resnet18"), ("bitnet", "resnet20"), ("bitnet_legacy", "resnet18"), ("ring", "resnet20"),
    ("int3", "vgg11"), ("fp16", "atq_cnn"), ("bf16", "atq_cnn"), ("atq", "fusion_image_only"), ("lsq", "gated_fusion"),
    ("dorefa", "mobilenet_v2"), ("bwn", "efficientnet_b0"), ("int5", "convnext"), ("int7", "atq_cnn"),
]  # fmt: skip


def built(path: Path, folder: Path) -> Path:
    """Export and compile; a warning is an error."""
    export_c(*load(path), folder)
    compiled = subprocess.run(BUILD, cwd=folder, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return folder / "network"


def as_bytes(x: Inputs) -> bytes:
    """Put the numbers of each image, and then its tokens, one after another."""
    parts = (x,) if isinstance(x, Tensor) else x
    arrays = [part.numpy().astype(np.float32 if part.is_floating_point() else np.int32) for part in parts]
    return b"".join(array[at].tobytes() for at in range(len(arrays[0])) for array in arrays)


def run(program: Path, *arguments: str, given: bytes) -> bytes:
    return subprocess.run([program, *arguments], input=given, capture_output=True, check=True).stdout


def answers_alike(path: Path, folder: Path) -> Path:
    program, (_, spec) = built(path, folder), load(path)

    def logits(x: Inputs) -> Tensor:
        found = np.frombuffer(run(program, given=as_bytes(x)), np.float32).copy()
        return torch.from_numpy(found).view(-1, spec["classes"])

    alike(path, logits, example_for(spec, 3, seed=3))
    return program


def sums_equal(path: Path, program: Path) -> int:
    """Compare the sums of every layer of integers bit by bit, and count the layers."""
    model, spec = load(path)
    vectors = conformance(model, spec, images=2)
    layers = [name.removesuffix(".codes") for name in vectors if name.endswith(".codes")]
    for name in layers:
        codes, sums = vectors[f"{name}.codes"], vectors[f"{name}.sums"]
        found = run(program, "--layer", name, given=codes.tobytes())
        assert found == sums.astype(np.int32).tobytes(), name
    return len(layers)


@pytest.mark.parametrize(("method", "network"), QUICK)
def test_the_program_answers_like_the_packed_file(tmp_path: Path, method: str, network: str) -> None:
    answers_alike(packed(tmp_path, method, network), tmp_path / "c")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), SLOW)
def test_more_programs_answer_like_their_files(tmp_path: Path, method: str, network: str) -> None:
    answers_alike(packed(tmp_path, method, network), tmp_path / "c")


def test_integer_sums_are_equal_bit_by_bit(tmp_path: Path) -> None:
    path = packed(tmp_path, "bitnet", "atq_cnn")
    assert sums_equal(path, answers_alike(path, tmp_path / "c")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet18", "resnet20", "vgg11", "gated_fusion"])
def test_integer_sums_of_deep_networks_are_equal_bit_by_bit(tmp_path: Path, network: str) -> None:
    path = packed(tmp_path, "bitnet", network)
    assert sums_equal(path, built(path, tmp_path / "c")) >= 9


@pytest.mark.parametrize(("method", "activations"), [("int8", "static"), ("int4", "dynamic"), ("ring", "static")])
def test_quantized_activations_are_computed_alike(tmp_path: Path, method: str, activations: str) -> None:
    path = calibrated(tmp_path, method, activations)
    whole = 0 if method == "ring" else 4
    assert sums_equal(path, answers_alike(path, tmp_path / "c")) == whole


def test_corrections_of_single_weights_are_added(tmp_path: Path) -> None:
    answers_alike(packed(tmp_path, "atq", "atq_cnn", {"boost": 0.02}), tmp_path / "c")


def test_a_changed_code_changes_the_sums(tmp_path: Path) -> None:
    path = packed(tmp_path, "bitnet", "atq_cnn")
    export_c(*load(path), tmp_path / "c")
    text = (tmp_path / "c" / "network.c").read_text()
    start = text.index("{\n", text.index("layer_3_codes")) + 2
    first = text[start:].split(",")[0]
    (tmp_path / "c" / "network.c").write_text(text[:start] + str(int(first) ^ 1) + text[start + len(first) :])
    subprocess.run(BUILD, cwd=tmp_path / "c", check=True)
    with pytest.raises(AssertionError, match="fc2"):
        sums_equal(path, tmp_path / "c" / "network")


def test_a_layer_without_integers_has_no_sums(tmp_path: Path) -> None:
    program = built(packed(tmp_path, "twn", "atq_cnn"), tmp_path / "c")
    asked = subprocess.run([program, "--layer", "conv1"], input="", capture_output=True, text=True)
    assert asked.returncode == 2 and "whole levels and integer inputs" in asked.stderr


def test_a_conformance_set_is_read_without_pickle_and_the_same_every_time(tmp_path: Path) -> None:
    model, spec = load(packed(tmp_path, "bitnet", "atq_cnn"))
    export_conformance(model, spec, tmp_path / "a.npz", images=2)
    export_conformance(model, spec, tmp_path / "b.npz", images=2)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(io.BytesIO((tmp_path / "a.npz").read_bytes()), allow_pickle=False) as found:
        assert {"images", "logits", "conv1.codes", "fc2.sums"} <= set(found) and len(found) == 2 + 2 * 4
        codes, sums = found["fc2.codes"], found["fc2.sums"]
        logits = torch.from_numpy(found["logits"])
        with torch.inference_mode():
            assert torch.equal(model(torch.from_numpy(found["images"])), logits)
    layer: Any = quantized_layers(model)["fc2"]
    levels = layer.quantizer.codes(layer.weight)
    whole = levels.values[levels.index.int()].numpy().astype(np.int64)
    assert codes.dtype == np.int16 and np.array_equal(codes.astype(np.int64) @ whole.T, sums)


def test_foreign_functions_and_large_float_networks_are_refused() -> None:
    x = torch.zeros(2, 3, 8, 8)
    with pytest.raises(UsageError, match=r"no form for cumsum"):
        c_files(convert(Foreign(lambda x: x.cumsum(1)), "twn").eval(), x)
    with pytest.raises(UsageError, match=r"weights of this network are in full precision.*use --format onnx"):
        c_files(build("resnet18", 10).eval(), x)
