"""The discretised logistic likelihood: its 256 probabilities, their mean, extremes, and a run that trains on it."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from small import make_images, make_recipe, make_state, make_steps, run_steps
from torch import Tensor

from vaelab.models.likelihoods.discretised_logistic import LEVEL, LOG_SCALE_RANGE, LevelPixels, Likelihood
from vaelab.models.spec import Spec

SPEC = Spec((3, 8, 9), latent_dim=2, num_images=10)
LEVELS = torch.arange(256, dtype=torch.float64) / 255
locations = st.floats(-3.0, 4.0)
log_scales = st.floats(*LOG_SCALE_RANGE)
every_scale = pytest.mark.parametrize("scale", ["shared", "pixel"])


def one_pixel(location: float, log_scale: float) -> LevelPixels:
    """The distribution of a single pixel."""
    return LevelPixels(
        torch.full((1, 1, 1, 1), location, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    )


def log_probs_of_all_levels(pixels: LevelPixels) -> Tensor:
    return pixels.log_prob(LEVELS[:, None, None, None])


# -- values -----------------------------------------------------------------------------------------------------------


@given(locations, log_scales)
def test_the_probabilities_of_the_levels_sum_to_one(location: float, log_scale: float) -> None:
    total = log_probs_of_all_levels(one_pixel(location, log_scale)).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-10)


@given(st.floats(0.0, 1.0), st.floats(-3.0, 1.0))
def test_a_level_has_the_probability_of_its_interval(location: float, log_scale: float) -> None:
    edges = (LEVELS[1:] - LEVEL / 2 - location) / math.exp(log_scale)
    cumulative = torch.cat([torch.zeros(1), torch.sigmoid(edges), torch.ones(1)])
    found = log_probs_of_all_levels(one_pixel(location, log_scale)).exp()
    torch.testing.assert_close(found, cumulative.diff(), rtol=1e-8, atol=1e-14)


@given(locations, log_scales)
def test_negative_and_image_are_alike(location: float, log_scale: float) -> None:
    found = log_probs_of_all_levels(one_pixel(1 - location, log_scale))
    torch.testing.assert_close(
        found, log_probs_of_all_levels(one_pixel(location, log_scale)).flip(0), rtol=1e-7, atol=0
    )


@given(locations, log_scales)
@example(0.0, math.log(LEVEL))  # where the correction is largest
@example(1.0, math.log(LEVEL))
@example(0.0, LOG_SCALE_RANGE[0])
def test_the_mean_is_the_expected_level(location: float, log_scale: float) -> None:
    pixels = one_pixel(location, log_scale)
    expected = float((log_probs_of_all_levels(pixels).exp() * LEVELS).sum())
    tolerance = 1e-6 if math.exp(log_scale) >= 0.999 * LEVEL else LEVEL / 2
    assert float(pixels.mean) == pytest.approx(expected, abs=tolerance)


def test_samples_are_levels_as_often_as_they_are_probable() -> None:
    pixels, count = one_pixel(0.02, math.log(0.01)), 200_000
    many = LevelPixels(pixels.location.expand(count, -1, -1, -1), pixels.log_scale)
    levels = many.sample(torch.Generator().manual_seed(0)).flatten() * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    found = torch.bincount(levels.round().long(), minlength=256) / count
    expected = log_probs_of_all_levels(pixels).exp()
    assert bool(((found - expected).abs() <= 5 * (expected / count).sqrt() + 1e-5).all())
    assert float(found[0]) > 0.1, "black is among them"


def test_black_and_white_can_be_certain() -> None:
    for location, x in ((-20.0, 0.0), (20.0, 1.0)):
        pixels = one_pixel(location, math.log(0.1))
        assert float(pixels.log_prob(torch.full((1, 1, 1, 1), x, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
        assert float(pixels.mean) == pytest.approx(x, abs=1e-12)


def test_a_flat_distribution_costs_what_its_ends_leave() -> None:
    found = log_probs_of_all_levels(one_pixel(0.5, 4.0))
    torch.testing.assert_close(found[1:-1], found[128].expand(254), rtol=1e-4, atol=0)
    assert float(found[128]) == pytest.approx(math.log(LEVEL / 4) - 4, abs=1e-4)


@given(locations, st.floats(math.log(LEVEL), 1.0))
def test_single_precision_is_enough(location: float, log_scale: float) -> None:
    exact = one_pixel(location, log_scale)
    half = LevelPixels(exact.location.float(), exact.log_scale.float())
    found, expected = half.log_prob(LEVELS.float()[:, None, None, None]).double(), log_probs_of_all_levels(exact)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(half.mean.double(), exact.mean, rtol=0, atol=2e-6)


# -- gradients and extremes -------------------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences() -> None:
    location = torch.tensor([-0.2, 0.0, 0.3, 0.97, 1.4], dtype=torch.float64)[:, None, None, None].requires_grad_()
    log_scale = torch.tensor(-2.5, dtype=torch.float64, requires_grad=True)
    for x in (0.0, 77 / 255, 1.0):
        image = torch.full((5, 1, 1, 1), x, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda m, s, x=image: LevelPixels(m, s).log_prob(x), (location, log_scale))
    assert torch.autograd.gradcheck(lambda m, s: LevelPixels(m, s).mean, (location, log_scale))


@every_scale
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e4])
def test_everything_is_finite_whatever_the_decoder_returns(scale: str, size: float) -> None:
    likelihood = Likelihood(SPEC, scale=scale)  # type: ignore[arg-type]
    shape = (4, 3 * likelihood.channels_per_pixel, 8, 9)
    random = torch.Generator().manual_seed(0)
    decoded = (torch.randn(shape, generator=random).sign() * size).requires_grad_()
    x = torch.randint(256, (4, 3, 8, 9), generator=random) / 255
    pixels = likelihood(decoded)
    log_prob = pixels.log_prob(x)
    log_prob.sum().backward()
    assert bool((log_prob <= 0).all())
    values = [log_prob, pixels.mean, pixels.sample(random), *(p.grad for p in (decoded, *likelihood.parameters()))]
    assert all(bool(torch.isfinite(value).all()) for value in values)


def test_a_scale_that_left_its_range_finds_back() -> None:
    likelihood, x = Likelihood(SPEC), torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert likelihood.log_scale is not None
    for far in (-15.0, 9.0):
        likelihood.log_scale.data.fill_(far)
        likelihood.log_scale.grad = None
        likelihood(torch.zeros_like(x)).reconstruction_loss(x).sum().backward()
        assert float(likelihood.log_scale.grad) * far > 0


# -- the two scales ---------------------------------------------------------------------------------------------------


@every_scale
def test_both_scales_begin_at_the_one_asked_for(scale: str) -> None:
    likelihood = Likelihood(SPEC, scale=scale, initial_scale=0.03)  # type: ignore[arg-type]
    pixels = likelihood(torch.zeros(2, 3 * likelihood.channels_per_pixel, 8, 9))
    found = pixels.log_scale.detach().exp()
    torch.testing.assert_close(found, torch.full_like(found, 0.03))
    torch.testing.assert_close(pixels.location, torch.full((2, 3, 8, 9), 0.5))
    assert len(list(likelihood.parameters())) == (scale == "shared")


def test_a_scale_of_each_pixel_is_that_of_a_shared_one_where_all_agree() -> None:
    decoded = torch.randn(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    x = torch.randint(256, (2, 3, 8, 9), generator=torch.Generator().manual_seed(1)) / 255
    shared = Likelihood(SPEC, initial_scale=0.2)(decoded)
    own = Likelihood(SPEC, scale="pixel", initial_scale=0.1)(
        torch.cat([decoded, torch.full_like(decoded, math.log(2))], 1)
    )
    torch.testing.assert_close(own.log_prob(x), shared.log_prob(x).detach())
    torch.testing.assert_close(own.mean, shared.mean.detach())


def test_it_says_that_it_is_a_probability() -> None:
    assert Likelihood.is_discrete


# -- training ---------------------------------------------------------------------------------------------------------


@every_scale
def test_training_goes_on_bit_for_bit_and_gains(scale: str) -> None:
    data = make_images()
    made = make_recipe(likelihood__name="discretised_logistic", likelihood__scale=scale, training__learning_rate=0.01)
    whole, first, second = (make_state(made, data) for _ in range(3))
    values = run_steps(make_steps(whole, data), 60)
    early = run_steps(make_steps(first, data), 9)
    second.restore(9, {name: tensor.clone() for name, tensor in first.tensors().items()})
    late = run_steps(make_steps(second, data), 60)
    assert torch.equal(torch.cat([early, late]), values)
    for key, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[key]), key
    assert float(values[-10:, 0].mean()) < float(values[:10, 0].mean())
    assert float(values[-1, 0]) > 0
