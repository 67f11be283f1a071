"""A transformer of your own: attention is cut into linear layers, a tied head stays tied, and nothing is skipped.

python examples/own_model.py
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import bitq

WORDS, LENGTH = 16, 12


class LanguageModel(nn.Module):
    """Predict the next word from those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 32)
        self.places = nn.Parameter(0.1 * torch.randn(LENGTH, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        before = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        return self.head(self.encoder(x, mask=before, is_causal=True))


def sentences(count: int) -> Tensor:
    """Count up in steps of one, two or three."""
    start, stride = torch.randint(WORDS, (count, 1)), torch.randint(1, 4, (count, 1))
    return (start + stride * torch.arange(LENGTH)) % WORDS


def main(path: Path) -> float:
    torch.manual_seed(0)
    model = bitq.quantize(LanguageModel(), "int4", activations="dynamic")
    optimizer = torch.optim.AdamW(bitq.parameter_groups(model, weight_decay=1e-2), lr=1e-2)
    for _ in range(80):
        tokens = sentences(64)
        functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(bitq.coverage(model, tokens[:1, :-1]))  # what is quantized, and what is not and why
    bitq.export(model, path)
    loaded = bitq.load(path, into=LanguageModel())
    tokens = sentences(256)
    with torch.inference_mode():
        right = loaded(tokens[:, :-1]).argmax(-1)[:, 2:] == tokens[:, 3:]  # two words tell the step
    print(f"{100 * right.float().mean():.1f} % of the next words from {path.stat().st_size:,} bytes")
    return float(100 * right.float().mean())


if __name__ == "__main__":
    main(Path("own_model.safetensors"))
