"""Batches on the device. Order and augmentation are functions of (seed, epoch): a run can start again at any step."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitq.data.augment import OPERATIONS, ROUNDS, Normalise, crop_and_flip, erase, erasing_boxes, rand_augment
from bitq.data.store import ImageSet, Pixels, split
from bitq.grid.run import Recipe
from bitq.rng import derive

HELD_OUT_BATCH = 250  # images


@dataclass(frozen=True)
class Batch:
    """Mixed images and both their labels: the loss is lam · loss(y) + (1 - lam) · loss(y_mix)."""

    x: Tensor  # float32, (B, C, H, W) in channels-last memory
    y: Tensor  # int64, (B)
    y_mix: Tensor  # int64, (B)
    lam: float


@dataclass(frozen=True)
class Draws:
    """The random numbers of one epoch; each purpose has a generator of its own, so no setting disturbs another."""

    seed: int
    epoch: int

    def generator(self, purpose: str) -> torch.Generator:
        """On the host: every device sees the same numbers."""
        return torch.Generator().manual_seed(derive(self.seed, purpose, self.epoch))

    def order(self, images: int) -> Tensor:
        """A permutation of the images."""
        return torch.randperm(images, generator=self.generator("order"))

    def crops(self, images: int, pad: int) -> Tensor:
        """Top and left offset of each image, (2, N), in 0 … 2·pad."""
        return torch.randint(0, 2 * pad + 1, (2, images), generator=self.generator("crop"))

    def flips(self, images: int) -> Tensor:
        """Which images to mirror: half of them."""
        return torch.rand(images, generator=self.generator("flip")) < 0.5

    def operations(self, images: int) -> tuple[Tensor, Tensor]:
        """RandAugment's operations and signs, (N, ROUNDS)."""
        generator = self.generator("randaug")
        kinds = torch.randint(0, len(OPERATIONS), (images, ROUNDS), generator=generator)
        return kinds, 2 * torch.randint(0, 2, (images, ROUNDS), generator=generator) - 1

    def mixing(self, steps: int, alpha: float) -> list[float]:
        """λ ~ Beta(α, α) of each step."""
        bits = np.random.Philox(key=derive(self.seed, "mixup", self.epoch))
        lams: list[float] = np.random.Generator(bits).beta(alpha, alpha, steps).tolist()
        return lams

    def partners(self, steps: int, batch: int) -> Tensor:
        """Keys whose order within a batch says which image is mixed with which, (steps, batch)."""
        return torch.rand(steps, batch, generator=self.generator("partner"), dtype=torch.float64)


class Batches:
    """The training images on the device, as uint8, and the recipe's way through them."""

    def __init__(self, images: ImageSet, recipe: Recipe, seed: int, device: torch.device | str) -> None:
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.normalise = Normalise(recipe.normalisation, images.x_train.shape[3], images.x_train.shape[2], self.device)
        x, y = images.x_train, images.y_train
        self.held_out: list[tuple[Tensor, Tensor]] = []  # normalised, for evaluation
        if recipe.validation:
            kept, held = split(y, recipe.validation, seed)
            evaluated = evaluation_batches(x[held], y[held], recipe.normalisation, HELD_OUT_BATCH, self.device)
            self.held_out = list(evaluated)
            x, y = x[kept], y[kept]
        self.x, self.y = _to_device(x, self.device), _to_device(y, self.device).long()

    @property
    def steps(self) -> int:
        """Steps of an epoch. The last batch may be smaller; one of a single image, useless to batch norm, is dropped."""
        full, rest = divmod(len(self.y), self.recipe.batch)
        return full + (rest > 1)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on."""
        plan = self._plan(Draws(self.seed, epoch))
        for step in range(start, self.steps):
            yield self._batch(plan, step)

    def _plan(self, draws: Draws) -> "_Plan":
        recipe, images, size = self.recipe, len(self.y), self.x.shape[1]
        moved = recipe.augment != "none"
        return _Plan(
            order=draws.order(images).to(self.device),
            crops=draws.crops(images, recipe.pad).to(self.device) if moved else None,
            flips=draws.flips(images).to(self.device) if moved else None,
            operations=draws.operations(images) if recipe.augment in ("randaug", "full") else None,
            boxes=erasing_boxes(images, size, draws.generator("erase")).to(self.device)
            if recipe.augment in ("cutout", "full")
            else None,
            lams=draws.mixing(self.steps, recipe.mixup) if recipe.mixup else None,
            partners=draws.partners(self.steps, recipe.batch).to(self.device) if recipe.mixup else None,
        )

    def _batch(self, plan: "_Plan", step: int) -> Batch:
        here = slice(step * self.recipe.batch, (step + 1) * self.recipe.batch)
        images = plan.order[here]
        x, y = self.x.index_select(0, images), self.y[images]
        if plan.operations:
            x = rand_augment(x, plan.operations[0][here], plan.operations[1][here])
        if plan.crops is not None and plan.flips is not None:
            x = crop_and_flip(x, plan.crops[0, here], plan.crops[1, here], plan.flips[here], self.recipe.pad)
        x = self.normalise(x)
        if plan.boxes is not None:
            x = erase(x, plan.boxes[here])
        if plan.lams is None or plan.partners is None:
            return Batch(_channels_first(x), y, y, 1.0)
        lam, partner = plan.lams[step], plan.partners[step, : len(y)].argsort()
        return Batch(_channels_first(torch.lerp(x.index_select(0, partner), x, lam)), y, y[partner], lam)


@dataclass(frozen=True)
class _Plan:
    """What an epoch does to which image; None where the recipe does nothing of the kind."""

    order: Tensor
    crops: Tensor | None
    flips: Tensor | None
    operations: tuple[Tensor, Tensor] | None
    boxes: Tensor | None
    lams: list[float] | None
    partners: Tensor | None


def evaluation_batches(
    x: Pixels, y: Pixels, normalisation: str, batch: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and their labels in stored order, nothing left out."""
    normalise = Normalise(normalisation, x.shape[3], x.shape[2], device)
    for start in range(0, len(x), batch):
        here = slice(start, start + batch)
        yield _channels_first(normalise(_to_device(x[here], device))), _to_device(y[here], device).long()


def _to_device(array: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    # A copy: torch wants memory that it may write to, a mapped file is not.
    return torch.from_numpy(np.array(array)).to(device)


def _channels_first(x: Tensor) -> Tensor:
    """(B, C, H, W) without moving a byte: the memory stays channels-last."""
    return x.permute(0, 3, 1, 2)
