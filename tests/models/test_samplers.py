"""The contract of samplers, over every member; members against SciPy, scikit-learn and known densities."""

import math
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity
from small import make_images, make_recipe, make_state
from torch import Tensor

from vaelab.models.codes import CodeSamples
from vaelab.models.initialisation import initialise
from vaelab.models.posteriors import fsq
from vaelab.models.priors import mixture, normal
from vaelab.models.priors.uniform import UniformCodes
from vaelab.models.samplers import Sampler, autoregressive, gmm, make_sampler
from vaelab.models.spec import Spec
from vaelab.models.vae import REQUIREMENTS
from vaelab.recipe import signature_schema
from vaelab.system import registry
from vaelab.system.errors import InputError, UnknownName, UsageError

pytestmark = pytest.mark.slow
LATENTS = 2
MODULES: dict[str, ModuleType] = {name: registry.load("samplers", name) for name in registry.names("samplers")}
FEW = {"steps": 80, "hidden": 16, "width": 16, "layers": 1}
SPEC = Spec((1, 8, 8), LATENTS, 100)
CODEBOOK = fsq.Posterior(SPEC, levels=[9])
every_sampler = pytest.mark.parametrize("name", MODULES)
fitted_ones = pytest.mark.parametrize("name", [name for name, m in MODULES.items() if m.Sampler.needs_codes])
exact_ones = pytest.mark.parametrize(
    "name",
    [name for name, m in MODULES.items() if not m.Sampler.is_bound and "quantised_posterior" not in m.Sampler.needs],
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class KnownMixture:
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


def as_samples(z: np.ndarray) -> CodeSamples:
    """Codes of posteriors with a small variance around them."""
    return CodeSamples(z, z, np.full_like(z, -4.0))


def make_unfitted(name: str) -> Sampler:
    """A sampler of a model with the prior N(0, I), or with a prior of quantised codes."""
    kind = MODULES[name].Sampler
    density = UniformCodes(CODEBOOK) if "quantised_posterior" in kind.needs else normal.StandardNormal(LATENTS)
    options = {key: value for key, value in FEW.items() if key in signature_schema(kind)}
    sampler: Sampler = kind(SPEC, density, **options)
    sampler.name = name
    return sampler


def fit(name: str, codes: np.ndarray) -> Sampler:
    """A sampler that is fitted, if it needs codes."""
    sampler = make_unfitted(name)
    if sampler.needs_codes:
        sampler.fit(as_samples(codes), seeded())
    return sampler


@cache
def make(name: str) -> Sampler:
    """A sampler that is fitted, if it needs codes, to 1000 of the known mixture."""
    return fit(name, KnownMixture().draw(1000, 0))


# -- every member -----------------------------------------------------------------------------------------------------


@every_sampler
@pytest.mark.parametrize("count", [0, 1, 7])
def test_shapes_and_types(name: str, count: int) -> None:
    sampler = make(name)
    assert sampler.needs <= REQUIREMENTS.keys()
    assert sampler.protocol["sampler"] == name
    z = sampler.sample(count, seeded())
    assert (z.shape, z.dtype, z.device.type) == ((count, LATENTS), torch.float32, "cpu")
    if count:
        assert sampler.log_prob(z).shape == (count,)


@every_sampler
def test_samples_are_a_function_of_the_generator(name: str) -> None:
    sampler = make(name)
    samples = [sampler.sample(9, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
    generator = seeded(1)
    assert not torch.equal(sampler.sample(9, generator), sampler.sample(9, generator)), "the generator advances"


@every_sampler
def test_everything_that_was_fitted_is_in_the_state(name: str) -> None:
    fitted, other, z = make(name), make_unfitted(name), torch.from_numpy(KnownMixture().draw(50, 2))
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.sample(9, seeded()), fitted.sample(9, seeded()))
    assert torch.equal(other.log_prob(z), fitted.log_prob(z))
    assert other.protocol == fitted.protocol


@every_sampler
def test_held_out_codes_are_compared_with_the_prior(name: str) -> None:
    sampler, held_out = make(name), KnownMixture().draw(4000, 1)
    found = sampler.compare_with_prior(held_out)
    z = torch.from_numpy(held_out)
    prior = sampler.density.log_prob(z).double()
    assert found["prior_log_prob"] == pytest.approx(float(prior.mean()))
    assert found["log_prob"] == pytest.approx(float(sampler.log_prob(z).double().mean()))
    assert found["gain"] == pytest.approx(found["log_prob"] - found["prior_log_prob"])
    assert found["prior_log_prob_standard_error"] == pytest.approx(float(prior.std()) / math.sqrt(4000))
    assert (found["gain"] > 1) == sampler.needs_codes
    if "quantised_posterior" not in sampler.needs:
        assert found["log_prob"] < KnownMixture().log_prob(held_out).mean() + 0.05


@exact_ones
def test_the_density_integrates_to_one_and_samples_follow_it(name: str) -> None:
    sampler, count = make(name), 10_000
    axis = torch.linspace(-12, 12, 201)
    codes = torch.cartesian_prod(axis, axis)
    mass = sampler.log_prob(codes).double().exp() * float(axis[1] - axis[0]) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)
    z = sampler.sample(count, seeded())

    def moments(codes: Tensor) -> Tensor:
        log_prob = sampler.log_prob(codes)[:, None]
        return torch.cat([log_prob, codes, codes.square(), codes.prod(1, keepdim=True)], 1).double()

    found = moments(z)
    error = found.std(0) / count**0.5
    assert bool(((found.mean(0) - mass @ moments(codes)).abs() < 4 * error + 1e-3).all())


@fitted_ones
def test_a_fit_is_a_function_of_codes_and_generator(name: str) -> None:
    codes = KnownMixture().draw(300, 0)
    z = torch.from_numpy(KnownMixture().draw(50, 2))
    assert torch.equal(fit(name, codes).log_prob(z), fit(name, codes).log_prob(z))


@fitted_ones
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_codes_that_are_not_finite_are_refused(name: str, value: float) -> None:
    codes = KnownMixture().draw(100, 0)
    codes[7, 1] = value
    with pytest.raises(InputError) as caught:
        fit(name, codes)
    assert caught.value.subject == "codes"


@fitted_ones
def test_constant_codes_leave_finite_samples_and_densities(name: str) -> None:
    sampler = fit(name, np.ones((50, LATENTS), np.float32))
    z = sampler.sample(5, seeded())
    assert bool(torch.isfinite(z).all())
    assert bool(torch.isfinite(sampler.log_prob(z)).all())


# -- by name ----------------------------------------------------------------------------------------------------------


def test_a_sampler_is_made_and_fitted_by_name() -> None:
    data = make_images(60)
    model = make_state(make_recipe(), data).vae
    first, second = (make_sampler("gmm", model, lambda: data) for _ in range(2))
    assert first.protocol["codes"] == 60
    assert torch.equal(first.sample(3, seeded()), second.sample(3, seeded()))
    prior = make_sampler("prior", model, lambda: pytest.fail("the prior needs no images"))
    assert torch.equal(prior.sample(3, seeded()), torch.randn(3, LATENTS, generator=seeded()))
    with pytest.raises(UnknownName) as caught:
        make_sampler("kde", model, lambda: data)
    assert caught.value.choices == registry.names("samplers")


# -- gmm --------------------------------------------------------------------------------------------------------------


def test_gmm_finds_a_known_mixture() -> None:
    sampler = fit_gmm(KnownMixture().draw(20_000, 0), 3)
    z = KnownMixture().draw(20_000, 1)
    weights, means, covariances = (value.numpy() for value in sampler.mixture)
    order = np.argsort(means[:, 0])
    np.testing.assert_allclose(means[order], KnownMixture.means, atol=0.05)
    np.testing.assert_allclose(weights[order], KnownMixture.weights, atol=0.02)
    each = [multivariate_normal(m, c).logpdf(z) for m, c in zip(means, covariances, strict=True)]
    expected = logsumexp(np.stack(each) + np.log(weights)[:, None], axis=0)
    found = sampler.log_prob(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.mean() == pytest.approx(KnownMixture().log_prob(z).mean(), abs=0.05)


def fit_gmm(codes: np.ndarray, components: int | Literal["auto"] = "auto") -> gmm.Sampler:
    spec = Spec((1, 8, 8), codes.shape[1], 100)
    sampler = gmm.Sampler(spec, normal.StandardNormal(codes.shape[1]), components=components)
    sampler.fit(as_samples(codes), seeded())
    return sampler


def test_gmm_needs_as_many_codes_as_components() -> None:
    with pytest.raises(InputError) as caught:
        fit_gmm(KnownMixture().draw(4, 0), 10)
    assert (caught.value.subject, caught.value.value) == ("codes", 4)
    assert fit_gmm(KnownMixture().draw(10, 0), 10).sample(3, seeded()).shape == (3, LATENTS)
    with pytest.raises(InputError):
        fit_gmm(KnownMixture().draw(1, 0))


def test_gmm_chooses_its_number_of_components_by_held_out_codes() -> None:
    found = fit_gmm(KnownMixture().draw(7000, 0)).protocol
    assert (found["components"], found["codes"]) == (len(KnownMixture.weights), 7000)
    few_in_many_dimensions = np.random.default_rng(0).normal(size=(150, 20))
    assert fit_gmm(few_in_many_dimensions).protocol["components"] == 1
    assert fit_gmm(KnownMixture().draw(4, 0)).protocol["components"] == 1
    ring = np.random.default_rng(0).normal(size=(3000, 2))
    ring = 3 * ring / np.linalg.norm(ring, axis=1, keepdims=True) + np.random.default_rng(1).normal(size=(3000, 2)) / 9
    assert fit_gmm(ring).protocol["components"] >= 10


# -- aggregate --------------------------------------------------------------------------------------------------------


def test_aggregate_posteriors_of_one_width_are_the_kernel_density_of_scikit_learn() -> None:
    codes, z = KnownMixture().draw(500, 0), KnownMixture().draw(50, 1)
    expected = KernelDensity(bandwidth=math.exp(-2)).fit(codes).score_samples(z)
    np.testing.assert_allclose(fit("aggregate", codes).log_prob(torch.from_numpy(z)).numpy(), expected, rtol=1e-6)


def test_aggregate_is_the_mixture_of_posteriors_of_any_width() -> None:
    mean, log_var = torch.randn(2, 30, LATENTS, generator=seeded()).double()
    sampler = make_unfitted("aggregate")
    sampler.fit(CodeSamples(mean.numpy(), mean.numpy(), log_var.numpy()), seeded())
    expected = mixture.Mixture(torch.zeros(30).double(), mean, log_var)
    z = torch.from_numpy(KnownMixture().draw(50, 1))
    torch.testing.assert_close(sampler.log_prob(z), expected.log_prob(z.double()), rtol=1e-9, atol=1e-9)


def test_aggregate_of_correlated_posteriors_is_refused() -> None:
    data = make_images(60)
    model = make_state(make_recipe(posterior__name="full_covariance"), data).vae
    with pytest.raises(UsageError) as caught:
        make_sampler("aggregate", model, lambda: data)
    assert (caught.value.subject, caught.value.value) == ("sampler", "aggregate")


# -- autoregressive ---------------------------------------------------------------------------------------------------


def known_codes() -> tuple[fsq.Posterior, Tensor, Tensor]:
    """Three positions with three entries, all 27 codes, and a distribution in which the positions depend."""
    codebook = fsq.Posterior(Spec((1, 8, 8), 3, 100), levels=[3])
    every = codebook.lookup(torch.cartesian_prod(*[torch.arange(3)] * 3))
    return codebook, every, torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(27, 0.3)))


def test_autoregressive_probabilities_sum_to_one_and_samples_follow_them() -> None:
    codebook, every, _ = known_codes()
    sampler = autoregressive.Sampler(SPEC, UniformCodes(codebook), width=8, layers=2)
    for parameter in sampler.parameters():  # far from uniform
        parameter.data = 1.5 * torch.randn(parameter.shape, generator=seeded())
    p = sampler.log_prob(every).double().exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert float(p.max() / p.min()) > 100
    index = codebook.indices(sampler.sample(20_000, seeded())) @ torch.tensor([9, 3, 1])
    share = torch.bincount(index, minlength=27) / 20_000
    assert bool(((share - p).abs() < 4 * (p / 20_000).sqrt() + 1e-4).all())


def test_autoregressive_recovers_a_known_distribution() -> None:
    codebook, every, p = known_codes()
    rows = torch.multinomial(p, 20_000, replacement=True, generator=seeded())
    sampler = autoregressive.Sampler(SPEC, UniformCodes(codebook), width=32, layers=1, steps=300)
    sampler.fit(as_samples(every[rows].numpy()), seeded())
    independent = [sum(p.view(3, 3, 3).sum(axes).log()[i] for axes, i in zip(((1, 2), (0, 2), (0, 1)), c, strict=True))
                   for c in np.ndindex(3, 3, 3)]  # fmt: skip
    gaps = [float((p * (p.log() - q.double())).sum()) for q in (sampler.log_prob(every), torch.stack(independent))]
    assert 0 < gaps[0] < 0.03 < 0.3 < gaps[1], "Kullback-Leibler divergences from both"


def test_autoregressive_refuses_a_codebook_without_bounds(wording: Callable[[object], None]) -> None:
    codebook = fsq.Posterior(SPEC, levels=[1024, 1024])
    with pytest.raises(InputError) as caught:
        autoregressive.Sampler(SPEC, UniformCodes(codebook))
    assert (caught.value.subject, caught.value.value) == ("sampler", 1 << 20)
    wording(caught.value)


# -- networks on a known density --------------------------------------------------------------------------------------


def fitted_with(name: str, codes: np.ndarray, steps: int) -> Sampler:
    kind: type[Sampler] = MODULES[name].Sampler
    sampler = kind(Spec((1, 8, 8), LATENTS, 100), normal.StandardNormal(LATENTS), hidden=64, steps=steps)
    sampler.fit(as_samples(codes), seeded())
    return sampler


@pytest.mark.slow
def test_a_flow_comes_near_the_density_of_a_known_mixture() -> None:
    sampler, z = fitted_with("flow", KnownMixture().draw(20_000, 0), 400), KnownMixture().draw(4000, 1)
    gap = KnownMixture().log_prob(z) - sampler.log_prob(torch.from_numpy(z)).numpy()
    assert -4 * gap.std() / 4000**0.5 < gap.mean() < 0.2


@pytest.mark.slow
def test_a_second_vae_reaches_the_density_of_a_known_normal() -> None:
    """Its bound is exact if its posterior is."""
    known = multivariate_normal([3, -1], [[2.0, 1.2], [1.2, 1.0]])
    train, z = (known.rvs(count, random_state=count).astype(np.float32) for count in (5000, 2000))
    gap = known.logpdf(z) - fitted_with("two_stage", train, 500).log_prob(torch.from_numpy(z)).numpy()
    assert -4 * gap.std() / 2000**0.5 < gap.mean() < 0.1


def test_an_unfitted_flow_is_the_standard_normal() -> None:
    sampler, z = make_unfitted("flow"), torch.randn(50, LATENTS, generator=seeded())
    initialise(sampler, seeded())
    torch.testing.assert_close(sampler.log_prob(z), normal.StandardNormal(LATENTS).log_prob(z))


@pytest.mark.parametrize("name", ["flow", "two_stage"])
def test_the_scale_of_the_codes_does_not_matter(name: str) -> None:
    codes, z = KnownMixture().draw(400, 0), KnownMixture().draw(50, 1)
    factor = np.float32([1024, 1 / 64])
    found, moved = fit(name, codes), fit(name, codes * factor)
    expected = found.log_prob(torch.from_numpy(z)) - math.log(16)
    torch.testing.assert_close(moved.log_prob(torch.from_numpy(z * factor)), expected)
