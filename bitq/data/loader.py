"""Build batches on the device; order and augmentation are functions of (seed, epoch), so a run resumes at any step.

Everything that comes from the host is sent once an epoch, so that no step waits for a copy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bitq.data.augment import (
    OPERATIONS,
    ROUNDS,
    Groups,
    Normalise,
    apply_groups,
    crop_and_flip,
    erase,
    erasing_boxes,
    group,
    rotate,
)
from bitq.data.inputs import Inputs
from bitq.data.store import ImageSet, Indices, Pixels, Tokens, split
from bitq.rng import derive
from bitq.run import Recipe

EVALUATION_BATCH = 250  # images; divides the test sets of 500, 1,000 and 10,000
MAX_ANGLE = 5.0  # degrees, to either side
# Steps whose images are augmented together: on a GPU many small kernels take as long to launch as to compute.
STEPS_AT_ONCE = {"cpu": 1, "cuda": 16}
STAGES = {
    "none": (),
    "basic": ("crop",),
    "rotate": ("rotate", "crop"),
    "randaug": ("randaug", "crop"),
    "cutout": ("crop", "erase"),
    "full": ("randaug", "crop", "erase"),
}


@dataclass(frozen=True)
class Batch:
    """Mixed images and both their labels: the loss is lam · loss(y) + (1 - lam) · loss(y_mix)."""

    x: Inputs  # float32, (B, C, H, W) in channels-last memory; in a set of pairs with int64 tokens, (B, words)
    y: Tensor  # int64, (B)
    y_mix: Tensor  # int64, (B)
    lam: Tensor | None = None  # float64, (); none without mixup


@dataclass(frozen=True)
class Plan:
    """The random choices of one epoch, in the order of its images."""

    order: Tensor  # (N), indices of the images
    crops: Tensor  # (2, N), top and left offset in 0 … 2·pad
    flips: Tensor  # (N), bool
    angles: Tensor  # (N), degrees
    boxes: Tensor  # (N, 4), to erase
    groups: list[Groups]  # of each step: which of its images get the same operation of RandAugment
    lams: list[float]  # of each step, on the host
    lam: Tensor  # (steps), the same on the device
    partners: Tensor  # (N), the place within its batch of the image that each is mixed with


def draw_plan(recipe: Recipe, images: int, size: int, seed: int, epoch: int, device: torch.device) -> Plan:
    """Draw everything random in an epoch. Each purpose has a generator of its own: no setting disturbs another."""

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(seed, purpose, epoch))

    lams = draw_lams(recipe.mixup, -(-images // recipe.batch), derive(seed, "mixup", epoch))
    return Plan(
        order=torch.randperm(images, generator=generator("order")).to(device),
        crops=torch.randint(0, 2 * recipe.pad + 1, (2, images), generator=generator("crop")).to(device),
        flips=(torch.rand(images, generator=generator("flip")) < 0.5).to(device),
        angles=MAX_ANGLE * (2 * torch.rand(images, generator=generator("angle")) - 1).to(device),
        boxes=erasing_boxes(images, size, generator("erase")).to(device),
        groups=draw_groups(recipe, images, generator, device),
        lams=lams,
        lam=torch.tensor(lams, dtype=torch.float64).to(device),
        partners=draw_partners(images, recipe.batch, generator("partner")).to(device),
    )


def draw_groups(
    recipe: Recipe, images: int, generator: Callable[[str], torch.Generator], device: torch.device
) -> list[Groups]:
    """Draw RandAugment's operations and their signs, sorted within each batch; none for other recipes."""
    if "randaug" not in STAGES[recipe.augment]:
        return []
    shape = (images, ROUNDS)
    operations = torch.randint(0, len(OPERATIONS), shape, generator=generator("operation"))
    signs = torch.randint(0, 2, shape, generator=generator("sign")) * 2 - 1
    return group(operations, signs, recipe.batch, device)


def draw_partners(images: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw a key for each image; the order of the keys within a batch says which image is mixed with which."""
    keys = torch.rand(images, generator=generator, dtype=torch.float64)
    return torch.cat([part.argsort() for part in torch.split(keys, batch)])


def draw_lams(alpha: float, steps: int, key: int) -> list[float]:
    """Draw λ ~ Beta(α, α) for each step, 1 without mixup."""
    if not alpha:
        return [1.0] * steps
    lams: list[float] = np.random.Generator(np.random.Philox(key=key)).beta(alpha, alpha, steps).tolist()
    return lams


class Batches:
    """The training images on the device, as uint8, and the batches that a recipe makes of them."""

    def __init__(
        self, images: ImageSet, recipe: Recipe, seed: int, device: torch.device | str, at_once: int | None = None
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        self.at_once = at_once or STEPS_AT_ONCE[self.device.type]
        self.stages = STAGES[recipe.augment]
        _, self.size, _, channels = images.x_train.shape
        self.x, self.t = on_device(images, "x_train", self.device), None
        self.y = on_device(images, "y_train", self.device).long()
        if images.t_train is not None:
            self.t = on_device(images, "t_train", self.device)
        self.normalise = Normalise(recipe.normalisation, channels, self.size, self.device)
        self.held_out: list[tuple[Inputs, Tensor]] = []  # normalised batches, for evaluation
        if recipe.validation:
            self._hold_out(*split(images.y_train, recipe.validation, seed))

    def _hold_out(self, kept: Indices, held: Indices) -> None:
        """Keep a part of the images for evaluation, and train on the rest."""
        apart, rest = (torch.from_numpy(places).to(self.device) for places in (held, kept))
        t = None if self.t is None else self.t[apart]
        self.held_out += evaluation_batches(
            self.x[apart], self.y[apart], self.recipe.normalisation, EVALUATION_BATCH, self.device, t
        )
        self.x, self.y, self.t = self.x[rest], self.y[rest], None if self.t is None else self.t[rest]

    @property
    def steps(self) -> int:
        """Steps per epoch; a last batch of a single image is dropped, since batch normalisation needs two."""
        full, rest = divmod(len(self.y), self.recipe.batch)
        return full + (rest > 1)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on."""
        plan = draw_plan(self.recipe, len(self.y), self.size, self.seed, epoch, self.device)
        for first in range(start, self.steps, self.at_once):
            steps = range(first, min(first + self.at_once, self.steps))
            images = torch.split(self._augmented(plan, steps), self.recipe.batch)
            for step, x in zip(steps, images, strict=True):
                yield self._batch(plan, step, x)

    def sample(self, images: int) -> Iterator[Inputs]:
        """Yield batches of unaugmented, normalised training images, the first ones of the first epoch's order."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", 0))
        chosen = torch.randperm(len(self.y), generator=generator)[:images].to(self.device)
        for start in range(0, len(chosen), EVALUATION_BATCH):
            part = chosen[start : start + EVALUATION_BATCH]
            yield self._with_text(self.normalise(self.x.index_select(0, part)), part)

    def _with_text(self, x: Tensor, chosen: Tensor) -> Inputs:
        """Return images in the network's layout, with their sentences if they have any."""
        images = _channels_first(x)
        return images if self.t is None else (images, self.t.index_select(0, chosen).long())

    def _places(self, steps: range) -> slice:
        """Return the places of the images of some steps in the order of the epoch."""
        return slice(steps.start * self.recipe.batch, steps.stop * self.recipe.batch)

    def _augmented(self, plan: Plan, steps: range) -> Tensor:
        """Augment and normalise the images of some steps, (B, H, W, C)."""
        here = self._places(steps)
        x = self.x.index_select(0, plan.order[here])
        if "randaug" in self.stages:
            parts = zip(torch.split(x, self.recipe.batch), plan.groups[steps.start : steps.stop], strict=True)
            x = torch.cat([apply_groups(part, groups) for part, groups in parts])
        if "rotate" in self.stages:
            x = rotate(x, plan.angles[here])
        if "crop" in self.stages:
            x = crop_and_flip(x, plan.crops[:, here], plan.flips[here], self.recipe.pad)
        x = self.normalise(x)
        return erase(x, plan.boxes[here]) if "erase" in self.stages else x

    def _batch(self, plan: Plan, step: int, x: Tensor) -> Batch:
        here = self._places(range(step, step + 1))
        chosen = plan.order[here]
        y = self.y[chosen]
        if not self.recipe.mixup:
            return Batch(self._with_text(x, chosen), y, y)
        partner = plan.partners[here]
        mixed = torch.lerp(x.index_select(0, partner), x, plan.lams[step])
        return Batch(_channels_first(mixed), y, y[partner], plan.lam[step])


def evaluation_batches(
    x: Pixels | Tensor,
    y: Pixels | Tensor,
    normalisation: str,
    batch: int,
    device: torch.device | str,
    t: Tokens | Tensor | None = None,
) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield normalised images, with their sentences if they have any, and labels in stored order, leaving none out."""
    normalise = Normalise(normalisation, x.shape[3], x.shape[2], device)
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        images = _channels_first(normalise(_to_device(x[part], device)))
        inputs = images if t is None else (images, _to_device(t[part], device).long())
        yield inputs, _to_device(y[part], device).long()


def on_device(images: ImageSet, part: str, device: torch.device) -> Tensor:
    """Send a part of the set to the device, once for all runs of this process that read the set."""
    key = (part, str(device))
    if key not in images.sent:
        images.sent[key] = _to_device(getattr(images, part), device)
    sent: Tensor = images.sent[key]
    return sent


def _to_device(array: Pixels | Tokens | Tensor, device: torch.device | str) -> Tensor:
    if isinstance(array, Tensor):
        return array.to(device)
    # A copy, since torch needs writable memory, which a mapped file is not; int32, since few kernels take uint16.
    return torch.from_numpy(array.astype(np.uint8 if array.dtype == np.uint8 else np.int32)).to(device)


def _channels_first(x: Tensor) -> Tensor:
    """Permute to (B, C, H, W) without moving a byte: the memory stays channels-last."""
    return x.permute(0, 3, 1, 2)
