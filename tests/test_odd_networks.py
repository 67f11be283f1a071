"""Layers of unusual geometry, dead channels and single pixels: the file, ONNX, C and fast inference agree on them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bitq
from bitq.errors import UsageError
from bitq.infer.fast import _with, accelerated, by_reference
from bitq.infer.kernels import MakeKernel, exact_kernels
from bitq.infer.layers import FastLayer, product_of
from bitq.library.quantize import quantize
from tests.test_c_export import BUILD


class Flat(nn.Module):
    """A network of convolutions whose output is flattened into one row."""

    def __init__(self, *layers: nn.Module, change: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layers, self.change = nn.Sequential(*layers), change

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return (y if self.change is None else self.change(y)).flatten(1)


ODD: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "groups and dilation": (lambda: Flat(nn.Conv2d(6, 9, (3, 2), (1, 2), (2, 1), (2, 1), 3, bias=False)), (6, 7, 5)),
    "depthwise": (lambda: Flat(nn.Conv2d(8, 16, 3, 2, 1, groups=8), nn.BatchNorm2d(16), nn.ReLU()), (8, 5, 6)),
    "even kernel, same": (lambda: Flat(nn.Conv2d(2, 3, (4, 2), padding="same"), nn.ReLU()), (2, 6, 5)),
    "far, same": (lambda: Flat(nn.Conv2d(2, 3, (5, 3), padding="same", dilation=(1, 2))), (2, 6, 5)),
    "one pixel": (lambda: Flat(nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)), (4, 1, 1)),
    "sequence": (lambda: Flat(nn.Conv1d(3, 6, 3, 2, 2, 2, 3), nn.ReLU(), nn.Conv1d(6, 2, 4, bias=False)), (3, 13)),
    "tokens": (lambda: Flat(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3, bias=False)), (4, 5)),
    "window": (lambda: Flat(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True)), (1, 8, 9)),
    "means": (lambda: Flat(nn.Conv2d(1, 2, 3), nn.AvgPool2d((3, 2), (2, 1), (1, 0))), (1, 8, 9)),
    "inner means": (lambda: Flat(nn.Conv2d(1, 2, 3), nn.AvgPool2d(3, 2, 1, False, False)), (1, 8, 9)),
    "bare norm": (lambda: Flat(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU()), (3, 4, 4)),
    "shared": (lambda: Flat(*[nn.Conv2d(3, 3, 3, padding=1)] * 2, nn.ReLU()), (3, 4, 4)),
    "over an axis": (lambda: Flat(nn.Conv2d(3, 4, 1), change=lambda y: y.mean((1, 2)) - y.sum((2, 1))), (3, 4, 5)),
}
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
METHODS = ["bitnet", "ttq", "int3"]


def made(case: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    make, shape = ODD[case]
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics, signs and scales that are not those of a fresh layer
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.2, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear))
    first.weight.data[0] = 0  # a channel that is dead
    images = torch.randn(*shape[1:], 6, shape[0]).permute(-2, -1, *range(len(shape) - 1))  # not contiguous
    return model.eval(), images


def written(case: str, method: str, path: Path) -> tuple[Tensor, Tensor]:
    """Write the network; return images and the logits of the network read back, equal to those before."""
    model, x = made(case)
    quantize(model, method)
    for name, value in model.named_parameters():
        if name.endswith("quantizer.wn"):  # of ttq: a scale may be learned below zero
            value.data.fill_(-0.7)
    bitq.export(model, path)
    loaded = bitq.load(path, into=made(case)[0])
    with torch.inference_mode():
        before, after = model(x), loaded(x)
        assert torch.equal(before, after)
        alone = torch.cat([loaded(each[None]) for each in x])
    assert torch.allclose(alone, after, atol=1e-5)
    assert after.abs().max() > 1e-3
    return x, after


def near(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ODD)
def test_onnx_runtime_agrees(case: str, method: str, tmp_path: Path) -> None:
    from bitq.interop.onnx_export import session

    x, wanted = written(case, method, tmp_path / "net")
    for weights in ("narrow", "packed"):
        bitq.to_onnx(tmp_path / "net", tmp_path / weights, x, into=made(case)[0], weights=weights)
        near(session((tmp_path / weights).read_bytes())(x), wanted)


def test_a_table_with_a_row_of_padding_is_written(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        return Flat(nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 3))

    torch.manual_seed(1)
    bitq.export(quantize(fresh(), "twn"), tmp_path / "net")
    tokens = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(2))
    near = bitq.to_onnx(tmp_path / "net", tmp_path / "net.onnx", tokens, into=fresh())
    assert near.largest_difference <= 1e-5 * near.largest_logit
    with pytest.raises(UsageError, match="format c reads floats"):
        bitq.to_c(tmp_path / "net", tmp_path / "c", tokens, into=fresh())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles the programs")
@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("case", ODD)
def test_the_c_program_agrees(case: str, method: str, tmp_path: Path) -> None:
    x, wanted = written(case, method, tmp_path / "net")
    bitq.to_c(tmp_path / "net", tmp_path, x, into=made(case)[0])
    subprocess.run(["-O0" if each == "-O2" else each for each in BUILD], cwd=tmp_path, check=True)
    given = x.contiguous().numpy().tobytes()
    said = subprocess.run([tmp_path / "network"], input=given, capture_output=True, check=True).stdout
    near(torch.from_numpy(np.frombuffer(said, np.float32).copy()).view(wanted.shape), wanted)


@pytest.mark.parametrize("case", [case for case in ODD if len(ODD[case][1]) == 3 and "even" not in case])
@pytest.mark.parametrize(("method", "activations"), [("bitnet", None), ("int4", "static")])
def test_fast_inference_agrees(case: str, method: str, activations: str | None, tmp_path: Path) -> None:
    model, x = made(case)
    quantize(model, method, activations=activations)  # type: ignore[arg-type]
    if activations:
        bitq.calibrate(model, [x])
    bitq.export(model, tmp_path / "net")
    loaded = bitq.load(tmp_path / "net", into=made(case)[0])
    with torch.inference_mode():
        wanted, defined = loaded(x), by_reference(loaded, x)(x)
        assert (defined - wanted).abs().max() <= 1e-5 * wanted.abs().max()
        forced = _with(loaded, x, _a_kernel)  # of so small layers the fastest kernel is often the float one
        assert set(forced.kernels.values()) == {"onednn"} and torch.equal(forced(x), defined)
        assert (accelerated(loaded, x)(x) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def _a_kernel(layer: FastLayer, x: Tensor, signed: bool) -> MakeKernel:
    return exact_kernels(product_of(layer, signed))[0]


def test_uneven_padding_has_no_integer_kernel() -> None:
    model, x = made("even kernel, same")
    with pytest.raises(UsageError, match="as many zeros before as after"):
        accelerated(quantize(model, "bitnet"), x)


class Changed(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward: Callable[["Changed", Tensor], Tensor]) -> None:
        super().__init__()
        self.given, self.conv, self.head = forward, nn.Conv2d(2, 2, 1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.given(self, x)


def _in_place(net: Changed, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.head((functional.relu(y, inplace=True) + y).mean((2, 3)))


def _added_to(net: Changed, x: Tensor) -> Tensor:
    kept = y = net.conv(x)
    y += 1.0
    return net.head((y * kept).mean((2, 3)))


SILENTLY_WRONG: dict[str, tuple[Callable[[Changed, Tensor], Tensor], str]] = {
    "in place": (_in_place, "after it was changed in place"),
    "added to": (_added_to, "after it was changed in place"),
    "parts": (lambda net, x: net.head(net.conv(x).chunk(2, 1)[0].mean((2, 3)).expand(-1, 2)), "chunk .* no single"),
    "values": (lambda net, x: net.head(net.conv(x).mean((2, 3))) * x.sum().item(), "item .* no single tensor"),
    "batch": (lambda net, x: net.head(net.conv(x).mean((2, 3)).softmax(0)), "softmax .* mixes the images"),
    "first image": (lambda net, x: net.head(net.conv(x)[0:2].mean((2, 3))), "getitem .* mixes the images"),
}


@pytest.mark.parametrize("case", SILENTLY_WRONG)
def test_what_c_would_compute_otherwise_is_refused(case: str) -> None:
    from bitq.interop.c_export import c_files

    forward, message = SILENTLY_WRONG[case]
    with pytest.raises(UsageError, match=message):
        c_files(quantize(Changed(forward), "twn").eval(), torch.randn(2, 2, 4, 4))
