"""Rings: N levels from N places, positions that wrap, gradients of the soft wave; and the steps of LSQ."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitq.errors import UsageError
from bitq.quant.lsq import Lsq
from bitq.quant.registry import make_quantizer
from bitq.quant.ring import Ring, Track, soft_slope, soft_value
from bitq.quant.ring_legacy import RingLegacy
from bitq.quant.waves import quarter_step
from bitq.rng import derive

ORDERS, WAVES = st.sampled_from(["ring", "line"]), st.sampled_from(["triangle", "sine", "learned"])
SEEDS, LEVELS = st.integers(0, 10**6), st.integers(2, 64)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(derive(seed, "test")))


@pytest.mark.parametrize("levels", range(2, 65))
def test_a_quarter_of_a_step_gives_n_places_n_levels(levels: int) -> None:
    # {-(N-1), -(N-3), …, N-1}/N: rising and falling half lie in different residue classes mod 4 and interleave
    assert [value * levels for value in sorted(quarter_step(levels))] == pytest.approx(range(1 - levels, levels, 2))
    assert len(set(map(float, torch.tensor(quarter_step(levels, "sine"))))) == levels


def test_a_phase_of_zero_has_fewer_levels_than_places_and_ships_as_what_it_is() -> None:
    ring = Ring(draw(0, 8, 30), levels=4, phase=0).eval()
    latent = ring.latent(draw(0, 8, 30))
    assert ring.levels == 3 and ring.codes(latent).values.tolist() == [-1.0, 0.0, 1.0]
    places = ring.track.nearest(latent)[0]
    assert {1, 3} <= set(places.flatten().tolist())  # both branches of zero are taken
    assert torch.equal(places, ring.track.nearest(ring.latent(draw(0, 8, 30)))[0])


@given(seed=SEEDS, levels=LEVELS, order=ORDERS, wave=WAVES)
@settings(max_examples=60, deadline=None)
def test_the_first_weights_are_the_nearest_levels_of_the_initial_ones(
    seed: int, levels: int, order: str, wave: str
) -> None:
    weight = draw(seed, 4, 50)
    ring = Ring(weight, levels, wave, order=order).eval()
    latent = ring.latent(weight)
    assert latent.min() >= 0 and latent.max() <= 1
    distance = (weight[..., None] - ring.scale.detach()[..., None] * ring.codebook.detach()).abs().min(-1).values
    torch.testing.assert_close((ring(latent) - weight).abs(), distance, rtol=1e-4, atol=1e-5)


@given(seed=SEEDS, levels=LEVELS, order=ORDERS, wave=WAVES)
@settings(max_examples=60, deadline=None)
def test_bringing_positions_back_to_the_track_changes_no_weight(seed: int, levels: int, order: str, wave: str) -> None:
    ring = Ring(draw(seed, 4, 50), levels, wave, order=order).eval()
    latent = 3 * draw(seed + 1, 4, 50)
    latent[0, :3] = torch.tensor([-1e-9, 1.0, 1 - 1e-9])
    before, codes = ring(latent), ring.codes(latent)
    ring.project_(latent)
    assert torch.equal(ring(latent), before) and torch.equal(ring.codes(latent).index, codes.index)
    assert latent.min() >= 0 and latent.max() <= 1
    assert torch.equal(codes.decode(), before)


def test_a_ring_has_no_end_and_a_line_has_two() -> None:
    beyond = torch.tensor([[1.25, -0.25]])
    assert Ring(draw(1, 1, 9)).track.kept(beyond).tolist() == [[0.25, 0.75]]
    assert Ring(draw(1, 1, 9), order="line").track.kept(beyond).tolist() == [[1.0, 0.0]]


@given(seed=SEEDS, levels=st.integers(3, 16), closed=st.booleans(), sigma=st.sampled_from([0.15, 0.3, 0.5]))
@settings(max_examples=40, deadline=None)
def test_the_slope_is_the_derivative_of_the_soft_value(seed: int, levels: int, closed: bool, sigma: float) -> None:
    track, codebook = Track(levels, closed), draw(seed, levels).double()
    position = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    off_the_edges = track.nearest(position)[1].abs() < 0.49  # where the three nearest places change
    step = 1e-6
    difference = soft_value(position + step, codebook, track, sigma) - soft_value(
        position - step, codebook, track, sigma
    )
    slope = soft_slope(position, codebook, track, sigma)
    torch.testing.assert_close(slope[off_the_edges], (difference / (2 * step))[off_the_edges], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize("order", ["ring", "line"])
@pytest.mark.parametrize("levels", [3, 4, 8])
def test_a_step_moves_the_soft_weight_as_far_as_it_would_move_a_plain_one(
    levels: int, order: str, progress: float
) -> None:
    ring = Ring(0.1 * draw(2, 16, 400), levels, order=order, sigma=(0.5, 0.15))
    ring.progress = progress
    position = torch.rand(16, 400, generator=torch.Generator().manual_seed(3)).requires_grad_()
    upstream = draw(4, 16, 400)
    ring(position).backward(upstream)
    soft = [
        ring.scale * soft_value(p, ring.codebook, ring.track, ring.width)
        for p in (position, position - 1e-3 * position.grad)
    ]
    assert ((soft[0] - soft[1]) / (1e-3 * upstream)).mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("mode", ["ste", "soft_until", "anneal"])
def test_training_may_be_soft_but_evaluation_is_hard(mode: str) -> None:
    weight = draw(5, 4, 100)
    ring = Ring(weight, mode=mode, sigma=(0.5, 0.15))
    latent = ring.latent(weight)
    ring.progress = 0.0
    values = len(ring.train()(latent)[0].unique())
    assert values <= 4 if mode == "ste" else values > 50
    assert len(ring.eval()(latent)[0].unique()) <= 4
    ring.progress = 0.9
    assert (len(ring.train()(latent)[0].unique()) <= 4) == (mode != "anneal")
    assert ring.width == pytest.approx(0.5 * 0.3**0.9)


@pytest.mark.parametrize("mode", ["ste", "anneal"])
def test_gradients_of_a_learned_codebook_equal_finite_differences(mode: str) -> None:
    ring = Ring(draw(6, 3, 40), wave="learned", mode=mode)
    latent, upstream = ring.latent(draw(6, 3, 40)), draw(7, 3, 40)
    ring(latent).backward(upstream)
    for place in range(4):
        with torch.no_grad():
            ring.codebook[place] += 1e-2
            above = (ring(latent) * upstream).sum()
            ring.codebook[place] -= 2e-2
            below = (ring(latent) * upstream).sum()
            ring.codebook[place] += 1e-2
        slowed = ring.codebook.grad[place].item() * (4 * latent.numel()) ** 0.5  # type: ignore[index]
        assert slowed == pytest.approx((above - below).item() / 2e-2, rel=1e-2, abs=1e-2)


def test_learned_values_ship_in_ascending_order() -> None:
    ring = Ring(draw(8, 4, 60), wave="learned").eval()
    with torch.no_grad():
        ring.codebook.copy_(torch.tensor([0.5, -1.0, 0.25, 0.25]))
    latent = ring.latent(draw(8, 4, 60))
    codes = ring.codes(latent)
    assert codes.values.tolist() == [-1.0, 0.25, 0.25, 0.5] and torch.equal(codes.decode(), ring(latent))


def test_a_snapped_ring_goes_on_from_its_codes() -> None:
    legacy = RingLegacy(torch.zeros(1), 8, snap=True).eval()
    codes = legacy.codes(torch.rand(4, 50, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(legacy(legacy.latent_from_codes(codes)), codes.decode())


def test_the_published_ring_is_clamped_decays_and_has_half_the_levels_that_it_claims() -> None:
    legacy = RingLegacy(torch.zeros(1), 8, snap=True)
    latent = torch.tensor([-0.5, 0.5, 1.5])
    legacy.project_(latent)
    assert latent.tolist() == [0.0, 0.5, 1.0] and legacy.decay_latent and legacy.levels == 4
    assert RingLegacy(torch.zeros(1), 8).levels is None  # soft: a float method
    first, second = (legacy.latent(draw(seed, 500)) for seed in (1, 2))
    assert torch.equal(first, legacy.latent(draw(1, 500))) and not torch.equal(first, second)
    assert 0.4 < first.mean() < 0.6 and first.min() >= 0 and first.max() < 1


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_step_of_least_squares_beats_the_published_one(bits: int) -> None:
    weight = draw(11, 8, 200)
    errors = [
        (Lsq(weight, bits, "channel", init).eval()(weight) - weight).square().mean().item() for init in ("mse", "lsq")
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("method", "given", "sentence"),
    [
        ("ring", {"levels": 1}, "levels=1 was given; allowed: 2 to 256"),
        ("ring", {"wave": "square"}, "unknown wave 'square'; allowed: learned, sine, triangle"),
        ("ring", {"order": "rign"}, "Did you mean 'ring'"),
        ("ring", {"mode": "hard"}, "allowed: anneal, soft_until, ste"),
        ("ring", {"sigma": [0.5]}, "two widths above 0"),
        ("ring_legacy", {"ring_size": 1}, "ring_size=1 was given"),
        ("ring_legacy", {"wave": "sine"}, "allowed: sin, triangle"),
        ("lsq", {"bits": 1}, "allowed: 2 to 8"),
        ("lsq", {"init": "minmax"}, "allowed: lsq, mse"),
        ("dorefa", {"bits": 9}, "allowed: 1 to 8"),
    ],
)
def test_settings_that_mean_nothing_are_refused(method: str, given: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make_quantizer(method, draw(0, 4, 4), given)
