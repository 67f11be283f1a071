"""Images of eight by eight pixels with horizontal, vertical or diagonal stripes in noise: a stand-in for your own."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

CLASSES, PIXELS = 3, 8


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(PIXELS), torch.arange(PIXELS), indexing="ij")
    phases = torch.stack([rows, columns, rows + columns])
    labels = torch.randint(CLASSES, (count,), generator=draws)
    shift = torch.randint(4, (count, 1, 1), generator=draws)
    images = ((phases[labels] + shift) % 4 < 2).float() - 0.5
    return (images + 0.4 * torch.randn(images.shape, generator=draws))[:, None], labels


def loader(count: int = 384, seed: int = 0) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*stripes(count, seed)), batch_size=32, shuffle=seed == 0)
