"""An engineer's path: own network, own loop, a packed file, and from it ONNX Runtime and C with the same answers."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bitq
from bitq.errors import UsageError
from bitq.infer.fast import by_reference
from bitq.infer.kernels import MakeKernel, exact_kernels
from bitq.infer.layers import FastLayer, product_of

CLASSES = 4
COUNT = 1000  # images that other runtimes answer
BUILD = ["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "network", "network.c"]
BUILD += ["reference.c", "main.c", "-lm"]


class Net(nn.Module):
    """A small network as people write them: groups, a dilation, a shortcut, functions and modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.wide = nn.Conv2d(8, 16, (3, 5), stride=2, padding=(1, 2), groups=2)
        self.far = nn.Conv2d(16, 16, 3, padding="same", dilation=2, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        x = functional.max_pool2d(self.wide(self.stem(x)), 2)
        x = functional.relu(x + self.norm(self.far(x)))
        y: Tensor = self.head(x.mean((2, 3)))
        return y if scale is None else y * scale


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images with a bright quarter, which is their class."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    x = 0.3 * torch.randn(count, 1, 12, 12, generator=draws)
    for image, label in zip(x, labels.tolist(), strict=True):
        image[0, 6 * (label // 2) : 6 * (label // 2) + 6, 6 * (label % 2) : 6 * (label % 2) + 6] += 1
    return x, labels


def batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(x.split(16), y.split(16), strict=True)


@pytest.fixture(scope="module", params=["bitnet", "ttq", "int8", "bf16", "static"])
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the network for two epochs in a loop of one's own, and write it."""
    torch.manual_seed(0)
    is_static = request.param == "static"
    method, activations = ("int4", "static") if is_static else (request.param, None)
    model = bitq.quantize(Net(), method, activations=activations, keep="stem")
    optimizer = torch.optim.Adam(bitq.parameter_groups(model, weight_decay=1e-4), lr=2e-2)
    x, y = images(256, seed=1)
    if is_static:
        bitq.calibrate(model, [x])
    for epoch in range(2):
        for inputs, labels in batches(x, y):
            bitq.set_progress(model, epoch / 2)
            functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    path = tmp_path_factory.mktemp(request.param) / "net.safetensors"
    bitq.export(model, path)
    fresh = bitq.load(path, into=Net())
    with torch.inference_mode():
        assert torch.equal(fresh(x), model.eval()(x))
    return path


def logits_of(path: Path, x: Tensor) -> Tensor:
    with torch.inference_mode():
        y: Tensor = bitq.load(path, into=Net())(x)
    return y


def answers_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    """Demand equal top-1 of every image, and logits that are near."""
    assert np.array_equal(found.argmax(1), wanted.argmax(1))
    assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_it_has_learned(shipped: Path) -> None:
    x, y = images(200, seed=2)
    assert bitq.evaluate(shipped, batches(x, y), into=Net()).percent > 60  # chance: 25


def test_onnx_runtime_gives_the_same_top_1(shipped: Path, tmp_path: Path) -> None:
    x, _ = images(COUNT, seed=2)
    near = bitq.to_onnx(shipped, tmp_path / "net.onnx", x[:16], into=Net())
    assert near.same == near.images == 16
    runtime = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = runtime.run(["logits"], {"images": x.numpy()})
    wanted = logits_of(shipped, x)
    answers_alike(found, wanted.numpy())


def test_fast_inference_equals_the_integer_definition(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = images(200, seed=2)
    if not shipped.parent.name.startswith(("bitnet", "static")):
        with pytest.raises(UsageError, match=r"no layer of this network does so; use .*bitq\.quantize"):
            bitq.fast(shipped, x, into=Net())
        return
    monkeypatch.setattr("bitq.infer.fast.fastest", first_exact)
    quick = bitq.fast(shipped, x, into=Net())
    assert quick.kernels.keys() == {"wide", "far", "head"} and "float" not in quick.kernels.values()
    assert torch.equal(quick(x), by_reference(bitq.load(shipped, into=Net()), x)(x))
    assert torch.equal(quick(x).argmax(1), logits_of(shipped, x).argmax(1))


def first_exact(layer: FastLayer, x: Tensor, signed: bool) -> MakeKernel:
    """Choose a kernel whatever it takes: layers as small as these may be faster in floating point."""
    return exact_kernels(product_of(layer, signed))[0]


def test_fast_inference_says_what_it_needs(shipped: Path) -> None:
    x, _ = images(1, seed=2)
    with pytest.raises(UsageError, match=r"holds the weights of a .*Net, .*; give a fresh one: .*into=model"):
        bitq.fast(shipped, x)
    with pytest.raises(UsageError, match=r"give a batch of inputs: bitq\.fast\(path, x, into=model\)"):
        bitq.fast(shipped, into=Net())
    with pytest.raises(UsageError, match="give a batch of inputs, such as"):
        bitq.fast(shipped, x[0, 0, 0], into=Net())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles the program")
def test_the_c_program_gives_the_same_top_1(shipped: Path, tmp_path: Path) -> None:
    x, _ = images(COUNT, seed=2)
    bitq.to_c(shipped, tmp_path, x[:1], into=Net())
    subprocess.run(BUILD, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "network"], input=x.numpy().tobytes(), capture_output=True, check=True).stdout
    found, wanted = np.frombuffer(said, np.float32).reshape(COUNT, CLASSES), logits_of(shipped, x).numpy()
    answers_alike(found, wanted)


def test_the_verb_names_the_functions_for_a_network_of_ones_own(shipped: Path, tmp_path: Path) -> None:
    from bitq.verbs.export import export as verb

    for format in ("onnx", "c"):
        with pytest.raises(UsageError, match=rf"holds a .*Net, which only its own code can build.*bitq\.to_{format}"):
            verb(shipped, tmp_path / "new", format, None, None, None, None, None, as_json=False)


def test_an_example_that_is_no_batch_is_refused(tmp_path: Path) -> None:
    for example in (torch.zeros(0, 1, 12, 12), torch.zeros(3), 1):
        with pytest.raises(UsageError, match="give a batch of inputs"):
            bitq.to_onnx(tmp_path / "net.safetensors", tmp_path / "net.onnx", example)  # type: ignore[arg-type]
