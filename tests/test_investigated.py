"""Cases that were investigated name arms of the grid and records that are there; tests show anew what some rest on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bitq.grid.select import grid
from bitq.quant.ring import Ring
from bitq.report.investigated import cases, tried
from bitq.results.folder import read
from bitq.results.per_image import predictions_of
from bitq.results.predictions import read_labels

RESULTS = Path(__file__).parents[1] / "results"


def test_every_case_is_about_arms_of_the_grid() -> None:
    arms = {f"{run.study}/{run.data.dataset}/{run.model}/{run.arm}" for run in grid("full")}
    assert not {arm for case in cases() for arm in case.arms} - arms


def test_every_further_run_has_its_record() -> None:
    assert {name for case in cases() for name in case.tried} == set(tried())
    assert all(len(record["hash"]) == 64 for record in tried().values())
    assert all(record["accuracy"] is None or len(record["file_sha256"]) == 64 for record in tried().values())


@pytest.mark.parametrize("beyond", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize(("levels", "on_a_ring"), [(4, 12), (8, 40)])
def test_a_weight_on_a_ring_does_not_reach_the_levels_of_the_other_half(
    levels: int, on_a_ring: int, beyond: float
) -> None:
    assert reached(levels, "line", beyond) == levels**2
    assert reached(levels, "ring", beyond) == on_a_ring


def reached(levels: int, order: str, beyond: float, steps: int = 600) -> int:
    """Let a weight descend from each place to each level; count those that are there most of the second half."""
    ring = Ring(torch.ones(1, 4), levels=levels, order=order)
    ring.scale.data.fill_(1.0)
    places, wanted = torch.arange(levels).repeat_interleave(levels), ring.codebook.repeat(levels)
    position = ring.track.kept((places + beyond)[None] / ring.track.length).requires_grad_()
    there = torch.zeros(levels**2)
    for step in range(steps):
        (gradient,) = torch.autograd.grad(0.5 * (ring(position) - wanted).square().sum(), position)
        with torch.no_grad():
            there += (ring(position)[0] == wanted).float() * (step >= steps // 2)
            position.sub_(0.02 * gradient)
            ring.project_(position)
    return int((there > steps // 4).sum())


def test_a_network_of_sentences_finds_the_sentiment_alone() -> None:
    sentence, fused = (shares_right(model) for model in ("fusion_text_only", "gated_fusion"))
    assert abs(sentence["category"] - 0.1) < 0.02 and abs(sentence["sentiment"] - fused["sentiment"]) < 0.02
    assert abs(shares_right("fusion_image_only")["sentiment"] - 0.5) < 0.03


def shares_right(model: str) -> dict[str, float]:
    """Count how often the packed network finds the category, and how often the sentiment."""
    folder = RESULTS / f"mini/multimodal/fashion_sst2/{model}/fp32/s42"
    packed = read(folder).results.packed
    assert packed
    labels, found = np.frombuffer(read_labels(RESULTS, packed.labels_sha256), np.uint8), predictions_of(folder)
    return {"category": float((found // 2 == labels // 2).mean()), "sentiment": float((found % 2 == labels % 2).mean())}
