"""Networks of torchvision and timm, and a transformer: quantized, trained a step, exported, loaded, equal."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import bitq
from bitq.deploy.export import packed_layers

CLASSES, BATCH, PIXELS = 5, 4, 64
# Random weights, the smallest of each family; the larger ones are marked slow.
QUICK = ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small")
SLOW = (
    *("mnasnet0_5", "resnet18", "regnet_y_400mf", "efficientnet_b0", "googlenet", "densenet121", "convnext_tiny"),
    *("resnext50_32x4d", "alexnet"),
)


def of_torchvision(name: str) -> Callable[[], nn.Module]:
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(PIXELS, 16, 2, 4, 32, 64, num_classes=CLASSES)


def of_timm(name: str) -> Callable[[], nn.Module]:
    size = {"img_size": PIXELS} if name.startswith("vit") else {}
    return lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **size)


class Transformer(nn.Module):
    """A language model of torch's own encoder, its head tied to its table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 20)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(tokens))).mean(1)


def images() -> Tensor:
    return torch.randn(BATCH, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))


def check(fresh: Callable[[], nn.Module], x: Tensor, method: str, path: Path, keep: tuple[str, ...] = ()) -> nn.Module:
    """Quantize, train a step, export, load and compare; return the network that was loaded."""
    torch.manual_seed(0)
    model = bitq.quantize(fresh(), method, keep=keep)
    optimizer = torch.optim.SGD(bitq.parameter_groups(model, 1e-4), lr=0.01)
    bitq.set_progress(model, 0.5)
    nn.functional.cross_entropy(model.train()(x), torch.arange(len(x))).backward()
    before = [value.detach().clone() for value in model.parameters()]
    optimizer.step()
    assert any(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    written = bitq.export(model, path)
    loaded = bitq.load(path, into=fresh())
    with torch.no_grad():
        ours, theirs = model.eval()(x), loaded(x)
    assert ours.isfinite().all() and torch.equal(ours, theirs)
    assert written.file_bytes == path.stat().st_size == sum(written.parts.values())
    return loaded


def check_coverage(model: nn.Module, x: Tensor, of_weights: float = 1.0) -> None:
    found = bitq.coverage(model, x)
    assert found.share_of_weights >= of_weights, str(found)
    of_left = sum(each.multiplications for each in found.left)
    assert found.packed_multiplications + found.between_activations + of_left == found.multiplications


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    methods = ("bitnet", "ttq", "ring", "lsq", "int4", "atq", "parq")  # neighbours in the list differ
    method = methods[[*QUICK, *SLOW].index(name) % len(methods)]
    loaded = check(of_torchvision(name), images(), method, tmp_path / "net.safetensors")
    assert packed_layers(loaded).keys() == {
        path for path, module in of_torchvision(name)().named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    check_coverage(loaded, images())


@pytest.mark.parametrize("method", ["bitnet", "ring", "int8"])
def test_a_vision_transformer_of_torchvision(method: str, tmp_path: Path) -> None:
    loaded = check(vision_transformer, images(), method, tmp_path / "net.safetensors")
    check_coverage(loaded, images(), of_weights=0.95)  # all but the table of positions, which nothing multiplies
    assert [each.name for each in bitq.coverage(loaded, images()).left] == ["encoder.pos_embedding"]


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_networks_of_timm(name: str, tmp_path: Path) -> None:
    loaded = check(of_timm(name), images(), "bitnet", tmp_path / "net.safetensors")
    check_coverage(loaded, images(), of_weights=0.99)


@pytest.mark.parametrize("method", ["bitnet", "ring", "lsq", "bf16"])
def test_a_transformer_with_a_tied_head(method: str, tmp_path: Path) -> None:
    tokens = torch.randint(1, 20, (BATCH, 7), generator=torch.Generator().manual_seed(0))
    tokens[:, -2:] = 0
    loaded = check(Transformer, tokens, method, tmp_path / "net.safetensors")
    if method != "bf16":
        assert loaded.head.quantizer is loaded.words.quantizer
        check_coverage(loaded, tokens)


def test_layers_whose_weight_is_read_by_others_are_refused() -> None:
    # torchvision's Swin hands the weights of qkv and proj to a function of its own.
    swin = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=CLASSES)
    model = bitq.quantize(swin, "bitnet")
    with pytest.raises(bitq.errors.UsageError, match=r"features.1.0.attn.qkv and 3 more is read .* without a call"):
        model(images())


def test_they_pass_when_they_are_kept(tmp_path: Path) -> None:
    def fresh() -> nn.Module:
        return torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2], num_classes=CLASSES)

    loaded = check(fresh, images(), "bitnet", tmp_path / "net.safetensors", keep=("*.attn",))
    left = bitq.coverage(loaded, images()).left
    assert {each.why for each in left if each.name.endswith(("qkv", "proj"))} == {"kept"}
