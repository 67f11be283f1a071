"""Batches: the same for every arm of a seed, from any step on, whatever else the recipe says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bitq.data.loader import Batch, Batches, evaluation_batches
from bitq.data.registry import variant
from bitq.data.store import ImageSet, open_set, split
from bitq.run import Recipe

AUGMENTS = ("none", "basic", "randaug", "cutout", "full")
Batched = list[Batch]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_set(variant("cifar10", "procedural@200"), tmp_path_factory.mktemp("data"))


def batches(images: ImageSet, seed: int = 1, **recipe: object) -> Batches:
    return Batches(
        images,
        Recipe(**{"batch": 32, **({} if recipe.get("augment") == "none" else {"pad": 2}), **recipe}),
        seed,
        "cpu",
    )


def equal(some: Batched, others: Batched) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.y_mix, b.y_mix) and a.lam == b.lam
        for a, b in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("augment", AUGMENTS)
def test_batches_are_a_function_of_seed_and_epoch(images: ImageSet, augment: str) -> None:
    recipe = {"augment": augment, "mixup": 0.2}
    first = list(batches(images, **recipe).epoch(3))
    torch.manual_seed(99)  # no hidden generator
    np.random.seed(99)
    assert equal(first, list(batches(images, **recipe).epoch(3)))
    assert not equal(first, list(batches(images, **recipe).epoch(4)))
    assert not equal(first, list(batches(images, seed=2, **recipe).epoch(3)))


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("start", [0, 1, 4, 6, 7])
def test_starting_at_a_step_equals_skipping_the_ones_before(images: ImageSet, augment: str, start: int) -> None:
    loader = batches(images, augment=augment, mixup=0.2)
    assert equal(list(loader.epoch(0, start)), list(loader.epoch(0))[start:])


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("start", [0, 2])
def test_batches_that_are_augmented_together_are_the_same(images: ImageSet, augment: str, start: int) -> None:
    recipe = Recipe(batch=32, augment=augment, mixup=0.2, pad=4 if augment == "none" else 2)  # type: ignore[arg-type]
    one_by_one, together = (list(Batches(images, recipe, 1, "cpu", at_once=n).epoch(0, start)) for n in (1, 3))
    assert equal(one_by_one, together)
    assert all(batch.x.is_contiguous(memory_format=torch.channels_last) for batch in together)


def test_each_image_comes_once_and_a_last_single_one_is_dropped(images: ImageSet) -> None:
    for batch, steps, seen in ((32, 7, 200), (199, 1, 199), (198, 2, 200), (200, 1, 200), (500, 1, 200), (1, 200, 200)):
        loader = batches(images, batch=batch, augment="none")
        found = list(loader.epoch(0))
        assert loader.steps == len(found) == steps
        assert sum(len(one.y) for one in found) == seen
        assert len({one.numpy().tobytes() for part in found for one in part.x}) == seen


def test_without_augmentation_the_pixels_are_the_stored_ones(images: ImageSet) -> None:
    (batch,) = batches(images, batch=200, augment="none", normalisation="half").epoch(0)
    stored = {x.tobytes(): int(y) for x, y in zip(images.x_train, images.y_train, strict=True)}
    found = ((batch.x * 0.5 + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert [stored[x.numpy().tobytes()] for x in found] == batch.y.tolist()


def test_batches_have_the_promised_form(images: ImageSet) -> None:
    for augment in AUGMENTS:
        batch = next(batches(images, augment=augment, mixup=0.2).epoch(0))
        assert batch.x.shape == (32, 3, 16, 16) and batch.x.dtype == torch.float32
        assert batch.x.is_contiguous(memory_format=torch.channels_last)
        assert batch.y.dtype == batch.y_mix.dtype == torch.int64
        assert batch.lam is not None and batch.lam.dtype == torch.float64 and 0 <= batch.lam <= 1


def test_mixup_changes_neither_order_nor_crops(images: ImageSet) -> None:
    plain, mixed = batches(images).epoch(5), batches(images, mixup=0.2).epoch(5)
    lams = []
    for one, other in zip(plain, mixed, strict=True):
        assert torch.equal(one.y, other.y)
        assert sorted(other.y.tolist()) == sorted(other.y_mix.tolist())
        partner = one.x[_partner(one, other)]
        torch.testing.assert_close(other.x, other.lam * one.x + (1 - other.lam) * partner)
        lams.append(float(other.lam))
        assert one.lam is None and torch.equal(one.y, one.y_mix)
    assert len(set(lams)) == len(lams)


def _partner(plain: Batch, mixed: Batch) -> torch.Tensor:
    """Which image each was mixed with, found from the pixels."""
    rest = (mixed.x - mixed.lam * plain.x) / (1 - mixed.lam) if mixed.lam < 1 else plain.x
    return torch.cdist(rest.flatten(1), plain.x.flatten(1)).argmin(1)


@pytest.mark.parametrize(
    "change", [{"augment": "randaug"}, {"augment": "cutout"}, {"label_smoothing": 0.1}, {"mixup": 1.0}, {"lr": 0.5}]
)
def test_no_setting_changes_the_order(images: ImageSet, change: dict[str, object]) -> None:
    plain, changed = batches(images).epoch(2), batches(images, **change).epoch(2)
    assert all(torch.equal(one.y, other.y) for one, other in zip(plain, changed, strict=True))


def test_cutout_only_erases(images: ImageSet) -> None:
    for plain, cut in zip(batches(images).epoch(0), batches(images, augment="cutout").epoch(0), strict=True):
        assert torch.equal(cut.x[cut.x != 0], plain.x[cut.x != 0])
    assert (cut.x == 0).any()


def test_a_mixing_weight_is_beta_distributed(images: ImageSet) -> None:
    loader = batches(images, mixup=0.2, batch=2, augment="none")
    lams = np.array([float(batch.lam) for epoch in range(20) for batch in loader.epoch(epoch)])
    # Beta(α, α) has mean 1/2 and variance 1 / (4 (2α + 1)).
    assert abs(lams.mean() - 0.5) < 0.04
    assert abs(lams.var() - 1 / (4 * 1.4)) < 0.02


def test_a_held_out_share_is_evaluated_and_never_trained_on(images: ImageSet) -> None:
    loader = batches(images, validation=0.2, augment="none")
    train, held = split(images.y_train, 0.2, 1)
    x = torch.cat([x for x, _ in loader.held_out])
    (expected,) = evaluation_batches(images.x_train[held], images.y_train[held], "imagenet", 999, "cpu")
    assert torch.equal(x, expected[0])
    assert np.bincount(torch.cat([y for _, y in loader.held_out])).tolist() == [4] * 10
    trained = {one.numpy().tobytes() for batch in loader.epoch(0) for one in batch.x}
    assert len(trained) == len(train) == 160
    assert not trained & {one.numpy().tobytes() for one in x}
    assert not batches(images).held_out


def test_evaluation_sees_every_image_in_stored_order(images: ImageSet) -> None:
    found = list(evaluation_batches(images.x_test, images.y_test, "half", 30, "cpu"))
    assert [len(y) for _, y in found] == [30, 30, 10]
    x = torch.cat([x for x, _ in found])
    np.testing.assert_array_equal(torch.cat([y for _, y in found]), images.y_test)
    expected = torch.from_numpy(np.array(images.x_test)).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)


def test_grey_images_work_with_every_augmentation(tmp_path: Path) -> None:
    record = variant("mnist").model_copy(update={"train": 8, "test": 8})
    x, y = np.arange(8 * 28 * 28, dtype=np.int64).reshape(8, 28, 28, 1).astype(np.uint8), np.arange(8, dtype=np.uint8)
    for augment in AUGMENTS:
        loader = batches(ImageSet(x, y, x, y, None, record), augment=augment, mixup=0.2, batch=8)
        (batch,) = loader.epoch(0)
        assert batch.x.shape == (8, 1, 28, 28) and batch.x.is_contiguous(memory_format=torch.channels_last)
