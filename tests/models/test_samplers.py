"""The contract of samplers, over every member; the mixture of normals against scipy and a known density."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from vaelab.models.priors import normal
from vaelab.models.samplers import Sampler, gmm
from vaelab.models.spec import Spec
from vaelab.system import registry

LATENTS = 2
every_sampler = pytest.mark.parametrize("name", registry.names("samplers"))
fitted_ones = pytest.mark.parametrize(
    "name", [name for name in registry.names("samplers") if registry.load("samplers", name).Sampler.needs_codes]
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Known:
    """A mixture of three correlated normals."""

    weights = np.array([0.2, 0.5, 0.3])
    means = np.array([[-3.0, 0.0], [1.0, 1.0], [2.0, -3.0]])
    scales = np.array([[[1.0, 0.0], [0.8, 0.3]], [[0.4, 0.0], [-0.2, 0.9]], [[0.7, 0.0], [0.0, 0.2]]])

    def draw(self, count: int, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        chosen = random.choice(3, count, p=self.weights)
        epsilon = random.standard_normal((count, LATENTS))
        return (self.means[chosen] + np.einsum("nij,nj->ni", self.scales[chosen], epsilon)).astype(np.float32)

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        each = [multivariate_normal(m, s @ s.T).logpdf(z) for m, s in zip(self.means, self.scales, strict=True)]
        return logsumexp(np.stack(each) + np.log(self.weights)[:, None], axis=0)


def make(name: str, codes: np.ndarray | None = None, latent_dim: int = LATENTS) -> Sampler:
    """A sampler of a model with the prior N(0, I), fitted to ``codes`` (default: 3000 of the known density)."""
    module = registry.load("samplers", name)
    sampler: Sampler = module.Sampler(Spec((1, 8, 8), latent_dim, 100), normal.StandardNormal(latent_dim))
    if sampler.needs_codes:
        sampler.fit(Known().draw(3000, 0) if codes is None else codes, seeded())
    return sampler


# -- every member -----------------------------------------------------------------------------------------------------


@every_sampler
@pytest.mark.parametrize("count", [0, 1, 7])
def test_shapes(name: str, count: int) -> None:
    sampler = make(name)
    z = sampler.sample(count, seeded())
    assert (z.shape, z.dtype, z.device.type) == ((count, LATENTS), torch.float32, "cpu")
    if count:
        assert sampler.log_prob(z).shape == (count,)


@every_sampler
def test_samples_are_a_function_of_the_generator(name: str) -> None:
    samples = [make(name).sample(9, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
    generator, sampler = seeded(1), make(name)
    assert not torch.equal(sampler.sample(9, generator), sampler.sample(9, generator)), "a generator goes on"


@every_sampler
def test_the_density_is_one_and_samples_follow_it(name: str) -> None:
    sampler, count = make(name), 40_000
    axis = torch.linspace(-12, 12, 801)
    codes = torch.cartesian_prod(axis, axis)
    mass = sampler.log_prob(codes).double().exp() * float(axis[1] - axis[0]) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    z = sampler.sample(count, seeded())

    def moments(codes: Tensor) -> Tensor:
        log_prob = sampler.log_prob(codes)[:, None]
        return torch.cat([log_prob, codes, codes.square(), codes.prod(1, keepdim=True)], 1).double()

    found = moments(z)
    error = found.std(0) / count**0.5
    assert bool(((found.mean(0) - mass @ moments(codes)).abs() < 4 * error + 1e-3).all())


@fitted_ones
def test_a_fit_to_many_codes_finds_their_density(name: str) -> None:
    known, held_out = Known(), Known().draw(20_000, 1)
    sampler = make(name, known.draw(20_000, 0))
    found = float(sampler.log_prob(torch.from_numpy(held_out)).mean())
    assert found == pytest.approx(known.log_prob(held_out).mean(), abs=0.05)


@fitted_ones
def test_a_fit_is_a_function_of_codes_and_generator(name: str) -> None:
    z = torch.from_numpy(Known().draw(50, 2))
    assert torch.equal(make(name).log_prob(z), make(name).log_prob(z))


@fitted_ones
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_codes_that_are_not_finite_are_refused(name: str, value: float) -> None:
    codes = Known().draw(100, 0)
    codes[7, 1] = value
    with pytest.raises(ValueError, match="not finite") as caught:
        make(name, codes)
    assert "\n" not in str(caught.value)


@fitted_ones
def test_codes_that_do_not_vary_leave_a_density(name: str) -> None:
    sampler = make(name, np.ones((50, LATENTS), np.float32))
    z = sampler.sample(5, seeded())
    torch.testing.assert_close(z, torch.ones(5, LATENTS), rtol=0, atol=0.05)
    assert bool(torch.isfinite(sampler.log_prob(z)).all())


# -- gmm --------------------------------------------------------------------------------------------------------------


def test_the_density_of_gmm_is_that_of_its_components() -> None:
    sampler = gmm.Sampler(Spec((1, 8, 8), LATENTS, 100), normal.StandardNormal(LATENTS), components=3)
    sampler.fit(Known().draw(20_000, 0), seeded())
    z = Known().draw(100, 1)
    fitted = sampler._mixture
    order = np.argsort(fitted.means_[:, 0])
    np.testing.assert_allclose(fitted.means_[order], Known.means, atol=0.05)
    np.testing.assert_allclose(fitted.weights_[order], Known.weights, atol=0.02)
    each = [multivariate_normal(m, c).logpdf(z) for m, c in zip(fitted.means_, fitted.covariances_, strict=True)]
    expected = logsumexp(np.stack(each) + np.log(fitted.weights_)[:, None], axis=0)
    np.testing.assert_allclose(sampler.log_prob(torch.from_numpy(z)), expected, rtol=1e-9)


def test_gmm_says_what_to_do_with_too_few_codes() -> None:
    with pytest.raises(ValueError, match=r"needs 10 codes or more, and there are 4; sample from the prior") as caught:
        make("gmm", Known().draw(4, 0))
    assert "\n" not in str(caught.value)
    assert make("gmm", Known().draw(10, 0)).sample(3, seeded()).shape == (3, LATENTS)
