"""The contract of priors over every member, the mixture against SciPy, VampPrior, and the KL by quadrature."""

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm
from small import CPU
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, kl_divergence

from vaelab import recipe
from vaelab.models.flows import AutoregressiveFlow
from vaelab.models.initialisation import initialise
from vaelab.models.posteriors import Posterior
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density, Prior, flow, mixture, normal, two_level, vamp
from vaelab.models.spec import Spec
from vaelab.models.vae import REQUIREMENTS
from vaelab.recipe import signature_schema
from vaelab.system import registry
from vaelab.system.errors import RecipeError
from vaelab.system.noise import GeneratorNoise, StepNoise

MODULES: dict[str, ModuleType] = {name: registry.load("priors", name) for name in registry.names("priors")}
POSTERIORS = {name: registry.load("posteriors", name) for name in registry.names("posteriors")}
every_prior = pytest.mark.parametrize("name", MODULES)
continuous = pytest.mark.parametrize(
    "name", [name for name, module in MODULES.items() if "continuous_posterior" in module.Prior.needs]
)
dimensions = pytest.mark.parametrize("latent_dim", [1, 2])
SHAPE = (1, 8, 8)
FEW = {"components": 7, "transforms": 2, "hidden": [4]}


class Inference(nn.Module):
    """The inference side of a small linear model, with gradients; a stand-in for a VAE."""

    def __init__(self, posterior: Posterior, condition_dim: int = 0) -> None:
        super().__init__()
        self.posterior = posterior
        self.layer = nn.Linear(math.prod(SHAPE) + condition_dim, posterior.num_parameters)

    def encode_batch(self, x: Tensor, condition: Tensor | None = None) -> Any:
        pixels = x.flatten(1) if condition is None else torch.cat([x.flatten(1), condition], 1)
        return self.posterior(self.layer(pixels))


def make(name: str, latent_dim: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Prior, Inference]:
    """A prior as after some training, every parameter moved a little, and a model with a posterior that it fits."""
    generator, spec = torch.Generator().manual_seed(0), Spec(SHAPE, latent_dim, 100)
    kind = MODULES[name].Prior
    few = {key: value for key, value in FEW.items() if key in signature_schema(kind)}
    prior: Prior = kind(spec, **few).to(dtype)
    fitting = [name for name, module in POSTERIORS.items() if prior.needs <= module.Posterior.provides]
    posterior = "diagonal" if "diagonal" in fitting else fitting[0]
    inference = Inference(POSTERIORS[posterior].Posterior(spec)).to(dtype)
    for part in (prior, inference):
        initialise(part, generator)
    for parameter in prior.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return prior, inference


def density_of(name: str, latent_dim: int = 3, dtype: torch.dtype = torch.float64) -> Density:
    prior, inference = make(name, latent_dim, dtype)
    density: Density = prior.requires_grad_(False)(inference.requires_grad_(False))
    return density


def noise(seed: int = 0) -> GeneratorNoise:
    return GeneratorNoise(torch.Generator().manual_seed(seed), CPU)


def grid(latent_dim: int, half_width: float = 12.0, points: int = 301) -> tuple[Tensor, float]:
    """Codes on a grid and the volume of a cell."""
    axis = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    codes = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, latent_dim)
    return codes, float(axis[1] - axis[0]) ** latent_dim


# -- every member -----------------------------------------------------------------------------------------------------


@every_prior
@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes_and_types(name: str, latent_dim: int, count: int) -> None:
    prior, inference = make(name, latent_dim, torch.float32)
    assert prior.provides | prior.needs <= REQUIREMENTS.keys()
    density = prior(inference)
    z = density.sample(count, noise())
    assert z.shape == (count, latent_dim)
    assert z.dtype == torch.float32
    assert density.log_prob(z).shape == (count,)
    assert density.log_prob(z.expand(2, 4, count, latent_dim)).shape == (2, 4, count)


@every_prior
def test_samples_are_a_function_of_the_noise(name: str) -> None:
    density = density_of(name)
    assert torch.equal(density.sample(6, StepNoise(1, CPU)), density.sample(6, StepNoise(1, CPU)))
    assert not torch.equal(density.sample(6, StepNoise(1, CPU)), density.sample(6, StepNoise(2, CPU)))


@every_prior
def test_the_kl_of_every_posterior_that_fits_is_finite(name: str) -> None:
    prior, _ = make(name)
    spec = Spec(SHAPE, 3, 100)
    for module in POSTERIORS.values():
        if not prior.needs <= module.Posterior.provides:
            continue
        inference = Inference(module.Posterior(spec)).double()
        initialise(inference, torch.Generator().manual_seed(1))
        density, q = prior(inference), inference.encode_batch(torch.rand(4, *SHAPE, dtype=torch.float64))
        for samples in (1, 5):
            kl = density.kl(q, q.draw(noise(), samples))
            assert kl.shape in ((4, 1), (4, 3))
            assert bool(torch.isfinite(kl).all())


@every_prior
def test_bfloat16_networks_leave_densities_in_float32(name: str) -> None:
    density = density_of(name, 16, torch.float32)
    z = density.sample(50, noise())
    exact = density.log_prob(z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = density.log_prob(z)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact)


@every_prior
def test_a_float32_model_measures_codes_in_float64(name: str) -> None:
    density = density_of(name, 16, torch.float32)
    z = density.sample(50, noise())
    wide = density.log_prob(z.double())
    assert wide.dtype == torch.float64, "the sum of many weights needs it"
    torch.testing.assert_close(wide.float(), density.log_prob(z))


# -- densities --------------------------------------------------------------------------------------------------------


@continuous
@dimensions
def test_the_density_integrates_to_one(name: str, latent_dim: int) -> None:
    codes, cell = grid(latent_dim)
    assert float(density_of(name, latent_dim).log_prob(codes).exp().sum() * cell) == pytest.approx(1, abs=1e-6)


@continuous
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


@continuous
def test_the_kl_matches_quadrature(name: str) -> None:
    """In one dimension: exact if there is a closed form, else within the error of the samples drawn."""
    density, count = density_of(name, 1), 20_000
    q = DiagonalNormal(torch.tensor([[0.7], [-1.5]]).double(), torch.tensor([[-1.0], [0.3]]).double())
    codes, cell = grid(1, points=20_001)
    log_q = q.log_prob(codes[:, None])
    expected = (log_q.exp() * (log_q - density.log_prob(codes)[:, None])).sum(0) * cell
    draw = q.draw(noise(), count)
    kl = density.kl(q, draw).sum(1)
    ratio = q.log_prob(draw.z) - density.log_prob(draw.z)
    is_closed = density.closed_kl(q) is not None
    error = torch.full_like(kl, 1e-9) if is_closed else 4 * ratio.std(0) / math.sqrt(count)
    assert bool(((kl - expected).abs() < error).all())


@continuous
def test_gradients_reach_the_parameters_and_the_codes(name: str) -> None:
    prior, inference = make(name)
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    prior(inference).log_prob(z).sum().backward()
    for tensor in (z, *prior.parameters()):
        assert tensor.grad is not None
        assert bool((tensor.grad != 0).any())
    assert torch.autograd.gradcheck(lambda codes: prior(inference).log_prob(codes), (z,))


@continuous
def test_distant_codes_have_a_finite_density_and_gradient(name: str) -> None:
    prior, inference = make(name, dtype=torch.float32)
    z = torch.tensor([[1e3, -1e3, 0.0]], requires_grad=True)
    log_prob = prior(inference).log_prob(z)
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
def test_the_density_of_the_mixture_matches_scipy(components: int, latent_dim: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, mean = random.normal(size=components), 2 * random.normal(size=(components, latent_dim))
    log_var, z = random.normal(size=(components, latent_dim)), 3 * random.normal(size=(7, latent_dim))
    each = norm(mean, np.exp(log_var / 2)).logpdf(z[:, None]).sum(-1)
    expected = logsumexp(each + logits - logsumexp(logits), axis=1)
    found = mixture.Mixture(*(torch.from_numpy(values) for values in (logits, mean, log_var))).log_prob(
        torch.from_numpy(z)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_mixture_draws_its_components_in_proportion_to_their_weights() -> None:
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
    density = mixture.Mixture(first.logits, first.mean, first.log_var)
    gap = normal.StandardNormal(4).log_prob(z) - density.log_prob(z)
    assert 0 < float(gap.mean()) < 1.5


# -- flow -------------------------------------------------------------------------------------------------------------


@dimensions
@pytest.mark.parametrize("univariate", ["affine", "spline"])
def test_a_flow_starts_as_the_normal_prior(latent_dim: int, univariate: Any) -> None:
    prior = flow.Prior(Spec(SHAPE, latent_dim, 100), univariate=univariate).requires_grad_(False)
    initialise(prior, torch.Generator().manual_seed(0))
    _, inference = make("flow")
    z = 3 * torch.randn(200, latent_dim)
    found, expected = prior(inference).log_prob(z), normal.StandardNormal(latent_dim).log_prob(z)
    if univariate == "affine":
        assert torch.equal(found, expected)
        assert torch.equal(prior(inference).sample(50, noise()), normal.StandardNormal(latent_dim).sample(50, noise()))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("univariate", ["affine", "spline"])
def test_samples_of_a_flow_are_the_inverse_of_its_noise(univariate: Any) -> None:
    transform = AutoregressiveFlow(3, 2, transforms=3, hidden=[8], univariate=univariate).double().requires_grad_(False)
    for parameter in transform.parameters():
        parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    x, context = torch.randn(2, 20, 3).double(), torch.randn(20, 2).double()
    y, log_determinant = transform(x, context)
    torch.testing.assert_close(transform.inverse(y, context), x, rtol=1e-6, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda z: transform(z, context[:1])[0], x[0, :1])[0, :, 0]
    assert float(log_determinant[0, 0]) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-9)


# -- two levels -------------------------------------------------------------------------------------------------------


def make_two_level(hidden: list[int], latent_dim: int = 5, top: float = 0.4) -> tuple[two_level.Prior, Density]:
    prior = two_level.Prior(Spec(SHAPE, latent_dim, 100), top=top, hidden=hidden).double().requires_grad_(False)
    initialise(prior, torch.Generator().manual_seed(0))
    return prior, prior(make("normal")[1])


@pytest.mark.parametrize("top", [0.01, 0.4, 1.0])
def test_two_levels_start_as_the_normal_prior(top: float) -> None:
    _, density = make_two_level([8], top=top)
    z, plain = 3 * torch.randn(50, 5).double(), normal.StandardNormal(5)
    torch.testing.assert_close(density.log_prob(z), plain.log_prob(z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(density.sample(50, noise()), plain.sample(50, noise()))


def test_two_levels_with_a_linear_mean_are_one_normal_distribution() -> None:
    """z₁ = W z₂ + b + s ε has mean b and covariance W Wᵀ + diag s², and the covariance W with z₂."""
    prior, density = make_two_level([])
    w, b, log_var = torch.randn(3, 2).double(), torch.randn(3).double(), torch.randn(3).double()
    prior.network[0].weight[:3], prior.network[0].bias[:] = w, torch.cat([b, log_var])
    covariance = torch.cat([torch.cat([w @ w.T + log_var.exp().diag(), w], 1), torch.cat([w.T, torch.eye(2)], 1)])
    joint = MultivariateNormal(torch.cat([b, torch.zeros(2)]).double(), covariance)
    z = 2 * torch.randn(50, 5).double()
    torch.testing.assert_close(density.log_prob(z), joint.log_prob(z), rtol=1e-9, atol=1e-9)
    mean, log_var = torch.randn(3, 5).double(), torch.randn(3, 5).double()
    q = DiagonalNormal(mean, log_var)
    exact = kl_divergence(MultivariateNormal(mean, torch.diag_embed(log_var.exp())), joint)
    draw = q.draw(noise(), 20_000)
    error = (q.log_prob(draw.z) - density.log_prob(draw.z)).std(0) / math.sqrt(20_000)
    assert bool(((density.kl(q, draw)[:, 0] - exact).abs() < 2 * error).all())


# -- VampPrior --------------------------------------------------------------------------------------------------------


def make_vamp(posterior: str = "diagonal", condition_names: tuple[str, ...] = ()) -> tuple[vamp.Prior, Inference]:
    spec = Spec(SHAPE, 3, 100, "label" if condition_names else "none", condition_names)
    prior = vamp.Prior(spec, components=20).double()
    inference = Inference(POSTERIORS[posterior].Posterior(spec), len(condition_names)).double()
    for part in (prior, inference):
        initialise(part, torch.Generator().manual_seed(0))
    return prior, inference


@pytest.mark.parametrize("condition_names", [(), ("a", "b")])
def test_vamp_is_the_mixture_of_the_posteriors_of_its_pseudo_inputs(condition_names: tuple[str, ...]) -> None:
    """Gradients reach the pseudo-inputs, their conditions and the encoder."""
    prior, inference = make_vamp(condition_names=condition_names)
    q = inference.encode_batch(prior.inputs, None if prior.conditions is None else prior.conditions.softmax(1))
    expected = mixture.Mixture(torch.zeros(len(prior.inputs)).double(), q.mean, q.log_var)
    z = 3 * torch.randn(50, 3, dtype=torch.float64)
    found = prior(inference).log_prob(z)
    torch.testing.assert_close(found, expected.log_prob(z), rtol=1e-10, atol=1e-10)
    found.sum().backward()
    assert all(bool((p.grad != 0).any()) for p in (*prior.parameters(), *inference.parameters()))
    assert prior(inference).sample(7, noise()).shape == (7, 3)


def test_vamp_with_full_covariance_matches_the_mixture_of_torch() -> None:
    prior, inference = make_vamp("full_covariance")
    q = inference.encode_batch(prior.inputs.detach())
    components = MultivariateNormal(q.mean, scale_tril=q.scale)
    expected = MixtureSameFamily(Categorical(torch.ones(len(q.mean)).double()), components)
    z = 2 * torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(prior(inference).log_prob(z), expected.log_prob(z), rtol=1e-9, atol=1e-9)
    assert prior(inference).sample(7, noise()).shape == (7, 3)


@pytest.mark.parametrize("mean", [-0.05, 0.0, 1.0])
def test_pseudo_inputs_that_cannot_learn_are_refused_by_a_new_training_alone(mean: float) -> None:
    prior = vamp.Prior(Spec((1, 8, 8), 3, 100), components=4, start_mean=mean)  # as in the recipe of an older run
    with pytest.raises(RecipeError) as caught:
        initialise(prior, torch.Generator().manual_seed(0))
    assert (caught.value.subject, caught.value.value) == ("prior.start_mean", mean)


@pytest.mark.parametrize("name", ["static-mnist-vamp", "mnist"])
def test_pseudo_inputs_learn_from_the_first_step(name: str) -> None:
    chosen = recipe.load(name, {"prior.name": "vamp"}).prior
    options = {key: value for key, value in chosen.items() if key != "name"} | {"components": 20}
    prior, inference = vamp.Prior(Spec((1, 8, 8), 3, 100), **options).double(), make_vamp()[1]
    initialise(prior, torch.Generator().manual_seed(0))
    prior(inference).log_prob(torch.zeros(5, 3, dtype=torch.float64)).sum().backward()
    assert float((prior.inputs.grad != 0).double().mean()) > 0.99


def test_pseudo_inputs_start_at_the_given_distribution() -> None:
    prior = vamp.Prior(Spec((1, 8, 8), 3, 100), components=40, start_mean=0.05, start_std=0.01)
    initialise(prior, torch.Generator().manual_seed(0))
    assert prior.inputs.shape == (40, 1, 8, 8)
    inputs = prior.inputs.detach()
    assert float(inputs.mean()) == pytest.approx(0.05, abs=1e-3)
    assert float(inputs.std()) == pytest.approx(0.01, rel=0.05)
