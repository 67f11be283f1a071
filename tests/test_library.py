"""The library: what is promised to stay, loops of one's own, attention, tied weights, files, and bad input."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import bitq
from bitq.deploy import tensorfile
from bitq.deploy.export import export as export_of_grid
from bitq.errors import BitqError, DataError, UsageError
from bitq.library.attention import SeparateAttention
from bitq.measure.packed_file import evaluate_file
from bitq.models.registry import build
from bitq.quant.base import Quantizer
from bitq.quant.cast import FORMATS
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS

ROOT = Path(__file__).parents[1]
FLOAT_LEGACY = {"ring_legacy"}  # ships neither codes nor 16-bit floats


class Net(nn.Module):
    """A small network of a user's own, with a layer of every kind that has a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 6, padding_idx=0)
        self.mix = nn.Conv1d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.image = nn.Conv2d(8, 8, (3, 1), stride=(2, 1), padding=(1, 0), groups=2)
        self.out = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.mix(self.words(tokens).transpose(1, 2))).relu()
        return self.out(self.image(x[..., None]).relu().mean((2, 3)))


def tokens(count: int = 4) -> Tensor:
    return torch.randint(0, 12, (count, 9), generator=torch.Generator().manual_seed(1))


def train(model: nn.Module, x: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(bitq.parameter_groups(model, 1e-4), lr=0.05)
    model.train()
    for step in range(steps):
        bitq.set_progress(model, step / steps)
        functional.cross_entropy(model(x), torch.arange(len(x)) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()


def seeded(fresh: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return fresh()


# --- what is promised -------------------------------------------------------------------------------------------------


def test_the_public_names_stay() -> None:
    assert bitq.__all__ == [
        *("__version__", "calibrate", "coverage", "describe", "evaluate", "export", "fast", "load"),
        *("parameter_groups", "quantize", "set_progress", "to_c", "to_onnx"),
    ]
    assert all(getattr(bitq, name).__doc__ for name in bitq.__all__)
    assert [name for name in dir(bitq) if not name.startswith("__")] == bitq.__all__[1:]
    with pytest.raises(AttributeError, match="has no attribute 'quantise'; it offers"):
        bitq.quantise  # noqa: B018


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, bitq; dir(bitq); assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- loops of one's own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS.keys() - FLOAT_LEGACY - {"fp32"}))
def test_every_method_trains_ships_and_comes_back(method: str, tmp_path: Path) -> None:
    model = bitq.quantize(seeded(Net), method)
    train(model, tokens())
    bitq.export(model, tmp_path / "net.safetensors")
    loaded = bitq.load(tmp_path / "net.safetensors", into=Net())
    with torch.no_grad():
        assert torch.equal(model.eval()(tokens()), loaded(tokens()))
    layers = bitq.describe(tmp_path / "net.safetensors")["layers"]
    assert {name: layer["method"] for name, layer in layers.items()} == dict.fromkeys(quantized_layers(model), method)
    found = bitq.coverage(loaded, tokens())
    assert found == bitq.coverage(model, tokens())
    assert found.share_of_weights == found.share_of_multiplications == (0 if method in FORMATS else 1)


def test_progress_reaches_the_schedules() -> None:
    model = bitq.quantize(seeded(Net), "atq", settings={"schedule": "linear", "start_sparsity": 0.0, "sparsity": 0.5})
    shares = []
    for done in (0.0, 0.35, 0.7):
        bitq.set_progress(model, done)
        shares.append((model.mix.quantizer(model.mix.weight) == 0).float().mean().item())
    assert shares == pytest.approx([0.0, 0.25, 0.5], abs=0.01)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}])
def test_positions_stay_on_the_ring_whatever_the_optimizer(make: Any, options: dict[str, bool]) -> None:
    model = bitq.quantize(seeded(Net), "ring")
    optimizer = make(model.parameters(), lr=2.0, **options)
    for _ in range(3):  # no word to bitq in this loop
        functional.cross_entropy(model(tokens()), torch.arange(4) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    positions = model.mix.weight.detach().clone()
    model.eval()(tokens())
    assert not (positions.ge(0) & positions.le(1)).all()
    assert (model.mix.weight.ge(0) & model.mix.weight.le(1)).all()


def test_two_forward_passes_before_a_backward_pass_work() -> None:
    model = bitq.quantize(seeded(Net), "ring")
    (model(tokens()).sum() + model(tokens(6)).sum()).backward()
    assert model.mix.weight.grad is not None


@pytest.mark.parametrize(
    ("method", "settings"),
    [("ring", {}), ("parq", {}), ("irnet", {}), ("atq", {"boost": 0.1, "schedule": "cubic"})],
)
def test_the_own_loop_computes_what_the_engine_does(method: str, settings: dict[str, Any]) -> None:
    """The order of the engine's loop: progress, step, projection."""

    def fresh() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    x = torch.randn(4, 8)
    own = bitq.quantize(seeded(fresh), method, settings=settings)
    train(own, x, steps=4)
    bitq.set_progress(own, 1.0)
    engine = convert(seeded(fresh), method, settings)
    optimizer = torch.optim.SGD(bitq.parameter_groups(engine, 1e-4), lr=0.05)
    for step in range(4):
        for layer in quantized_layers(engine).values():
            layer.quantizer.progress = step / 4
        functional.cross_entropy(engine(x), torch.arange(4) % 3).backward()
        optimizer.step()
        with torch.no_grad():
            for layer in quantized_layers(engine).values():
                layer.quantizer.project_(layer.weight)
        optimizer.zero_grad()
    for (name, one), other in zip(own.state_dict().items(), engine.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.slow
def test_a_compiled_network_trains_and_an_exported_program_computes_the_same() -> None:
    def fresh() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    x, model = torch.randn(4, 8), bitq.quantize(seeded(fresh), "bitnet")
    plain = bitq.quantize(seeded(fresh), "bitnet")
    torch.compile(model, backend="aot_eager")(x).sum().backward()
    plain(x).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, plain[0].weight.grad)
    program = torch.export.export(plain.eval(), (x,))
    torch.testing.assert_close(program.module()(x), plain(x))


def test_scales_and_latents_do_not_decay() -> None:
    model = bitq.quantize(seeded(Net), "ring")
    names = {value: name for name, value in model.named_parameters()}
    decay, exempt = ({names[value] for value in group["params"]} for group in bitq.parameter_groups(model, 0.1))
    assert decay | exempt == set(names.values()) and not decay & exempt
    assert {"norm.weight", "out.bias"} <= decay
    assert {name for name in names.values() if name.endswith("quantizer.scale")} <= exempt


def test_a_part_called_teacher_decays_like_any_other() -> None:
    model = nn.ModuleDict({"teacher": bitq.quantize(nn.Sequential(nn.Linear(4, 4)), "twn")})
    assert [group["weight_decay"] for group in bitq.parameter_groups(model, 0.1)] == [0.1]


def test_the_row_of_padding_gets_no_gradient() -> None:
    model = bitq.quantize(seeded(Net), "twn")
    functional.cross_entropy(model(tokens()), torch.arange(4) % 3).backward()
    assert (model.words.weight.grad[0] == 0).all() and (model.words.weight.grad[1:] != 0).any()


def test_a_deep_copy_trains_apart() -> None:
    model = bitq.quantize(seeded(Net), "ring")
    twin = copy.deepcopy(model)
    train(twin, tokens())
    assert not torch.equal(twin.mix.weight, model.mix.weight)
    assert torch.equal(model.mix.weight, bitq.quantize(seeded(Net), "ring").mix.weight)


def test_quantizing_starts_from_the_float_weights() -> None:
    plain, model = seeded(Net), bitq.quantize(seeded(Net), "int8")
    assert torch.equal(plain.mix.weight, model.mix.weight)


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masks", [(), ("padding",), ("causal",), ("padding", "causal"), ("each head",)])
def test_separate_attention_computes_what_the_packed_one_does(
    batch_first: bool, bias: bool, need_weights: bool, masks: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first, kdim=6, vdim=4)
    batch, queries, keys = 3, 5, 5 if "causal" in masks else 7
    sizes = ((queries, 8), (keys, 6), (keys, 4))
    q, k, v = (torch.randn(batch, *size) if batch_first else torch.randn(size[0], batch, size[1]) for size in sizes)
    options: dict[str, Any] = {"need_weights": need_weights}
    if "padding" in masks:
        options["key_padding_mask"] = torch.arange(keys).expand(batch, -1) >= torch.tensor([[keys], [4], [2]])
    if "causal" in masks:
        options["attn_mask"] = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    if "each head" in masks:
        options["attn_mask"] = torch.randn(batch * 2, queries, keys)
    separate = SeparateAttention(packed)
    for one, other in zip(packed(q, k, v, **options), separate(q, k, v, **options), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("average", [False, True])
def test_separate_attention_takes_sequences_without_a_batch(average: bool) -> None:
    packed = nn.MultiheadAttention(8, 2)
    x = torch.randn(5, 8)
    separate = SeparateAttention(packed)
    options = {"average_attn_weights": average}
    for one, other in zip(packed(x, x, x, **options), separate(x, x, x, **options), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2))


@pytest.mark.parametrize("keep", [(), ("*.self_attn",), ("0.layers.0",), ("*.linear1", "*.linear2")])
def test_an_encoder_computes_the_same_in_its_fast_path(keep: tuple[str, ...]) -> None:
    model = bitq.quantize(seeded(encoder), "bitnet", keep=keep)
    x, padding = torch.randn(3, 5, 16), torch.arange(5).expand(3, -1) >= torch.tensor([[5], [4], [2]])
    slow = model[0](x, src_key_padding_mask=padding)[~padding]
    with torch.no_grad():
        fast = model.eval()[0](x, src_key_padding_mask=padding)[~padding]
    torch.testing.assert_close(slow, fast, atol=1e-5, rtol=1e-5)
    names = ("self_attn.q_proj", "self_attn.out_proj", "linear1", "linear2")
    expected = {f"0.layers.{i}.{name}" for i in range(2) for name in names if not _kept(f"0.layers.{i}.{name}", keep)}
    assert expected <= quantized_layers(model).keys()


def _kept(name: str, keep: tuple[str, ...]) -> bool:
    return any(re.match(glob.replace(".", r"\.").replace("*", ".*"), name) for glob in keep)


# --- tied weights and folding -----------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x)).mean(1)


@pytest.mark.parametrize("method", ["bitnet", "ring", "atq"])
def test_tied_weights_stay_tied_and_ship_once(method: str, tmp_path: Path) -> None:
    model = bitq.quantize(seeded(Tied), method)
    train(model, torch.arange(9).view(3, 3))
    one = bitq.export(model, tmp_path / "tied.safetensors").parts["codes"]
    two = bitq.export(bitq.quantize(Tied(tied=False), method), tmp_path / "two.safetensors").parts["codes"]
    assert two == 2 * one
    for fresh in (Tied(), Tied(tied=False)):
        loaded = bitq.load(tmp_path / "tied.safetensors", into=fresh)
        assert loaded.head.weight is loaded.words.weight
        assert torch.equal(loaded(torch.arange(9).view(3, 3)), model.eval()(torch.arange(9).view(3, 3)))


def test_a_tied_weight_becomes_a_latent_once() -> None:
    tied, alone = bitq.quantize(seeded(Tied), "ring"), bitq.quantize(seeded(lambda: Tied(tied=False)), "ring")
    assert torch.equal(tied.words.weight, alone.words.weight)


def test_of_tied_weights_both_are_kept_or_none() -> None:
    with pytest.raises(UsageError, match="words and head share one weight, but only one of them"):
        bitq.quantize(Tied(), "bitnet", keep="head")


def test_layers_that_share_a_bias_alone_have_weights_of_their_own(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        net[2].bias = net[0].bias
        return net

    model, x = bitq.quantize(fresh(), "bitnet"), torch.randn(4, 6)
    assert model[0].quantizer is not model[2].quantizer
    train(model, x)
    bitq.export(model, tmp_path / "net.safetensors")
    assert torch.equal(bitq.load(tmp_path / "net.safetensors", into=fresh())(x), model.eval()(x))


def test_an_attention_that_shares_its_weights_is_refused() -> None:
    net = nn.ModuleDict({"one": nn.MultiheadAttention(8, 2), "other": nn.MultiheadAttention(8, 2)})
    net["other"].in_proj_weight = net["one"].in_proj_weight
    with pytest.raises(UsageError, match=r"one shares a weight with another module.*keep=\['one'\]"):
        bitq.quantize(net, "twn")


def test_one_module_at_two_places_ships_once(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        layer = nn.Linear(6, 6)
        return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(6, 3))

    model, x = bitq.quantize(fresh(), "bitnet"), torch.randn(4, 6)
    train(model, x)
    bitq.export(model, tmp_path / "net.safetensors")
    assert not [name for name in tensorfile.read(tmp_path / "net.safetensors")[0] if name.startswith("2.")]
    assert torch.equal(bitq.load(tmp_path / "net.safetensors", into=fresh())(x), model.eval()(x))


def test_normalisation_is_folded_and_comes_back_folded(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        )

    x = torch.randn(8, 3, 4, 4)
    trained = fresh()
    for _ in range(3):
        trained(x)
    want = trained.eval()(x)
    model = bitq.quantize(trained, "int8", fold=True)
    assert (model(x) - want).abs().max() < 0.05
    bitq.export(model, tmp_path / "net.safetensors")
    loaded = bitq.load(tmp_path / "net.safetensors", into=fresh())
    assert torch.equal(loaded(x), model(x)) and not any(isinstance(m, nn.BatchNorm2d) for m in loaded.modules())


# --- calibration, coverage, files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"rounding": "adaptive"}, {"bias_correction": True, "activation_range": "mse"}]
)
def test_post_training_quantization_keeps_the_answers(options: dict[str, Any], tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))

    plain, x = seeded(fresh).eval(), torch.randn(64, 3, 4, 4)
    want = plain(x)
    model = bitq.quantize(copy.deepcopy(plain), "int8", activations="static")
    bitq.calibrate(model, [(x[:32], torch.zeros(32)), (x[32:], torch.zeros(32))], **options)
    assert 0 < (model(x) - want).abs().max() < 0.05
    bitq.export(model, tmp_path / "net.safetensors")
    loaded = bitq.load(tmp_path / "net.safetensors", into=fresh())
    assert torch.equal(loaded(x), model(x))
    score = bitq.evaluate(tmp_path / "net.safetensors", [(x, want.argmax(1))], into=fresh())
    assert score.percent > 90 and score.total == 64
    found = bitq.coverage(model, x)
    assert found.integer_multiplications == found.multiplications


def test_two_methods_share_a_network(tmp_path: Path) -> None:
    model = bitq.quantize(seeded(Net), "bitnet", keep=["words", "out"])
    bitq.quantize(model, "int8", keep=["mix", "image"], activations="none")
    assert model.mix.activation is not None and model.out.activation is None
    bitq.export(model, tmp_path / "net.safetensors")
    loaded = bitq.load(tmp_path / "net.safetensors", into=Net())
    assert torch.equal(loaded(tokens()), model.eval()(tokens()))
    bitq.export(loaded, tmp_path / "again.safetensors", packing="b8")
    methods = {n: layer["method"] for n, layer in bitq.describe(tmp_path / "again.safetensors")["layers"].items()}
    assert methods == {"words": "int8", "mix": "bitnet", "image": "bitnet", "out": "int8"}


def test_coverage_counts_what_no_layer_does() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.table = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 4))
            self.up = nn.ConvTranspose1d(4, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up((self.layer(x) @ self.table)[..., None])

    found = bitq.coverage(bitq.quantize(Own(), "twn", keep="up"), torch.randn(1, 8))
    assert (found.packed_weights, found.weights) == (64, 64 + 32 + 32)
    assert found.packed_multiplications == 64 and found.between_activations == 32
    assert {each.name: each.why for each in found.left} == {
        "table": "a parameter of no layer",
        "up": "kept: ConvTranspose1d is a module type without a rule (those with one: Conv1d, Conv2d, Linear, "
        "Embedding)",
    }


def test_a_network_of_the_grid_needs_nothing_else(tmp_path: Path) -> None:
    path, spec = tmp_path / "grid.safetensors", {"model": "resnet20", "classes": 3, "width": 4, "method": "twn"}
    model = convert(build("resnet20", 3, 4), "twn")
    export_of_grid(model, spec, path)
    x = torch.randn(2, 3, 32, 32)
    loaded = bitq.load(path)
    assert torch.equal(loaded(x), model.eval()(x))
    assert bitq.describe(path)["kind"] == "grid_network" and bitq.describe(path)["network"] == "resnet20"
    assert bitq.export(loaded, tmp_path / "again.safetensors").sha256 == bitq.export(loaded, path).sha256
    assert bitq.evaluate(path, [(x, loaded(x).argmax(1))]).correct == 2
    with pytest.raises(UsageError, match="leave `into` out"):
        bitq.load(path, into=Net())


def test_state_that_is_not_a_parameter_ships(tmp_path: Path) -> None:
    model = bitq.quantize(seeded(Net), "bitnet")
    train(model, tokens())
    bitq.export(model, tmp_path / "net.safetensors")
    loaded = bitq.load(tmp_path / "net.safetensors", into=Net())
    assert torch.equal(loaded.norm.running_var, model.norm.running_var)


class Pair(nn.Module):
    """A network of two inputs, which it takes as one pair."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.word, self.out = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        image, word = inputs
        return self.out((self.image(image) + self.word(word)).relu())


@pytest.mark.parametrize("rounding", ["nearest", "adaptive"])
@pytest.mark.parametrize("kind", [tuple, list])
def test_calibration_and_evaluation_take_pairs_of_inputs(kind: Any, rounding: Any, tmp_path: Path) -> None:
    plain, inputs = seeded(Pair).eval(), (torch.randn(32, 4), torch.randn(32, 6))
    want = plain(inputs)
    model = bitq.quantize(copy.deepcopy(plain), "int8", activations="static")
    bitq.calibrate(model, [(kind(inputs), want.argmax(1))], rounding=rounding)
    assert 0 < (model(inputs) - want).abs().max() < 0.05
    bitq.export(model, tmp_path / "net.safetensors")
    score = bitq.evaluate(tmp_path / "net.safetensors", [(kind(inputs), want.argmax(1))], into=Pair())
    assert score.percent > 90


# --- bad input --------------------------------------------------------------------------------------------------------


class OwnConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


class OwnAttention(nn.MultiheadAttention):
    pass


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *layers)


def static() -> nn.Module:
    return bitq.quantize(Net(), "int8", activations="static")


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: bitq.quantize(Net(), "bitnt"), "unknown method 'bitnt'.*Did you mean 'bitnet'"),
    (lambda: bitq.quantize(Net(), "twn", keep=["outt"]), "no layer matches 'outt'"),
    (lambda: bitq.quantize(Net(), "twn", keep="*"), "keep leaves it no layer"),
    (lambda: bitq.quantize(Net(), "lsq", settings={"bit": 3}), "has no setting 'bit'; allowed"),
    (lambda: bitq.quantize(Net(), "twn", activations="int8"), "unknown treatment of activations 'int8'"),  # type: ignore[arg-type]
    (
        lambda: bitq.quantize(Net(), "fp32", activations="static"),
        "fp32 quantizes nothing, but activations='static' was given; leave it out",
    ),
    (lambda: bitq.quantize(nn.Linear(4, 4), "twn"), "a single Linear was given; put it into a network"),
    (lambda: bitq.quantize(bitq.quantize(Net(), "twn"), "twn"), "words is quantized already"),
    (lambda: bitq.quantize(Net().bfloat16(), "twn"), "words: the weight is torch.bfloat16.*float32"),
    (lambda: bitq.quantize(Net(), "atq", settings={"budget": 0.3}), "budget is one share of zeros"),
    (
        lambda: bitq.quantize(Net(), "atq", settings={"boost": 0.1, "boost_by": "gradient"}),
        "give boost_by=distance here",
    ),
    (lambda: bitq.quantize(Net(), "ring_legacy"), "ships neither codes nor 16-bit floats"),
    (lambda: bitq.quantize(Net(), "twn", fold=True), "no batch normalisation follows"),
    (lambda: bitq.quantize(chain(nn.LSTM(8, 8)), "twn"), r"1: LSTM is a module type without a rule.*keep=\['1'\]"),
    (lambda: bitq.quantize(chain(nn.ConvTranspose2d(8, 8, 3)), "twn"), "ConvTranspose2d is a module type without"),
    (lambda: bitq.quantize(chain(nn.Conv3d(8, 8, 3)), "twn"), "Conv3d is a module type without a rule"),
    (lambda: bitq.quantize(chain(nn.EmbeddingBag(8, 8)), "twn"), "EmbeddingBag is a module type without a rule"),
    (lambda: bitq.quantize(chain(nn.Bilinear(8, 8, 8)), "twn"), "Bilinear is a module type without a rule"),
    (lambda: bitq.quantize(chain(OwnConv(8, 8, 3)), "twn"), "OwnConv is a Conv2d with a forward pass of its own"),
    (lambda: bitq.quantize(chain(OwnAttention(8, 2)), "twn"), "OwnAttention with a forward pass or keys of its own"),
    (lambda: bitq.quantize(chain(nn.MultiheadAttention(8, 2, add_bias_kv=True)), "twn"), "keys of its own has no rule"),
    (lambda: bitq.quantize(chain(nn.LazyLinear(8)), "twn"), "has no weights before its first input"),
    (lambda: bitq.quantize(chain(nn.Embedding(8, 8, max_norm=1.0)), "twn"), "Embedding with max_norm"),
    (
        lambda: bitq.quantize(chain(parametrizations.weight_norm(nn.Linear(8, 8))), "twn"),
        "computes its weight from others.*remove_parametrizations",
    ),
    (lambda: bitq.set_progress(bitq.quantize(Net(), "atq"), 1.5), "progress of the training=1.5 was given.*share"),
    (lambda: bitq.set_progress(Net(), 0.5), r"no quantized layer; call bitq.quantize"),
    (lambda: bitq.parameter_groups(Net(), -1.0), "weight_decay=-1.0 was given"),
    (lambda: bitq.calibrate(bitq.quantize(Net(), "int8"), [tokens()]), "nothing would be calibrated"),
    (lambda: bitq.calibrate(bitq.quantize(Net(), "int8", activations="static"), []), "data yields no batch"),
    (lambda: bitq.calibrate(bitq.quantize(Net(), "ring", activations="static"), [tokens()]), "trains something else"),
    (lambda: bitq.calibrate(Net(), [tokens()]), "no quantized layer"),
    (
        lambda: bitq.calibrate(static(), [tokens()], rounding="adaptiv"),  # type: ignore[arg-type]
        "rounding 'adaptiv' was given; allowed: 'nearest' or 'adaptive'",
    ),
    (
        lambda: bitq.calibrate(static(), [tokens()], activation_range="max"),  # type: ignore[arg-type]
        "activation_range 'max' was given; allowed: 'minmax', 'percentile' or 'mse'",
    ),
    (lambda: bitq.calibrate(static(), [{"x": tokens()}]), "a batch begins with dict; give tensors, or pairs"),  # type: ignore[list-item]
    (lambda: bitq.calibrate(static(), [()]), "a batch begins with NoneType; give tensors, or pairs"),  # type: ignore[list-item]
    (lambda: bitq.calibrate(static(), [([tokens()] * 3, 0)]), "begins with list of 3; .* inputs are a tensor or two"),  # type: ignore[list-item]
    (
        lambda: bitq.evaluate("net.safetensors", [], device="gpu"),
        "^device=gpu was given; allowed: auto, cpu, cuda, cuda:N.$",
    ),
    (lambda: bitq.export(Net(), "/nowhere/net.safetensors"), "no quantized layer"),
    (
        lambda: bitq.export(bitq.quantize(Net(), "int8", activations="static"), "/nowhere/net"),
        "static activations of mix have no range yet; call bitq.calibrate",
    ),
    (lambda: bitq.load("/nowhere/net.safetensors"), "does not exist"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_refused_in_one_sentence(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(BitqError, match=message) as refused:
        call()
    assert str(refused.value).endswith((".", "?")) and "\n" not in str(refused.value)


def test_evaluating_on_a_missing_gpu_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="^device=cuda was given, but no CUDA device is visible; use device=cpu.$"):
        bitq.evaluate("net.safetensors", [], device="cuda")


def test_full_precision_may_be_told_to_leave_activations_alone() -> None:
    assert not quantized_layers(bitq.quantize(Net(), "fp32", activations="none"))


class Foldable(nn.Module):
    """A trained network with something of all that quantizing changes: a normalisation, an attention, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.norm, self.mix = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), Mix()

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.norm(self.image(x)).relu().flatten(2).transpose(1, 2))


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.one, self.two = nn.MultiheadAttention(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(self.attention(x, x, x)[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bitnet", "keep": "clasifier"}, "no layer matches"),
        ({"method": "lsq", "settings": {"bit": 3}}, "has no setting"),
        ({"method": "ring_legacy"}, "ships neither codes"),
        ({"method": "ring", "keep": "mix.one"}, "share one weight"),
        ({"method": "bitnet", "keep": "*"}, "keep leaves it no layer"),
        ({"method": "fp32", "activations": "static"}, "quantizes nothing"),
    ],
)
def test_a_refusal_leaves_the_network_as_it_was(options: dict[str, Any], message: str) -> None:
    model, x = seeded(Foldable), torch.randn(3, 1, 5, 5)
    model(x)
    calls: list[nn.Module] = []
    handle = model.image.register_forward_hook(lambda module, *_: calls.append(module))
    modules, twin = list(model.named_modules()), copy.deepcopy(model.eval())
    with pytest.raises(UsageError, match=message):
        bitq.quantize(model, **options, fold=True)
    assert list(model.named_modules()) == modules and str(model) == str(twin)
    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in twin.state_dict().items()
    }
    assert torch.equal(model(x), twin(x)) and model.mix.two.weight is model.mix.one.weight
    handle.remove()
    calls.clear()
    bitq.quantize(model, "ring", fold=True)(x)
    assert not calls
    assert torch.equal(model(x), bitq.quantize(twin, "ring", fold=True)(x))


def test_a_layer_that_no_input_reaches_is_named() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(UsageError, match=r"no input reaches idle in eval mode; keep it .*keep=\['idle'\]"):
        bitq.calibrate(bitq.quantize(Idle(), "int8", activations="static"), [torch.randn(2, 4)])


def written(tmp_path: Path, method: str = "twn", **changes: Any) -> Path:
    """A packed file, with some of its metadata changed."""
    path = tmp_path / "net.safetensors"
    bitq.export(bitq.quantize(seeded(Net), method), path)
    tensors, meta = tensorfile.read(path)
    tensorfile.write(path, tensors, meta | changes)
    return path


def test_a_file_of_an_own_network_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"holds the weights of a tests.test_library.Net.*bitq.load\(path, into=model\)"
    ):
        bitq.load(written(tmp_path))


def test_the_command_line_says_how_to_measure_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds a tests.test_library.Net.*bitq.evaluate\(path, data, into=model\)"):
        evaluate_file(written(tmp_path), None, None, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"newer bitq \(file version 2, this one reads 1\)"),
        ({"kind": "checkpoint"}, "holds no network"),
        ({"layers": {}}, "words.weight: the file holds nothing, the given network"),
        ({"layers": {"words": {"shape": [12, 6]}}}, "layers.words"),
        ({"separated": ["mix"]}, "mix: the file holds attention, the given network Conv1d"),
        ({"folded": ["mix"]}, "mix: the file holds a folded batch normalisation, the given network Conv1d"),
        ({"aliases": {"norm.weight": "gone"}, "surplus": 1}, "surplus"),
    ],
)
def test_damaged_metadata_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        bitq.load(written(tmp_path, **changes), into=Net())


def test_state_that_the_file_would_round_is_refused(tmp_path: Path) -> None:
    model = bitq.quantize(seeded(Net), "twn")
    model.register_buffer("table", torch.zeros(2, dtype=torch.float64))
    with pytest.raises(UsageError, match="table is torch.float64, but floats ship in 32 bits"):
        bitq.export(model, tmp_path / "net.safetensors")


def test_a_network_of_other_sizes_is_refused(tmp_path: Path) -> None:
    path, other = written(tmp_path), Net()
    other.out = nn.Linear(8, 4)
    with pytest.raises(
        DataError, match=r"out: the file holds a quantized layer of \(3, 8\), the given network Linear of"
    ):
        bitq.load(path, into=other)
    other = Net()
    other.norm = nn.BatchNorm1d(8, affine=False)
    with pytest.raises(DataError, match=r"norm.bias: the file holds \(8,\), the given network nothing"):
        bitq.load(path, into=other)


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not match its own digest"):
        bitq.load(path, into=Net())


def test_data_of_another_form_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    for data, message in (([], "no batch"), ([tokens()], "pairs of inputs and labels")):
        with pytest.raises(UsageError, match=message):
            bitq.evaluate(path, data, into=Net())  # type: ignore[arg-type]


def test_every_method_that_projects_is_projected() -> None:
    """The hook looks at the class; a quantizer that projects by other means would escape it."""
    projecting = {name for name, each in METHODS.items() if each.weight.project_ is not Quantizer.project_}
    assert projecting == {"ring", "ring_legacy", "atq"}
