"""The contract of likelihoods, over every member; values against torch.distributions for those it has."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from vaelab.models.likelihoods import Likelihood, PixelDistribution
from vaelab.models.spec import Spec
from vaelab.system import registry

SPEC = Spec(image_shape=(3, 8, 9), latent_dim=2, num_images=10)
every_likelihood = pytest.mark.parametrize("name", registry.names("likelihoods"))


def make(name: str, **options: float) -> Any:
    return registry.load("likelihoods", name).Likelihood(SPEC, **options).double()


def decoder_output(likelihood: Likelihood, *batch: int, seed: int = 0) -> Tensor:
    channels, height, width = SPEC.image_shape
    shape = (*batch, likelihood.channels_per_pixel * channels, height, width)
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def binary_images(*batch: int) -> Tensor:
    """Black and white is what every likelihood has a probability for."""
    shape = (*batch, *SPEC.image_shape)
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(1)).double()


@every_likelihood
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types(name: str, dtype: torch.dtype) -> None:
    likelihood = make(name).to(dtype)
    pixels, x = likelihood(decoder_output(likelihood, 4).to(dtype)), binary_images(4).to(dtype)
    for value, shape in (
        (pixels.mean, x.shape),
        (pixels.sample(torch.Generator()), x.shape),
        (pixels.log_prob(x), (4,)),
        (pixels.reconstruction_loss(x), (4,)),
    ):
        assert (value.shape, value.dtype) == (shape, dtype)
    assert bool(((pixels.mean >= 0) & (pixels.mean <= 1)).all()), "the likelihood owns the link"
    assert isinstance(likelihood, Likelihood)
    assert isinstance(pixels, PixelDistribution)


@every_likelihood
def test_error_is_minus_log_prob_up_to_a_constant_that_no_code_changes(name: str) -> None:
    likelihood, x = make(name), binary_images(4)
    constants = []
    for seed in range(5):
        pixels = likelihood(decoder_output(likelihood, 4, seed=seed))
        constants.append(pixels.reconstruction_loss(x) + pixels.log_prob(x))
        assert bool(pixels.reconstruction_loss(x).isfinite().all())
    for constant in constants[1:]:
        torch.testing.assert_close(constant, constants[0], rtol=0, atol=1e-9)


@every_likelihood
def test_error_has_the_gradient_of_log_prob(name: str) -> None:
    likelihood, x = make(name), binary_images(4)
    decoded = decoder_output(likelihood, 4).requires_grad_()
    pixels = likelihood(decoded)
    (of_error,) = torch.autograd.grad(pixels.reconstruction_loss(x).sum(), decoded, retain_graph=True)
    (of_log_prob,) = torch.autograd.grad(pixels.log_prob(x).sum(), decoded)
    torch.testing.assert_close(of_error, -of_log_prob)
    assert bool((of_error != 0).any())


@every_likelihood
def test_samples_average_to_the_mean(name: str) -> None:
    likelihood, count = make(name), 2000
    decoded = decoder_output(likelihood, 1)
    samples = likelihood(decoded.expand(count, *decoded.shape)).sample(torch.Generator().manual_seed(2))
    error = samples.std(0) / count**0.5
    rare = 5e-4  # levels so improbable that no sample shows them
    assert bool(((samples.mean(0) - likelihood(decoded).mean).abs() < 5 * error + rare).all())
    again = likelihood(decoded.expand(count, *decoded.shape)).sample(torch.Generator().manual_seed(2))
    assert torch.equal(samples, again)


@every_likelihood
def test_extreme_decoder_outputs_stay_finite(name: str) -> None:
    likelihood, x = make(name).float(), binary_images(4).float()
    decoded = (decoder_output(likelihood, 4).sign() * 1e4).float().requires_grad_()
    pixels = likelihood(decoded)
    values = torch.stack([pixels.log_prob(x), pixels.reconstruction_loss(x)])
    (gradient,) = torch.autograd.grad(values.sum(), decoded)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (values, gradient, pixels.mean, pixels.sample()))


@every_likelihood
def test_sample_axes_in_front_are_kept_apart(name: str) -> None:
    likelihood, x = make(name), binary_images(4)
    decoded = decoder_output(likelihood, 3, 4)
    pixels = likelihood(decoded)
    assert pixels.sample().shape == pixels.mean.shape == (3, 4, *SPEC.image_shape)
    for function in ("log_prob", "reconstruction_loss"):
        one_by_one = torch.stack([getattr(likelihood(part), function)(x) for part in decoded])
        torch.testing.assert_close(getattr(pixels, function)(x), one_by_one)
        torch.testing.assert_close(getattr(pixels, function)(x.expand(3, *x.shape)), one_by_one)


def assert_log_prob_is_that_of(reference: Distribution, log_prob: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(log_prob, reference.log_prob(x).sum((-3, -2, -1)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", [1e-3, 0.1, 0.5, 2.0])
def test_gaussian_is_that_of_torch(variance: float) -> None:
    likelihood = make("gaussian", variance=variance)
    decoded = decoder_output(likelihood, 4)
    x = torch.linspace(0, 1, decoded.numel(), dtype=torch.float64).view_as(decoded)
    reference = Normal(torch.sigmoid(decoded), variance**0.5)
    assert_log_prob_is_that_of(reference, likelihood(decoded).log_prob(x), x)


def test_gaussian_error_is_by_default_the_sum_of_squared_errors() -> None:
    likelihood, x = make("gaussian"), binary_images(4)
    decoded = decoder_output(likelihood, 4)
    torch.testing.assert_close(
        likelihood(decoded).reconstruction_loss(x), ((x - torch.sigmoid(decoded)) ** 2).sum((1, 2, 3))
    )


def test_gaussian_samples_spread_by_its_variance() -> None:
    likelihood = make("gaussian", variance=0.04)
    decoded = decoder_output(likelihood, 1)
    samples = likelihood(decoded.expand(2000, *decoded.shape)).sample(torch.Generator().manual_seed(0))
    assert float(samples.std(0).mean()) == pytest.approx(0.2, rel=0.01)


def test_bernoulli_is_that_of_torch() -> None:
    likelihood, x = make("bernoulli"), binary_images(4)
    decoded = 4 * decoder_output(likelihood, 4)
    assert_log_prob_is_that_of(Bernoulli(logits=decoded), likelihood(decoded).log_prob(x), x)


def test_bernoulli_samples_are_black_or_white() -> None:
    likelihood = make("bernoulli")
    samples = likelihood(decoder_output(likelihood, 50)).sample(torch.Generator().manual_seed(0))
    assert samples.unique().tolist() == [0.0, 1.0]


def test_bernoulli_error_on_grey_images_is_the_expected_error_of_binary_ones() -> None:
    likelihood = make("bernoulli")
    pixels = likelihood(decoder_output(likelihood, 1))
    grey = torch.full((1, *SPEC.image_shape), 0.3, dtype=torch.float64)
    white, black = torch.ones_like(grey), torch.zeros_like(grey)
    torch.testing.assert_close(
        pixels.reconstruction_loss(grey),
        0.3 * pixels.reconstruction_loss(white) + 0.7 * pixels.reconstruction_loss(black),
    )
