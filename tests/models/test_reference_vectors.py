"""Reference vectors of KL, likelihoods, objectives and probabilistic PCA, in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenDecoder, GivenEncoder, GivenLikelihood, GivenNoise
from given import given_vae as make_vae
from small import compute_terms, forward
from torch import Tensor, nn
from vectors import Case

from vaelab import recipe
from vaelab.build import beta_equivalents
from vaelab.models import networks
from vaelab.models.bounds import elbo, log_weights
from vaelab.models.likelihoods.bernoulli import BernoulliPixels
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors.diagonal import DiagonalNormal, Posterior
from vaelab.models.priors.normal import Prior, StandardNormal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import registry

# -- KL of diagonal normal distributions ------------------------------------------------------------------------------


def test_kl_to_the_standard_prior() -> None:
    case = Case("gaussian_kl/standard_prior")
    kl = DiagonalNormal(case.mu, case.logvar).kl_to_standard_normal()
    case.expect("per_dim", kl)
    case.expect("per_image", kl.sum(1))
    case.expect("mean", kl.sum(1).mean())


def test_kl_to_a_general_prior() -> None:
    case = Case("gaussian_kl/general_diagonal_prior")
    prior = DiagonalNormal(case.prior_mu, case.prior_logvar)
    case.expect("per_image", DiagonalNormal(case.mu, case.logvar).kl(prior).sum(1))


def test_kl_of_extreme_posteriors() -> None:
    case = Case("gaussian_kl/extreme")
    case.expect("per_dim", DiagonalNormal(case.mu, case.logvar).kl_to_standard_normal())


# -- likelihoods ------------------------------------------------------------------------------------------------------


def pixels_of(name: str, decoded: Tensor, **options: float) -> Any:
    """The pixel distribution that the likelihood ``name`` returns for a decoder's output."""
    _, *image_shape = decoded.shape
    facts = Spec(tuple(image_shape), latent_dim=2, num_images=len(decoded))
    return registry.load("likelihoods", name).Likelihood(facts, **options)(decoded)


def test_bernoulli_from_logits() -> None:
    case = Case("bernoulli/logits")
    log_prob = pixels_of("bernoulli", case.logits).log_prob(case.x)
    case.expect("log_prob_per_image", log_prob)
    case.expect("nll_mean", -log_prob.mean())


def test_bernoulli_from_extreme_logits() -> None:
    case = Case("bernoulli/extreme_logits")
    case.expect(
        "log_prob_per_image", pixels_of("bernoulli", case.logits[:, None, None]).log_prob(case.x[:, None, None])
    )


def test_bernoulli_on_grey_images_is_a_cross_entropy_with_a_floor() -> None:
    case = Case("bernoulli/grey_cross_entropy")
    case.expect("bce_per_image", pixels_of("bernoulli", case.logits).reconstruction_loss(case.x))
    case.expect("entropy_floor_per_image", pixels_of("bernoulli", torch.logit(case.x)).reconstruction_loss(case.x))


def test_gaussian_as_a_sum_of_squared_errors() -> None:
    case = Case("gaussian/sse_convention")
    pixels = pixels_of("gaussian", torch.logit(case.x_hat))  # the default variance is the case's
    assert pixels.variance == case.params["sigma2"]
    case.expect("sse_per_image", pixels.reconstruction_loss(case.x))
    case.expect("nll_per_image", -pixels.log_prob(case.x))
    for constant in -pixels.log_prob(case.x) - pixels.reconstruction_loss(case.x):
        case.expect("nll_minus_sse", constant)


@pytest.mark.parametrize("name", ["gaussian/fixed_sigma_0.1", "gaussian/fixed_sigma_1"])
def test_gaussian_with_a_fixed_sigma(name: str) -> None:
    case = Case(name)
    variance = case.params["sigma"] ** 2
    case.expect("nll_per_image", -pixels_of("gaussian", torch.logit(case.x_hat), variance=variance).log_prob(case.x))
    facts = Spec((1, 4, 5), latent_dim=20, num_images=7)  # as many latents as pixels: β_norm is β
    case.expect("equivalent_beta", beta_equivalents(with_beta(1.0, variance), facts)["beta_normalised"])


# -- objectives -------------------------------------------------------------------------------------------------------


def with_beta(beta: float, variance: float = 0.5) -> recipe.Recipe:
    tables = {
        "data": {"name": "digits"},
        "network": {"latent_dim": 2},
        "likelihood": {"name": "gaussian", "variance": variance},
        "objective": {"name": "beta", "beta": beta},
    }
    return recipe.validate(tables, "vectors")


def given_vae(case: Case) -> tuple[VAE, GivenNoise]:
    """A model whose posterior and decoded image are the case's, and the noise that gives its code."""
    shape = tuple(case.x.shape[1:])
    likelihood = registry.load("likelihoods", "gaussian").Likelihood(Spec(shape, 2, 1))
    vae = make_vae(GivenEncoder(case.mu, case.logvar), lambda _: torch.logit(case.x_hat), likelihood, shape)
    return vae, GivenNoise((case.z - case.mu) * torch.exp(-0.5 * case.logvar))


def measure(case: Case, name: str, **options: float) -> dict[str, Tensor]:
    vae, noise = given_vae(case)
    objective = registry.load("objectives", name).Objective(vae.spec, **options)
    return compute_terms(objective, vae, case.x, noise=noise)


def test_vae() -> None:
    case = Case("objective/vae")
    terms = measure(case, "elbo")
    case.expect("recon", terms["reconstruction"])
    case.expect("kl", terms["kl"])
    case.expect("vae", terms["loss"])
    vae, noise = given_vae(case)
    out = forward(vae, case.x, noise)
    torch.testing.assert_close(out.z[0], case.z)
    case.expect("neg_elbo_nats", -elbo(out.p_x.log_prob(case.x), out.kl.sum(1)).mean())


@pytest.mark.parametrize("beta", [1, 4])
def test_beta_vae(beta: int) -> None:
    case = Case(f"objective/beta_vae_{beta}")
    case.expect("total", measure(case, "beta", beta=float(beta))["loss"])
    equivalents = beta_equivalents(with_beta(beta), given_vae(case)[0].spec)
    case.expect("beta_norm", equivalents["beta_normalised"])
    case.expect("sigma2_equivalent", equivalents["sigma"] ** 2)


# -- probabilistic PCA ------------------------------------------------------------------------------------------------


def cubature(dimension: int) -> Tensor:
    """Points whose plain mean is the expectation under N(0, I) of any polynomial of degree 3: ±√d on each axis."""
    axes = math.sqrt(dimension) * torch.eye(dimension, dtype=torch.float64)
    return torch.cat([axes, -axes])


def linear_pixels(case: Case, z: Tensor) -> NormalPixels:
    """p(x|z) = N(Wz + b, σ²), images as rows of pixels."""
    return NormalPixels((z @ case.W.T + case.b)[..., None, None, :], case.params["sigma2"])


def bounds(case: Case, q: DiagonalNormal) -> tuple[Tensor, Tensor]:
    """ln p(x|z) at the points of the cubature, one row each, and the KL of each image."""
    z = q.rsample(cubature(case.params["Q"])[:, None].expand(-1, *q.mean.shape))
    return linear_pixels(case, z).log_prob(case.x[:, None, None]), q.kl_to_standard_normal().sum(1)


def linear_log_weights(case: Case, q: DiagonalNormal, z: Tensor) -> Tensor:
    """ln p(x|z) + ln p(z) − ln q(z|x)."""
    log_likelihood = linear_pixels(case, z).log_prob(case.x[:, None, None])
    return log_weights(log_likelihood, StandardNormal(z.shape[-1]).log_prob(z), q.log_prob(z))


def exact_means(W: Tensor, sigma2: float, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means M⁻¹Wᵀ(x − b), and M = WᵀW + σ²I (Tipping & Bishop 1999)."""
    M = W.T @ W + sigma2 * torch.eye(W.shape[1], dtype=W.dtype)
    return torch.linalg.solve(M, W.T @ centred.T).T, M


@pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])
def test_elbo_of_any_diagonal_posterior(which: str) -> None:
    case = Case(f"ppca/{which}/arbitrary_q")
    q = DiagonalNormal(case.q_mu, case.q_logvar)
    log_likelihood, kl = bounds(case, q)
    case.expect("expected_log_lik", log_likelihood.mean(0))
    case.expect("kl", kl)
    case.expect("elbo", elbo(log_likelihood, kl))
    case.expect("log_w", linear_log_weights(case, q, case.z))


@pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])
def test_elbo_of_the_best_diagonal_posterior(which: str) -> None:
    case = Case(f"ppca/{which}/elbo_best_diagonal_q")
    mean, M = exact_means(case.W, case.params["sigma2"], case.x - case.b)
    variance = case.params["sigma2"] / M.diagonal()
    case.expect("q_var", variance)
    log_likelihood, kl = bounds(case, DiagonalNormal(mean, variance.log().expand_as(mean)))
    case.expect("expected_log_lik", log_likelihood.mean(0))
    case.expect("kl", kl)
    values = elbo(log_likelihood, kl)
    case.expect("elbo", values)
    log_px = Case(f"ppca/{which}/log_marginal").value("log_px")
    for gap in log_px - values.numpy():
        case.expect("gap", gap)


def test_log_weights_of_the_exact_posterior_are_the_marginal() -> None:
    case = Case("ppca/orthogonal_W/iwae_exact_posterior")
    mean, M = exact_means(case.W, case.params["sigma2"], case.x - case.b)
    q = DiagonalNormal(mean, (case.params["sigma2"] / M.diagonal()).log().expand_as(mean))
    case.expect("log_w", linear_log_weights(case, q, case.z))


def test_log_weights_of_a_bernoulli_model() -> None:
    case = Case("bernoulli_linear")
    q = DiagonalNormal(case.q_mu, case.q_logvar)
    log_likelihood = BernoulliPixels((case.z @ case.W.T + case.b)[..., None, None, :]).log_prob(case.x[:, None, None])
    log_p = StandardNormal(case.z.shape[-1]).log_prob(case.z)
    case.expect("log_w", log_weights(log_likelihood, log_p, q.log_prob(case.z)))
    kl = case.value("expected_log_lik") - case.value("elbo")
    np.testing.assert_allclose(q.kl_to_standard_normal().sum(1).numpy(), kl, rtol=0, atol=2e-8)


class AffineEncoder(networks.Encoder):
    """Means linear in the image, the same log-variances for all."""

    def __init__(self, weight: Tensor, bias: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_var = nn.Parameter(weight), nn.Parameter(bias), nn.Parameter(log_var)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        mean = x.flatten(1) @ self.weight.T + self.bias
        return torch.cat([mean, self.log_var.expand_as(mean)], 1)


@pytest.mark.parametrize("beta", [1, 4])
def test_optimum_of_a_linear_beta_vae(beta: int) -> None:
    case = Case(f"ppca/linear_beta_vae_optimum/beta_{beta}")
    Q, sigma2, mean = case.params["Q"], beta / 2, case.x.mean(0)
    eigenvalues, axes = torch.linalg.eigh(torch.cov(case.x.T, correction=0))
    largest = eigenvalues.flip(0)[:Q]
    assert bool((largest > sigma2).all())
    W = axes.flip(1)[:, :Q] * (largest - sigma2).sqrt()
    _, M = exact_means(W, sigma2, case.x - mean)
    encoding = torch.linalg.solve(M, W.T)
    encoder = AffineEncoder(encoding, -encoding @ mean, (sigma2 / M.diagonal()).log())
    spec = Spec((1, 1, case.x.shape[1]), latent_dim=Q, num_images=len(case.x))
    decoder = GivenDecoder(lambda z: (z @ weight.T + bias)[:, None, None])
    decoder.weight, decoder.bias = weight, bias = nn.Parameter(W), nn.Parameter(mean)
    likelihood = GivenLikelihood(lambda decoded: NormalPixels(decoded, 0.5))  # linear models live outside [0, 1]
    vae = VAE(spec, encoder, Posterior(spec), Prior(spec), decoder, likelihood)
    points = cubature(Q)
    noise = GivenNoise(points.repeat_interleave(len(case.x), 0))
    objective = registry.load("objectives", "beta").Objective(spec, beta=float(beta))
    terms = compute_terms(objective, vae, case.x.repeat(len(points), 1)[:, None, None], noise=noise)
    case.expect("min_objective", terms["loss"])
    case.expect("mean_kl", terms["kl"])
    case.expect("optimal_posterior_var", vae.encode_batch(case.x[:1, None, None]).log_var[0].exp())
    terms["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert float(parameter.grad.abs().max()) < 1e-10, f"{name} is not at the optimum"
