"""Export, load, audit: the file computes what memory computes, forged and mismatched files are refused by name."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitq.deploy import tensorfile
from bitq.deploy.audit import audit, audit_file, without_residual
from bitq.deploy.blueprint import spec_of
from bitq.deploy.evaluate import evaluate, full_precision
from bitq.deploy.export import export, float_bytes, packed_layers
from bitq.deploy.load import load
from bitq.deploy.pack import PACKINGS
from bitq.deploy.stored import Stored
from bitq.deploy.verify import verify
from bitq.errors import Bug, DataError, UsageError
from bitq.io import sha256_file
from bitq.machine import machine
from bitq.measure.packed_file import evaluate_file
from bitq.models.registry import build, names
from bitq.quant.base import Codes, Quantizer
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS, Method, make_quantizer
from bitq.train.network import build_network
from tests.support import EACH_METHOD, small_run

WIDTH = 7  # 7·7·9 = 441 weights: no multiple of 4, of 5 or of 8
LOWBIT = [name for name in METHODS if make_quantizer(name, torch.ones(2, 3), {}).levels]


def make(
    method: str = "bitnet",
    model: str = "resnet18",
    width: int = WIDTH,
    keep: tuple[str, ...] = ("conv1",),
    **extra: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """A network that has seen one batch, and its spec."""
    spec = {"model": model, "classes": 3, "width": width, "method": method, "keep": list(keep)} | extra
    network = build(model, 3, width=width, channels=extra.get("channels", 3))
    convert(network, method, extra.get("settings", {}), keep, norm=extra.get("norm") == "layer")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # initially zero at the end of each branch: no weight in it would matter
    network.to(memory_format=torch.channels_last)
    network.train()(images(channels=extra.get("channels", 3)))
    return network, spec


def images(count: int = 4, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, size, size, generator=generator).to(memory_format=torch.channels_last)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    export(*make(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("method", EACH_METHOD)
@pytest.mark.parametrize("variation", [{}, {"keep": ()}, {"norm": "layer"}, {"channels": 1}], ids=str)
def test_a_file_computes_what_memory_computes(tmp_path: Path, method: str, variation: dict[str, Any]) -> None:
    model, spec = make(method, **variation)
    export(model, spec, tmp_path / "m")
    batch = images(channels=variation.get("channels", 3))
    stored = verify(model, tmp_path / "m", batch, "bf16")
    assert model.training and not stored.training
    assert load(tmp_path / "m")[1].items() >= spec.items()
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), stored(batch))
    assert all(isinstance(layer.quantizer, Stored) for layer in packed_layers(stored).values())


@pytest.mark.parametrize("name", names())
def test_every_network_is_exported_and_read_back(tmp_path: Path, name: str) -> None:
    model, spec = make(model=name, width=8, keep=())
    exported = export(model, spec, tmp_path / "m")
    verify(model, tmp_path / "m", images(2), "bf16")
    report = audit_file(tmp_path / "m")
    assert report.coverage == 1 and exported.parts["codes"] < 4 * report.packed_weights / 15  # 1.6 bits for 32


@pytest.mark.parametrize("packing", [packing for packing in PACKINGS if packing != "b1"])
def test_every_packing_holds_the_same_network(tmp_path: Path, packing: str) -> None:
    model, spec = make()
    export(model, spec, tmp_path / "m", packing)
    verify(model, tmp_path / "m", images())
    bits = 1.6 if packing == "base3" else int(packing[1:])
    # The three values and the scale are 128 bits more per layer.
    for layer in audit_file(tmp_path / "m").layers:
        assert bits <= layer.bits_per_weight < bits + (128 + 8) / layer.weights


def test_a_loaded_network_is_exported_to_the_same_file(tmp_path: Path) -> None:
    first = export(*make(), tmp_path / "first", "b2")
    again = export(*load(tmp_path / "first"), tmp_path / "again")
    assert (again, again.sha256) == (first, sha256_file(tmp_path / "first"))


def test_a_loaded_network_shares_no_state_between_its_modules(packed: Path) -> None:
    stored, _ = load(packed)
    stored.train()(images())
    addresses = [tensor.data_ptr() for tensor in (*stored.parameters(), *stored.buffers()) if tensor.numel()]
    assert len(set(addresses)) == len(addresses)
    assert {int(stored.get_buffer(name)) for name in stored.state_dict() if "num_batches" in name} == {1}


def test_the_parts_add_up_to_the_file(tmp_path: Path) -> None:
    model, spec = make()
    exported = export(model, spec, tmp_path / "m")
    assert sum(exported.parts.values()) == exported.file_bytes == (tmp_path / "m").stat().st_size
    kept = [name for name, _ in model.named_parameters() if name.split(".")[0] == "conv1" or "bn" in name]
    assert exported.parts["float_parameters"] >= 4 * sum(model.get_parameter(name).numel() for name in kept)
    assert exported.parts["values_scales"] == 16 * len(packed_layers(model))


def test_the_float_file_is_the_one_that_fp32_would_write(tmp_path: Path) -> None:
    plain, spec = make("fp32", keep=())
    exported = export(plain, spec, tmp_path / "m")
    for method in LOWBIT:
        assert float_bytes(*make(method)) == exported.file_bytes == float_bytes(plain, spec)


def test_latent_weights_and_counters_are_not_in_the_file(packed: Path) -> None:
    tensors, _ = tensorfile.read(packed)
    assert "layer1.0.conv1.codes" in tensors and "conv1.weight" in tensors
    assert not [name for name in tensors if "quantizer" in name or "num_batches" in name]
    assert "layer1.0.conv1.weight" not in tensors


def test_a_packing_too_small_for_the_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'b1' holds 2 levels, not 3; use 'base3'"):
        export(*make(), tmp_path / "m", "b1")
    assert not list(tmp_path.iterdir())


def test_a_spec_that_builds_no_network_is_refused_before_writing(tmp_path: Path) -> None:
    model, spec = make()
    with pytest.raises(UsageError, match="width: .*less than or equal to 1024"):
        export(model, spec | {"width": 10**9}, tmp_path / "m")
    assert not list(tmp_path.iterdir())


# Damage and forgery. A forged file has a correct digest; what it says is not so.


def test_damage_anywhere_is_refused(packed: Path) -> None:
    content, chance = packed.read_bytes(), random.Random(0)
    for _ in range(60):
        at = chance.randrange(len(content))
        packed.write_bytes(content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :])
        with pytest.raises(DataError, match="model.safetensors"):
            load(packed)


Forgery = Callable[[dict[str, Tensor], dict[str, Any]], Any]
LAYER = "layer2.0.conv1"

FORGERIES: dict[str, tuple[Forgery, str]] = {
    "wider network": (lambda t, m: m["spec"].update(width=8), "file .*, model "),
    "other network": (lambda t, m: m["spec"].update(model="vgg16"), "no layer to quantize"),
    "unknown network": (lambda t, m: m["spec"].update(model="resnet19"), "cannot be built: unknown model 'resnet19'"),
    "unknown method": (lambda t, m: m["spec"].update(method="magic"), "unknown method 'magic'"),
    "other method": (lambda t, m: m["spec"].update(method="twn"), r"3, 'Int8Activation'\), model .*3, None"),
    "float method": (lambda t, m: m["spec"].update(method="fp32"), "model nothing"),
    "unknown setting": (lambda t, m: m["spec"].update(settings={"x": 1}), "has no setting 'x'"),
    "wrong setting": (lambda t, m: m["spec"].update(method="twn", settings={"threshold": []}), "model.safetensors"),
    "huge width": (lambda t, m: m["spec"].update(width=2**40), "spec.width"),
    "huge classes": (lambda t, m: m["spec"].update(classes=2**40), "spec.classes"),
    "large width": (lambda t, m: m["spec"].update(width=1024, classes=100_000), "file .*, model "),
    "no classes": (lambda t, m: m["spec"].pop("classes"), "spec.classes"),
    "other classes": (lambda t, m: m["spec"].update(classes=4), r"fc: file \(\(3, 56\), .* model \(\(4, 56\)"),
    "a checkpoint": (lambda t, m: m.update(kind="checkpoint"), "kind"),
    "newer version": (lambda t, m: m.update(version=2), "version"),
    "layer not listed": (lambda t, m: m["layers"].pop(LAYER), rf"{LAYER}.codes: file .*, model nothing"),
    "foreign layer": (lambda t, m: m["layers"].update(x=m["layers"][LAYER]), "x: file .*, model nothing"),
    "other levels": (lambda t, m: m["layers"][LAYER].update(levels=2), rf"{LAYER}: file \(.*, 2, .*, 3, "),
    "small packing": (lambda t, m: m["layers"][LAYER].update(packing="b1"), "cannot hold 3 levels"),
    "unknown packing": (lambda t, m: m["layers"][LAYER].update(packing="zip"), "cannot hold 3 levels"),
    "no packing": (lambda t, m: m["layers"][LAYER].update(packing=None), "go together"),
    "other packing": (lambda t, m: m["layers"][LAYER].update(packing="b2"), rf"{LAYER}.codes: file"),
    "negative shape": (lambda t, m: m["layers"][LAYER].update(shape=[-1]), "shape"),
    "per-tap scale": (
        lambda t, m: t.update({f"{LAYER}.scale": torch.ones(14, 7, 3, 3)}),
        rf"{LAYER}.scale: file \(14, 7, 3, 3\) torch.float32, model \(14, 1, 1, 1\) torch.float32",
    ),
    "no scale": (lambda t, m: t.pop(f"{LAYER}.scale"), rf"{LAYER}.scale: file nothing, model"),
    "more values": (lambda t, m: t.update({f"{LAYER}.values": torch.ones(4)}), rf"{LAYER}.values: file \(4,\)"),
    "half precision": (lambda t, m: t.update({"bn1.bias": torch.zeros(7).half()}), "bn1.bias: file .*float16"),
    "short codes": (lambda t, m: t.update({f"{LAYER}.codes": torch.zeros(9).byte()}), rf"{LAYER}.codes: file \(9,\)"),
    "impossible codes": (lambda t, m: t[f"{LAYER}.codes"].fill_(243), rf"{LAYER}.codes: a byte .* at most 242"),
    "missing leaf": (lambda t, m: t.pop("bn1.running_mean"), "bn1.running_mean: file nothing"),
    "surplus leaf": (lambda t, m: t.update(extra=torch.ones(1)), "extra: file .* model nothing"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_files_are_refused_by_the_leaf_that_is_wrong(packed: Path, forgery: str) -> None:
    forge, message = FORGERIES[forgery]
    tensors, meta = tensorfile.read(packed)
    forge(tensors, meta)
    tensorfile.write(packed, tensors, meta)
    with pytest.raises(DataError, match=message) as caught:
        load(packed)
    assert str(caught.value).startswith(str(packed))


# Verification: file and memory that differ anywhere.


DIFFERENCES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "packed weight": (lambda m: m.layer1[0].conv1.weight.data.neg_(), "layer1.0.conv1.weight differs"),
    "float weight": (lambda m: m.conv1.weight.data.mul_(2), "conv1.weight differs"),
    "statistics": (lambda m: m.bn1.running_mean.add_(1), "bn1.running_mean differs"),
    "arithmetic": (lambda m: setattr(m.layer2[0].conv1, "activation", None), "in fp32, first after layer2.0.conv1"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_verification_names_the_first_difference(tmp_path: Path, difference: str) -> None:
    model, spec = make()
    export(model, spec, tmp_path / "m")
    change, message = DIFFERENCES[difference]
    change(model)
    with pytest.raises(Bug, match=message):
        verify(model, tmp_path / "m", images(), "bf16")


def test_a_difference_of_one_bit_is_seen_in_fp32(tmp_path: Path) -> None:
    model, spec = make("ttq", keep=())
    export(model, spec, tmp_path / "m")
    scale = model.get_parameter("layer4.1.conv2.quantizer.wp")
    scale.data.copy_(torch.nextafter(scale.data, scale.data + 1))
    with pytest.raises(Bug, match="layer4.1.conv2.weight"):
        verify(model, tmp_path / "m", images())


# The audit, and quantizers that cheat.


@pytest.mark.parametrize("method", LOWBIT)
def test_the_audit_counts_what_is_there(tmp_path: Path, method: str) -> None:
    model, spec = make(method)
    exported = export(model, spec, tmp_path / "m")
    report = audit_file(tmp_path / "m")
    assert audit(load(tmp_path / "m")[0], exported.file_bytes) == audit(model, exported.file_bytes) == report
    for layer in report.layers:
        quantized = packed_layers(model)[layer.name]
        weight = quantized.quantizer.eval()(quantized.weight).detach()
        codes = quantized.quantizer.codes(quantized.weight)
        groups = without_residual(weight, codes).reshape(codes.scale.numel(), -1)
        assert layer.values_per_scale == max(len(group.unique()) for group in groups) <= layer.levels
        assert layer.zeros == pytest.approx(1 - weight.count_nonzero().item() / weight.numel(), abs=1e-6)
    plain = make("fp32", keep=())[0]
    convolutions = [m.weight.numel() for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert report.packed_weights + report.float_weights == sum(convolutions)
    assert report.float_weights == 7 * 27 and report.coverage == pytest.approx(1 - 189 / sum(convolutions))
    assert report.bits_per_packed_weight == pytest.approx(
        8 * sum(exported.parts[part] for part in ("codes", "values_scales", "residuals")) / report.packed_weights
    )
    count = sum(parameter.numel() for parameter in plain.parameters())
    assert report.bits_per_parameter == pytest.approx(8 * exported.file_bytes / count)


def test_a_float_network_has_no_bit_width(tmp_path: Path) -> None:
    export(*make("fp32", keep=()), tmp_path / "m")
    report = audit_file(tmp_path / "m")
    assert report.layers == () and report.coverage == 0 and report.bits_per_packed_weight is None
    assert report.bits_per_parameter > 32


class Channelwise(Quantizer):
    """An honest one: four levels, one scale per output channel."""

    levels = 4

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codes(weight)
        return codes.values[codes.index.int()], codes.scale

    def codes(self, weight: Tensor) -> Codes:
        scale = weight.detach().flatten(1).abs().amax(1).reshape(-1, *[1] * (weight.dim() - 1))
        index = (weight.detach() / scale * 1.5 + 1.5).round().clamp(0, 3).to(torch.uint8)
        return Codes(index, torch.tensor([-1.5, -0.5, 0.5, 1.5]), scale / 1.5)


class Soft(Channelwise):
    """Ships four levels, evaluates with continuous weights."""

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.tanh(), weight.new_ones(())


class OffGrid(Channelwise):
    """Four levels in evaluation, but not the four that it ships."""

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        unscaled, scale = super().factors(weight)
        return -unscaled, scale


class PerTap(Channelwise):
    """A scale for every tap of every kernel: any tensor at all fits such codes."""

    def codes(self, weight: Tensor) -> Codes:
        return Codes(torch.full(weight.shape, 3, dtype=torch.uint8), super().codes(weight).values, weight.detach())


class MoreValues(Channelwise):
    """Eight values under the name of four."""

    def codes(self, weight: Tensor) -> Codes:
        codes = super().codes(weight)
        return Codes(codes.index, torch.arange(8.0), codes.scale)


class FloatMethod(Quantizer):
    """A float method with a parameter of its own: no bit width, everything ships."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.slope = nn.Parameter(weight.new_ones(()))

    def factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return (weight * self.slope).tanh(), weight.new_ones(())


def test_one_scale_per_channel_is_packed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "channelwise", Method(Channelwise))
    model, spec = make("channelwise")
    export(model, spec, tmp_path / "m")
    verify(model, tmp_path / "m", images(), "bf16")
    layer = audit_file(tmp_path / "m").layers[0]
    assert layer.values_per_scale == 4 and layer.bits_per_weight == 8 * (111 + 16 + 28) / 441


def test_float_methods_ship_as_floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "float_method", Method(FloatMethod))
    model, spec = make("float_method")
    nn.init.constant_(model.get_parameter("fc.quantizer.slope"), 2.0)
    export(model, spec, tmp_path / "m")
    verify(model, tmp_path / "m", images())
    assert audit_file(tmp_path / "m").layers == () and isinstance(
        quantized_layers(load(tmp_path / "m")[0])["fc"].quantizer, FloatMethod
    )


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (Soft, "fc: .* distinct weights under one scale, more than the 4 levels it declares"),
        (OffGrid, "fc: the weight used in evaluation is not the one that ships"),
        (PerTap, r"fc: ships scales \(3, 56\) torch.float32; its 4 levels allow \(\) or \(3, 1\)"),
        (MoreValues, r"fc: declares 4 levels, but ships values \(8,\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_quantizers_that_cheat_are_found(cheat: type[Quantizer], message: str) -> None:
    model, _ = make("fp32", keep=())
    keep = [name for name, _ in model.named_modules() if name != "fc"]
    METHODS["cheat"] = Method(cheat)
    try:
        convert(model, "cheat", keep=keep)
    finally:
        del METHODS["cheat"]
    with pytest.raises(Bug, match=message):
        audit(model, 1)


def test_a_soft_network_does_not_pass_as_its_packed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "soft", Method(Soft))
    model, spec = make("soft")
    export(model, spec, tmp_path / "m")
    with pytest.raises(Bug, match="layer1.0.conv1.weight differs"):
        verify(model, tmp_path / "m", images())


# Evaluation.


class Constant(nn.Module):
    """Says class 1 whatever it sees, and notes the circumstances."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = (self.training, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled())
        return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)


def test_accuracy_counts_the_last_partial_batch_too() -> None:
    model = Constant()
    with torch.autocast("cpu", torch.bfloat16):
        score = evaluate(model, [(images(3), torch.tensor([1, 0, 1])), (images(1), torch.tensor([0]))])
    assert (score.correct, score.total, score.percent, score.finite) == (2, 4, 50.0, True)
    assert model.seen == (False, False, False) and model.training


def test_logits_that_are_not_finite_are_reported() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    nn.init.constant_(head.get_parameter("1.bias"), float("nan"))
    assert not evaluate(head, [(images(2), torch.tensor([0, 1]))]).finite


def test_a_file_with_logits_that_are_not_finite_has_no_accuracy(tmp_path: Path) -> None:
    run = small_run("twn")
    network = build_network(run, machine("cpu"), tmp_path)
    nn.init.constant_(network.get_parameter("bn1.bias"), float("nan"))
    export(network, spec_of(run), tmp_path / "m")
    with pytest.raises(DataError, match="answers with NaN or infinite logits, so it has no accuracy"):
        evaluate_file(tmp_path / "m", None, None, "cpu")


def test_full_precision_is_given_back() -> None:
    kernels = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [kernel.fp32_precision for kernel in kernels]
    with full_precision():
        assert [kernel.fp32_precision for kernel in kernels] == ["ieee", "ieee"]
    assert [kernel.fp32_precision for kernel in kernels] == before


def test_a_pointwise_convolution_does_not_depend_on_the_strides_it_has_twice() -> None:
    # A 1×1 kernel is contiguous in either memory format, and the backend may choose its algorithm by the strides: a
    # network in memory and its file then differ in the last bit, as ResNet-18's third downsampling once did.
    layer = convert(nn.Sequential(nn.Conv2d(128, 256, 1, stride=2, bias=False)), "fp32", norm=True)[0].eval()
    x = torch.randn(4, 128, 32, 32, generator=torch.Generator().manual_seed(0))
    weight, outputs = layer.weight.detach(), []
    for strides in ((128, 1, 1, 1), (128, 1, 128, 128)):
        layer.weight = nn.Parameter(weight.as_strided(weight.shape, strides))
        outputs.append(layer(x))
    assert torch.equal(*outputs)
