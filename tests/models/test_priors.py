"""The contract of priors, over every member; the mixture against the normal prior and scipy; the KL of both."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm
from small import CPU
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.models.posteriors import PosteriorDistribution
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density, Prior, mixture, normal, vamp
from vaelab.models.spec import Spec
from vaelab.models.vae import REQUIREMENTS, initialise
from vaelab.system import registry
from vaelab.system.seeds import GeneratorNoise, StepNoise

every_prior = pytest.mark.parametrize("name", registry.names("priors"))
dimensions = pytest.mark.parametrize("latent_dim", [1, 2])


def encoder_of(latent_dim: int) -> Callable[[Tensor], PosteriorDistribution]:
    """An encoder in place of a model's."""

    def encode(x: Tensor) -> PosteriorDistribution:
        mean, log_var = x.flatten(1)[:, :latent_dim], x.flatten(1)[:, -latent_dim:]
        return DiagonalNormal(4 * mean - 2, log_var - 1)

    return encode


ENCODE = encoder_of(3)


def make(name: str, latent_dim: int = 3, seed: int = 0) -> Prior:
    """A prior as after some training: every parameter moved a little."""
    generator = torch.Generator().manual_seed(seed)
    prior: Prior = registry.load("priors", name).Prior(Spec((1, 8, 8), latent_dim, 100)).double()
    initialise(prior, generator)
    for parameter in prior.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return prior


def density_of(name: str, latent_dim: int = 3) -> Density:
    return make(name, latent_dim).requires_grad_(False)(encoder_of(latent_dim))


def noise(seed: int = 0) -> GeneratorNoise:
    return GeneratorNoise(torch.Generator().manual_seed(seed), CPU)


def grid(latent_dim: int, half_width: float = 12.0, points: int = 601) -> tuple[Tensor, float]:
    """Codes on a grid and the volume of a cell."""
    axis = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    codes = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, latent_dim)
    return codes, float(axis[1] - axis[0]) ** latent_dim


# -- every member -----------------------------------------------------------------------------------------------------


@every_prior
@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes(name: str, latent_dim: int, count: int) -> None:
    prior = make(name, latent_dim).float()
    assert prior.provides <= REQUIREMENTS.keys()
    density = prior(encoder_of(latent_dim))
    z = density.sample(count, noise())
    assert z.shape == (count, latent_dim)
    assert z.dtype == torch.float32
    assert density.log_prob(z).shape == (count,)
    assert density.log_prob(z.expand(2, 4, count, latent_dim)).shape == (2, 4, count)


@every_prior
@dimensions
def test_the_density_is_one(name: str, latent_dim: int) -> None:
    codes, cell = grid(latent_dim)
    assert float(density_of(name, latent_dim).log_prob(codes).exp().sum() * cell) == pytest.approx(1, abs=1e-8)


@every_prior
@dimensions
def test_samples_follow_the_density(name: str, latent_dim: int) -> None:
    """Their mean ln p, first and second moments are those of quadrature."""
    density, count = density_of(name, latent_dim), 40_000
    codes, cell = grid(latent_dim)
    mass = density.log_prob(codes).exp() * cell
    z = density.sample(count, noise()).double()
    for found, expected in (
        (density.log_prob(z)[:, None], density.log_prob(codes)[:, None]),
        (z, codes),
        (z.square(), codes.square()),
        (z.prod(1, keepdim=True), codes.prod(1, keepdim=True)),
    ):
        error = found.std(0) / math.sqrt(count)
        assert bool(((found.mean(0) - mass @ expected).abs() < 4 * error).all())


@every_prior
def test_samples_are_a_function_of_the_noise(name: str) -> None:
    density = density_of(name)
    assert torch.equal(density.sample(6, StepNoise(1, CPU)), density.sample(6, StepNoise(1, CPU)))
    assert not torch.equal(density.sample(6, StepNoise(1, CPU)), density.sample(6, StepNoise(2, CPU)))


@every_prior
def test_the_kl_is_that_of_quadrature(name: str) -> None:
    """In one dimension: exact where there is a closed form, else within the error of the samples drawn."""
    density, count = density_of(name, 1), 20_000
    q = DiagonalNormal(torch.tensor([[0.7], [-1.5]]).double(), torch.tensor([[-1.0], [0.3]]).double())
    codes, cell = grid(1, points=20_001)
    log_q = q.log_prob(codes[:, None])
    expected = (log_q.exp() * (log_q - density.log_prob(codes)[:, None])).sum(0) * cell
    draw = q.draw(noise(), count)
    kl = density.kl(q, draw).sum(1)
    ratio = q.log_prob(draw.z) - density.log_prob(draw.z)
    is_closed = not torch.allclose(kl, ratio.mean(0), rtol=1e-12, atol=0)
    error = torch.full_like(kl, 1e-9) if is_closed else 4 * ratio.std(0) / math.sqrt(count)
    assert bool(((kl - expected).abs() < error).all())


@every_prior
def test_the_kl_of_any_posterior_is_one_number_per_image_and_group(name: str) -> None:
    density = density_of(name)
    for posterior in registry.names("posteriors"):
        q = registry.load("posteriors", posterior).Posterior(Spec((1, 8, 8), 3, 100))
        distribution = q(torch.randn(4, q.num_parameters, dtype=torch.float64))
        for samples in (1, 5):
            kl = density.kl(distribution, distribution.draw(noise(), samples))
            assert kl.shape in ((4, 1), (4, 3))
            assert bool(torch.isfinite(kl).all())


@every_prior
def test_gradients_reach_the_parameters_and_the_codes(name: str) -> None:
    prior = make(name)
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    prior(ENCODE).log_prob(z).sum().backward()
    for tensor in (z, *prior.parameters()):
        assert tensor.grad is not None
        assert bool((tensor.grad != 0).any())
    assert torch.autograd.gradcheck(lambda codes: prior(ENCODE).log_prob(codes), (z,))


@every_prior
def test_bfloat16_networks_leave_densities_in_float32(name: str) -> None:
    density, z = make(name, 16).float()(encoder_of(16)), torch.randn(50, 16)
    exact = density.log_prob(z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = density.log_prob(z)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact)


@every_prior
def test_codes_far_away_have_a_finite_density_and_gradient(name: str) -> None:
    z = torch.tensor([[1e3, -1e3, 0.0]], requires_grad=True)
    log_prob = make(name).float()(ENCODE).log_prob(z)
    log_prob.sum().backward()
    assert bool(torch.isfinite(log_prob).all())
    assert bool(torch.isfinite(z.grad).all())


# -- normal and mixture -----------------------------------------------------------------------------------------------


def one_component(mean: Tensor, log_var: Tensor) -> mixture.Mixture:
    return mixture.Mixture(torch.tensor([0.3]).double(), mean[None], log_var[None])


def test_a_mixture_of_one_standard_normal_is_the_normal_prior() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    ours, plain = one_component(zeros, zeros), normal.StandardNormal(3)
    z = 3 * torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(z), plain.log_prob(z), rtol=1e-12, atol=1e-12)
    q = DiagonalNormal(torch.randn(4, 3).double(), torch.randn(4, 3).double())
    draw = q.draw(noise(), 20_000)
    error = (q.log_prob(draw.z) - plain.log_prob(draw.z)).std(0) / math.sqrt(20_000)
    assert bool(((ours.kl(q, draw)[:, 0] - plain.kl(q, draw).sum(1)).abs() < 4 * error).all())


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_the_mixtures_density_is_that_of_scipy(components: int, latent_dim: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, mean = random.normal(size=components), 2 * random.normal(size=(components, latent_dim))
    log_var, z = random.normal(size=(components, latent_dim)), 3 * random.normal(size=(7, latent_dim))
    each = norm(mean, np.exp(log_var / 2)).logpdf(z[:, None]).sum(-1)
    expected = logsumexp(each + logits - logsumexp(logits), axis=1)
    found = mixture.Mixture(*(torch.from_numpy(values) for values in (logits, mean, log_var))).log_prob(
        torch.from_numpy(z)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_mixture_draws_its_components_as_often_as_it_weighs_them() -> None:
    weights = torch.tensor([0.5, 0.0, 0.2, 0.3]).double()
    means = torch.arange(4.0).double()[:, None] * 100
    drawn = mixture.Mixture(weights.log(), means, torch.zeros(4, 1).double()).sample(40_000, noise())
    found = torch.bincount((drawn[:, 0] / 100).round().long(), minlength=4) / 40_000
    assert bool(((found - weights).abs() <= 4 * (weights * (1 - weights) / 40_000).sqrt()).all())


def test_a_mixture_begins_near_the_normal_prior_from_the_seed() -> None:
    first, same, other = (mixture.Prior(Spec((1, 8, 8), 4, 100), components=6) for _ in range(3))
    for prior, seed in ((first, 0), (same, 0), (other, 1)):
        initialise(prior.requires_grad_(False), torch.Generator().manual_seed(seed))
    assert torch.equal(first.mean, same.mean)
    assert not torch.equal(first.mean, other.mean)
    assert first.mean.shape == (6, 4)
    assert float(first.log_var.abs().max()) == float(first.logits.abs().max()) == 0
    z = normal.StandardNormal(4).sample(5000, noise())
    gap = normal.StandardNormal(4).log_prob(z) - first(encoder_of(4)).log_prob(z)
    assert 0 < float(gap.mean()) < 1.5


# -- VampPrior --------------------------------------------------------------------------------------------------------


def test_vamp_prior_is_the_mixture_of_its_pseudo_inputs_posteriors() -> None:
    prior = make("vamp")
    q = ENCODE(prior.inputs.detach().clamp(0, 1))
    same = mixture.Mixture(torch.zeros(len(q.mean)).double(), q.mean, q.log_var)
    z = 3 * torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(prior(ENCODE).log_prob(z), same.log_prob(z), rtol=1e-10, atol=1e-10)


def test_vamp_prior_takes_any_posterior() -> None:
    """With full-covariance posteriors it is torch's mixture of multivariate normal distributions."""
    posterior = registry.load("posteriors", "full_covariance").Posterior(Spec((1, 8, 8), 3, 100))

    def encode(x: Tensor) -> PosteriorDistribution:
        q: PosteriorDistribution = posterior(x.flatten(1)[:, : posterior.num_parameters])
        return q

    prior = make("vamp")
    q = encode(prior.inputs.detach().clamp(0, 1))
    components = MultivariateNormal(q.mean, scale_tril=q.scale)
    expected = MixtureSameFamily(Categorical(torch.ones(len(q.mean)).double()), components)
    z = 2 * torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(prior(encode).log_prob(z), expected.log_prob(z), rtol=1e-9, atol=1e-9)
    assert prior(encode).sample(7, noise()).shape == (7, 3)


def test_pseudo_inputs_start_where_the_recipe_says() -> None:
    prior = vamp.Prior(Spec((1, 8, 8), 3, 100), components=40, start_mean=-0.05, start_std=0.01)
    initialise(prior, torch.Generator().manual_seed(0))
    assert prior.inputs.shape == (40, 1, 8, 8)
    inputs = prior.inputs.detach()
    assert float(inputs.mean()) == pytest.approx(-0.05, abs=1e-3)
    assert float(inputs.std()) == pytest.approx(0.01, rel=0.05)
