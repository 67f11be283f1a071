"""The learning rate as a pure function of the place in the run."""

import math

from bitq.run import Recipe


def lr_at(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Return the learning rate: warm-up, then cosine, step or constant.

    With lr_every = epoch the rate is that of the whole epoch: warm-up gives lr·(e+1)/w for e < w, and the cosine
    runs from lr at e = w to min_lr at e = epochs (which no epoch reaches).

    >>> recipe = Recipe(epochs=300, lr=0.1, warmup_epochs=5, min_lr=1e-5)
    >>> [round(lr_at(recipe, e, 0, 391), 7) for e in (0, 4, 5, 299)]
    [0.02, 0.1, 0.1, 1.28e-05]
    """
    if recipe.lr_every == "epoch":
        place, warm = float(epoch), epoch + 1.0
    else:
        place, warm = epoch + step / steps, epoch + (step + 1) / steps
    if place < recipe.warmup_epochs:
        return recipe.lr * min(warm / recipe.warmup_epochs, 1.0)
    if recipe.schedule == "cosine":
        done = (place - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "step":
        return float(recipe.lr * recipe.gamma ** sum(place >= milestone for milestone in recipe.milestones))
    return recipe.lr
