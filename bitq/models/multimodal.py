"""Two inputs, one label: an image encoder, a text encoder, a gate that weighs both, a classifier.

The network takes (images, tokens). Its layers lie under image.*, text.*, fusion.* and classifier, so that globs can
treat each modality on its own. The controls are the very same network with one of its inputs blanked.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitq.models.adapter import Adapter, Geometry

Blank = Literal["image", "text"] | None
DROPOUT = 0.3  # that of the original's image classifier
WORD_SIZE = 0.1  # of the initial word vectors: so small that few steps turn them; 1 takes many times as long
NO_WORD = -1e4  # the score of padding: no weight after the softmax, and finite in fp16


class ImageEncoder(nn.Module):
    """The convolutions of the original's image classifier: 3×3 with 32 and 64 channels, each halving the image."""

    def __init__(self, geometry: Geometry, features: int) -> None:
        super().__init__()
        narrow, wide = geometry.width, 2 * geometry.width
        self.conv1 = nn.Conv2d(geometry.channels, narrow, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.fc = nn.Linear(wide * (geometry.image_size // 4) ** 2, features, bias=False)
        self.bn = nn.BatchNorm1d(features)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 2)
        x = functional.max_pool2d(self.bn2(self.conv2(x)).relu(), 2)
        y: Tensor = self.bn(self.fc(x.flatten(1))).relu()
        return y


class TextEncoder(nn.Module):
    """Word vectors, a convolution over three neighbours, and an average in which every place has a learned weight."""

    def __init__(self, geometry: Geometry, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(geometry.vocabulary, 2 * geometry.width)
        nn.init.normal_(self.embedding.weight, std=WORD_SIZE)
        # A linear layer on three neighbouring vectors: a convolution along the sentence.
        self.conv = nn.Linear(3 * 2 * geometry.width, features)
        self.weigh = nn.Linear(features, 1)
        self.fc = nn.Linear(features, features, bias=False)
        self.bn = nn.BatchNorm1d(features)  # so that the gate meets two inputs of one size

    def forward(self, tokens: Tensor) -> Tensor:
        padding = (tokens == 0)[..., None]
        words = functional.dropout(self.embedding(tokens).masked_fill(padding, 0), DROPOUT, self.training)
        around = functional.pad(words, (0, 0, 1, 1))
        x = self.conv(torch.cat([around[:, :-2], words, around[:, 2:]], -1)).relu()
        weight = self.weigh(x).masked_fill(padding, NO_WORD).softmax(1)
        y: Tensor = self.bn(self.fc((weight * x).sum(1))).relu()
        return y


class Gate(nn.Module):
    """z · tanh(image) + (1 - z) · tanh(text), where z, between 0 and 1 for every feature, looks at both."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.image = nn.Linear(features, features)
        self.text = nn.Linear(features, features)
        self.gate = nn.Linear(2 * features, features)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        share = self.gate(torch.cat([image, text], 1)).sigmoid()
        y: Tensor = share * self.image(image).tanh() + (1 - share) * self.text(text).tanh()
        return y


class GatedFusion(nn.Module):
    """The whole network; the width is that of its first convolution; `blank` names the input that it is not shown."""

    def __init__(self, geometry: Geometry, blank: Blank = None) -> None:
        super().__init__()
        features = 4 * geometry.width
        self.image = ImageEncoder(geometry, features)
        self.text = TextEncoder(geometry, features)
        self.fusion = Gate(features)
        self.classifier = nn.Linear(features, geometry.classes)
        self.blank = blank

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        images, tokens = x
        images = torch.zeros_like(images) if self.blank == "image" else images
        tokens = torch.zeros_like(tokens) if self.blank == "text" else tokens
        together = self.fusion(self.image(images), self.text(tokens))
        y: Tensor = self.classifier(functional.dropout(together, DROPOUT, self.training))
        return y


KEEP = {
    "image": ("image.*",),
    "text": ("text.*",),
    "embedding": ("text.embedding",),
    "fusion": ("fusion.*",),
    "first": ("image.conv1", "text.embedding"),
    "conv1": ("image.conv1",),
    "last": ("classifier",),
    "head": ("classifier",),
    "fc": ("classifier",),
}
SMALLEST = {"cifar": 4, "imagenet": 4}  # pixels; both stems are the same here

GATED_FUSION = Adapter(GatedFusion, KEEP, SMALLEST, one_stem=True, reads=True)
FUSION_IMAGE_ONLY = Adapter(
    lambda geometry: GatedFusion(geometry, blank="text"), KEEP, SMALLEST, one_stem=True, reads=True
)
FUSION_TEXT_ONLY = Adapter(
    lambda geometry: GatedFusion(geometry, blank="image"), KEEP, SMALLEST, one_stem=True, reads=True
)
