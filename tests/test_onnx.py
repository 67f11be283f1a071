"""An ONNX file computes what its packed file computes, with weights of few bits, or its writing is refused."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitq.data.inputs import Inputs
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.errors import Bug, UsageError
from bitq.interop import onnx_export
from bitq.interop.calls import EXAMPLES, Call, Value, example_for, traced
from bitq.interop.nearness import share, tolerance, without_rounding
from bitq.interop.onnx_export import check_calls, compare, export_onnx, is_close, onnx_bytes, session
from bitq.models.registry import ADAPTERS, build
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS
from bitq.quant.static import StaticUint8, activation_named
from tests.test_cross import images, train_a_step

onnx = pytest.importorskip("onnx")

PAIRS = [(method, network) for method in METHODS for network in ADAPTERS]
QUICK = [
    ("bitnet", "resnet20"), ("bitnet_legacy", "atq_cnn"), ("ttq", "vgg11"), ("fp16", "atq_cnn"), ("bf16", "vgg11"),
    ("int7", "atq_cnn"), ("dorefa", "resnet20"), ("bwn", "convnext"), ("int4", "mobilenet_v2"),
    ("lsq", "efficientnet_b0"), ("ring", "atq_cnn"), ("fp32", "gated_fusion"), ("twn", "fusion_text_only"),
    ("int3", "fusion_image_only"),
]  # fmt: skip
SMALL = {"width": 8, "channels": 3, "image_size": 32}
TOLERANCE = 2e-3  # of the largest logit
# A number that falls to the other side of a step grows in these, by how much is what `tolerance` derives.
ROUNDED, DEEP = {"bitnet", "bf16", "fp16"}, {"resnet20", "resnet32", "resnet44", "resnet50", "vgg11", "vgg16"}
DEEP |= {"mobilenet_v2", "efficientnet_b0"}


def packed(folder: Path, method: str, network: str, settings: dict[str, Any] | None = None, **more: Any) -> Path:
    """Write a packed file whose scales are not those of a fresh network, normalised by what a batch really is."""
    geometry = SMALL | ({"words": 6, "vocabulary": 30} if ADAPTERS[network].reads else {})
    model = convert(build(network, 3, **geometry), method, settings)
    if not ADAPTERS[network].reads:
        train_a_step(model, (3, 32))
        settle(model)
    spec = {"model": network, "classes": 3, "method": method, "settings": settings or {}, **geometry, **more}
    export(model, spec, folder / "m")
    return folder / "m"


def settle(model: nn.Module) -> None:
    """Normalise by the statistics of a batch alone: after one step of a moving mean, last bits grow a million times."""
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        model.train()(images(32, (3, 32)))


def agrees(path: Path, **options: Any) -> bytes:
    """Compare with the packed file call by call, and in all."""
    model, spec = load(path)
    content = onnx_bytes(model, example_for(spec), **options)
    check_calls(model, example_for(spec), **options)
    alike(path, session(content), example_for(spec, 7, seed=3))
    return content


def alike(path: Path, logits: Callable[[Inputs], Tensor], x: Inputs) -> None:
    """Compare logits and top-1 with those of the packed file."""
    model, spec = load(path)
    found = compare(model, logits, x)
    assert found.same == found.images and is_close(found, tolerance(model, x))
    assert is_close(found, TOLERANCE) or (spec["method"] in ROUNDED and spec["model"] in DEEP)


@pytest.mark.parametrize(("method", "network"), QUICK)
def test_the_logits_are_those_of_the_packed_file(tmp_path: Path, method: str, network: str) -> None:
    agrees(packed(tmp_path, method, network))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "network"), PAIRS)
def test_every_method_in_every_network(tmp_path: Path, method: str, network: str) -> None:
    path = packed(tmp_path, method, network)
    for weights in ("narrow", "packed"):
        agrees(path, weights=weights)


@pytest.mark.parametrize("bits", range(2, 9))
def test_packed_weights_are_decoded_from_the_very_bytes(tmp_path: Path, bits: int) -> None:
    path = packed(tmp_path, f"int{bits}", "atq_cnn")
    content = agrees(path, weights="packed")
    model, _ = load(path)
    held = {each.name: each for each in onnx.load_from_string(content).graph.initializer}
    for name, layer in quantized_layers(model).items():
        assert len(held[f"{name}.codes"].raw_data) == -(-layer.weight.numel() * bits // 8)


def test_trits_and_corrections_are_decoded_too(tmp_path: Path) -> None:
    path = packed(tmp_path, "atq", "atq_cnn", {"boost": 0.02})
    assert any(layer.quantizer.residual for layer in quantized_layers(load(path)[0]).values())
    for weights in ("narrow", "packed"):
        agrees(path, weights=weights)


def kinds(content: bytes) -> Counter[str]:
    graph = onnx.load_from_string(content).graph
    codes = [each for each in graph.initializer if each.name.endswith(".codes")]
    return Counter(onnx.TensorProto.DataType.Name(each.data_type) for each in codes)


@pytest.mark.parametrize(
    ("method", "opset", "kind"),
    [
        ("twn", 25, "INT2"), ("twn", 24, "INT4"), ("twn", 21, "INT4"), ("twn", 20, "INT8"), ("twn", 18, "INT8"),
        ("bwn", 25, "INT2"), ("ttq", 25, "UINT2"), ("ttq", 21, "UINT4"), ("ttq", 18, "UINT8"),
        ("int2", 25, "INT2"), ("int3", 25, "INT4"), ("int4", 25, "INT4"), ("int5", 25, "INT8"), ("int8", 25, "INT8"),
    ],
)  # fmt: skip
def test_codes_lie_in_the_narrowest_type_of_the_operator_set(
    tmp_path: Path, method: str, opset: int, kind: str
) -> None:
    content = agrees(packed(tmp_path, method, "atq_cnn"), opset=opset)
    assert kinds(content) == {kind: 4} and onnx.load_from_string(content).opset_import[0].version == opset


@pytest.mark.parametrize(
    ("method", "weights", "most"),
    [("twn", "packed", 1.05), ("bitnet", "packed", 1.05), ("int2", "narrow", 1.05), ("int4", "narrow", 1.05),
     ("int8", "narrow", 1.05), ("dorefa", "narrow", 1.05), ("twn", "narrow", 1.3)],
)  # fmt: skip
def test_the_file_shrinks_with_the_bits(tmp_path: Path, method: str, weights: str, most: float) -> None:
    geometry = {"width": 32, "channels": 1, "image_size": 28}
    export(convert(build("atq_cnn", 10, **geometry), method), {"model": "atq_cnn", "classes": 10, "method": method,
           **geometry}, tmp_path / "m")  # fmt: skip
    export_onnx(*load(tmp_path / "m"), tmp_path / "o", weights=weights)
    assert (tmp_path / "o").stat().st_size <= most * (tmp_path / "m").stat().st_size


def calibrated(folder: Path, method: str, activations: str) -> Path:
    """Write a network with folded normalisation and quantized activations."""
    model = convert(build("atq_cnn", 3, **SMALL).eval(), method, activation=activation_named(activations))
    for layer in quantized_layers(model).values():
        if isinstance(layer.activation, StaticUint8):
            layer.activation.use_range(torch.tensor(-1.5), torch.tensor(2.5))
    spec = {"model": "atq_cnn", "classes": 3, "method": method, "calibration": {"activations": activations}, **SMALL}
    export(model, spec, folder / "m")
    return folder / "m"


@pytest.mark.parametrize("method", ["int8", "int4", "int2", "twn", "ring", "ttq"])
@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_quantized_activations_are_written_in_full(tmp_path: Path, method: str, activations: str) -> None:
    content = agrees(calibrated(tmp_path, method, activations))
    used = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    by_runtime = method == "int8" and activations == "static"
    assert (used["QuantizeLinear"], used["Round"]) == ((4, 0) if by_runtime else (0, 4))
    assert used["ConvInteger"] + used["MatMulInteger"] == (4 if by_runtime else 0)


def test_factors_that_the_runtime_joins_are_written_on_request(tmp_path: Path) -> None:
    model, spec = load(calibrated(tmp_path, "int8", "static"))
    export_onnx(model, spec, tmp_path / "o", weights="qdq")
    used = Counter(node.op_type for node in onnx.load(tmp_path / "o").graph.node)
    assert (used["QuantizeLinear"], used["DequantizeLinear"], used["ConvInteger"]) == (4, 8, 0)


def test_a_bias_is_not_rounded() -> None:
    """Joined from dequantized factors, it would be a multiple of the product of both scales."""
    layer = nn.Sequential(nn.Conv2d(1, 1, 1))
    convert(layer.eval(), "int8", activation=activation_named("static"))
    layer[0].activation.use_range(torch.tensor(0.0), torch.tensor(255.0))
    layer[0].weight.data.fill_(127.0)
    layer[0].bias.data.fill_(0.25)
    x = torch.zeros(2, 1, 2, 2)
    assert session(onnx_bytes(layer, x))(x).unique().tolist() == [0.25]


def test_folded_normalisation_is_not_in_the_graph(tmp_path: Path) -> None:
    from bitq.models.fold import fold

    model = build("resnet20", 3, **SMALL).eval()
    fold(model)
    spec = {"model": "resnet20", "classes": 3, "method": "int4", "calibration": {"fold": True}, **SMALL}
    export(convert(model, "int4"), spec, tmp_path / "m")
    used = {node.op_type for node in onnx.load_from_string(agrees(tmp_path / "m")).graph.node}
    assert "BatchNormalization" not in used and "Conv" in used


def test_the_normalisation_inside_layers_is_written(tmp_path: Path) -> None:
    model = convert(build("atq_cnn", 3, **SMALL), "bitnet", norm=True)
    export(model, {"model": "atq_cnn", "classes": 3, "method": "bitnet", "norm": "layer", **SMALL}, tmp_path / "m")
    agrees(tmp_path / "m")


@pytest.mark.parametrize("count", [1, 5])
def test_the_batch_is_of_any_size(tmp_path: Path, count: int) -> None:
    model, spec = load(packed(tmp_path, "twn", "resnet20"))
    x = example_for(spec, count, seed=4)
    assert session(onnx_bytes(model, example_for(spec)))(x).shape == (count, 3)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = packed(tmp_path, "bitnet", "atq_cnn")
    assert agrees(path) == agrees(path)


class Foreign(nn.Module):
    """A user's own network; `change` is what it does to 3 channels of 8×8 pixels."""

    def __init__(self, change: Callable[[Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.change, self.conv, self.head = change, nn.Conv2d(3, 4, 3, padding="same"), nn.Linear(4, 2)
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        y = self.change(self.conv(x))
        for part in self.parts:
            y = part(y)
        return self.head(y.mean((2, 3)))


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "slices": lambda x: torch.cat([x[:, :2, 1:], x[:, 2:, :-1]], 1),
    "arithmetic": lambda x: (2 - x) * x / 3 - x.tanh(),
    "reshape": lambda x: x.reshape(x.size(0), 4, -1)[..., None],
    "pooling": lambda x: nn.functional.adaptive_avg_pool2d(x, (3, 5)),
    "hard": lambda x: nn.functional.hardswish(x) + nn.functional.hardsigmoid(x) + nn.functional.relu6(x),
    "transposed": lambda x: x.permute(0, 1, 3, 2).transpose(2, 3),
    "padded": lambda x: nn.functional.pad(x, (1, 0, 2, 1), value=0.5),
    "masked": lambda x: x.masked_fill(x == 0, 1.0).softmax(1).sum(1, keepdim=True) + x,
}


@pytest.mark.parametrize("form", FORMS)
def test_networks_of_ones_own_are_written(form: str) -> None:
    model = convert(Foreign(FORMS[form], nn.AvgPool2d(3, 2, 1)), "int4").eval()
    x = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = compare(model, session(onnx_bytes(model, x[:EXAMPLES])), x)
    assert found.largest_difference <= 1e-5 * max(1, found.largest_logit)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "function": (lambda: Foreign(lambda x: x.cumsum(1)), r"no form for cumsum \(cumsum\)"),
    "module": (lambda: Foreign(torch.relu, nn.Softshrink()), r"no form for Softshrink \(parts.0\)"),
    "argument": (lambda: Foreign(lambda x: nn.functional.gelu(x, approximate="tanh")), "gelu with approximate='tanh'"),
    "index": (lambda: Foreign(lambda x: x[:, :, ::2]), "the index"),
    "control flow": (lambda: Foreign(lambda x: x if x.sum() > 0 else -x), "Foreign cannot be traced"),
    "batch": (lambda: Foreign(lambda x: x.reshape(-1, 2, 8, 8)[:, :1] + torch.zeros(4, 1, 1)), "mixes the images"),
    "padding": (lambda: nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")), "padding_mode='reflect'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_onnx_cannot_say_is_refused_by_name(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UsageError, match=message):
        onnx_bytes(make().eval(), torch.zeros(EXAMPLES, 3, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"opset": 17}, "--opset 17 was given; allowed: 18 to 25"), ({"opset": 26}, "--opset 26"),
     ({"weights": "narow"}, "unknown form of weights 'narow'; allowed: narrow, packed, qdq. Did you mean 'narrow'")],
)  # fmt: skip
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        onnx_bytes(nn.Linear(2, 2), torch.zeros(2, 2), **options)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, spec = load(packed(tmp_path, "twn", "atq_cnn"))
    right = onnx_export.session
    monkeypatch.setattr(onnx_export, "session", lambda content: lambda x: right(content)(x) * 1.05)
    with pytest.raises(UsageError, match="though each call alone agrees with it"):
        export_onnx(model, spec, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_call_that_is_written_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitq.interop.onnx_calls import OnnxWriter

    def nearly(self: OnnxWriter, call: Call, input: Value, inplace: bool = False) -> None:
        self._simple(call, "LeakyRelu", input, alpha=1e-3)

    monkeypatch.setattr(OnnxWriter, "relu", nearly)
    with pytest.raises(Bug, match=r"computes relu1 otherwise than the network.*nothing was written"):
        export_onnx(*load(packed(tmp_path, "twn", "atq_cnn")), tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("method", ["bf16", "fp16", "bitnet"])
def test_rounding_decides_how_near_logits_have_to_be(tmp_path: Path, method: str) -> None:
    model, spec = load(packed(tmp_path, method, "atq_cnn"))
    x = example_for(spec, 7)
    with torch.inference_mode():
        effect = share(model(x), without_rounding(model)(x))
    assert effect > 2**-13 and tolerance(model, x) == pytest.approx(2 * effect, rel=0.1)
    assert tolerance(without_rounding(model), x) < 1e-4


def test_calls_bear_the_names_of_their_modules() -> None:
    model = build("resnet20", 3, **SMALL).eval()
    calls = traced(model, torch.zeros(EXAMPLES, 3, 32, 32)).calls
    layers = [call.where for call in calls if call.function == "layer"]
    assert layers == [name for name, each in model.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)]


def test_the_verb_says_size_and_nearness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bitq.verbs.export import export as verb

    path = packed(tmp_path, "twn", "atq_cnn")
    verb(path, None, "onnx", tmp_path / "o.onnx", None, 18, None, None, as_json=False)
    said = capsys.readouterr().out
    assert "opset 18" in said and "top-1 equal for 16" in said and "--weights packed" in said
    verb(path, tmp_path / "p.onnx", "onnx", None, None, None, "packed", None, as_json=True)
    assert json.loads(capsys.readouterr().out)["ratio"] < 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("x", None, "onxx", None, None, None, None, None), "unknown format 'onxx'.*Did you mean 'onnx'"),
     (("x", None, "onnx", None, None, None, None, None), "a file to write has to be given once"),
     (("x", Path("y"), "c", None, None, 21, None, None), "--opset is for --format onnx, but --format c was given")],
)  # fmt: skip
def test_the_verb_refuses_what_makes_no_sense(arguments: tuple[Any, ...], message: str) -> None:
    from bitq.verbs.export import export as verb

    with pytest.raises(UsageError, match=message):
        verb(Path(arguments[0]), *arguments[1:], as_json=False)
