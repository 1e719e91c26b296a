"""A linear VAE is probabilistic PCA: trained by our objectives and measured by our metrics, it reaches what is known
exactly (Tipping & Bishop, JRSS-B 61(3), 1999; Lucas et al. 2019, 1911.02469)."""

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenLikelihood, GivenNoise
from jaxtyping import Float
from small import as_batch, compute_terms, forward
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import active_units, elbo, nll
from vaelab.evaluation.metrics.nll import sample_log_weights
from vaelab.models import bounds, networks
from vaelab.models.bounds import iwae_bound
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors import diagonal, full_covariance
from vaelab.models.priors import normal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.noise import Noise, StepNoise

SIDE, NOISE = 8, 0.1
D = SIDE * SIDE


# -- what is known ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """x = Wz + b + ε, z ~ N(0, I), ε ~ N(0, σ²I)."""

    W: Float[Tensor, "pixels latents"]
    b: Float[Tensor, " pixels"]
    sigma2: float

    @property
    def M(self) -> Float[Tensor, "latents latents"]:  # noqa: N802
        """WᵀW + σ²I."""
        return self.W.T @ self.W + self.sigma2 * torch.eye(self.W.shape[1], dtype=self.W.dtype)

    def posterior_mean(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, "n latents"]:
        return torch.linalg.solve(self.M, self.W.T @ (x - self.b).T).T

    def log_px(self, x: Float[Tensor, "n pixels"]) -> Float[Tensor, " n"]:
        """ln N(x; b, WWᵀ + σ²I)."""
        C = self.W @ self.W.T + self.sigma2 * torch.eye(len(self.W), dtype=self.W.dtype)
        return torch.distributions.MultivariateNormal(self.b, C).log_prob(x)


def spectrum(x: Float[Tensor, "n pixels"]) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the covariance (1/N), the largest first, and their axes as columns."""
    eigenvalues, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
    return eigenvalues.flip(0), axes.flip(1)


def best_model(x: Float[Tensor, "n pixels"], latents: int, sigma2: float | None = None) -> Model:
    """The model of maximum likelihood, for a given σ² or for that of maximum likelihood."""
    eigenvalues, axes = spectrum(x)
    sigma2 = float(eigenvalues[latents:].mean()) if sigma2 is None else sigma2
    return Model(axes[:, :latents] * (eigenvalues[:latents] - sigma2).clamp(min=0).sqrt(), x.mean(0), sigma2)


def best_log_likelihood(eigenvalues: Float[Tensor, " pixels"], latents: int, sigma2: float) -> float:
    """Mean of ln p(x) over the data under ``best_model``, from the spectrum alone: 1911.02469 and Tipping & Bishop."""
    active = eigenvalues[:latents][eigenvalues[:latents] > sigma2]
    rest = float(eigenvalues.sum() - active.sum()) / sigma2
    log_det = float(active.log().sum()) + (len(eigenvalues) - len(active)) * math.log(sigma2)
    return -0.5 * (len(eigenvalues) * math.log(2 * math.pi) + log_det + len(active) + rest)


# -- the same as a VAE ------------------------------------------------------------------------------------------------


class Encoder(networks.Encoder):
    """A linear layer to the mean; the rest is the same for all images."""

    def __init__(self, weight: Tensor, bias: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_var = (nn.Parameter(p.contiguous()) for p in (weight, bias, rest))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        mean = x.flatten(1) @ self.weight.T + self.bias
        return torch.cat([mean, self.log_var.expand(len(x), -1)], 1)


class Decoder(networks.Decoder):
    """A linear layer to the pixels."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = nn.Parameter(weight), nn.Parameter(bias), shape

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return (z @ self.weight.T + self.bias).view(-1, *self.shape)


def make_vae(
    V: Tensor, a: Tensor, log_var: Tensor, W: Tensor, b: Tensor, sigma2: float, posterior: Any = diagonal
) -> VAE:
    """q(z|x) = N(Vx + a, exp ``log_var``), p(x|z) = N(Wz + b, σ²I)."""
    shape = (1, SIDE, SIDE) if len(b) == D else (1, 1, len(b))
    spec = Spec(shape, latent_dim=len(a), num_images=2000, posterior_parameters=len(a) + len(log_var))
    likelihood = GivenLikelihood(lambda decoded: NormalPixels(decoded, sigma2))  # linear models live outside [0, 1]
    parts = posterior.Posterior(spec), normal.Prior(spec)
    return VAE(spec, Encoder(V, a, log_var), *parts, Decoder(W, b, shape), likelihood)


def as_vae(model: Model) -> VAE:
    """With the best diagonal posterior: exact mean, variances σ²/M_jj."""
    encoding = torch.linalg.solve(model.M, model.W.T)
    log_var = (model.sigma2 / model.M.diagonal()).log()
    return make_vae(encoding, -encoding @ model.b, log_var, model.W, model.b, model.sigma2)


def make_images(count: int = 100) -> Images:
    """Pictures of three hidden causes with noise."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.standard_normal((D, 3)))[0] * np.sqrt([0.4, 0.15, 0.05])
    x = 0.5 + random.standard_normal((count, 3)) @ axes.T + NOISE * random.standard_normal((count, D))
    return Images((x.clip(0, 1) * 255).round().astype(np.uint8).reshape(-1, SIDE, SIDE, 1))


IMAGES = make_images()
X = torch.from_numpy(IMAGES.pixels.reshape(-1, D) / 255)


class EvenNoise(Noise):
    """The points ±√d on each axis in turn, whose mean is the expectation under N(0, I) of any polynomial of degree 3,
    and so of this ELBO."""

    def normal(self, count: int, *shape: int) -> Tensor:
        (latents,) = shape
        axes = math.sqrt(latents) * torch.eye(latents, dtype=torch.float64)
        return torch.cat([axes, -axes]).repeat(count // (2 * latents), 1)

    def uniform(self, count: int, *shape: int) -> Tensor:
        raise NotImplementedError


def loss_of(vae: VAE, x: Tensor, name: str, options: dict[str, float], noise: Noise | None = None) -> Tensor:
    """The objective on all images at once."""
    objective = registry.load("objectives", name).Objective(vae.spec, **options)
    return compute_terms(objective, vae, x.view(-1, *vae.spec.image_shape), noise=noise or EvenNoise())["loss"]


def train(x: Tensor, latents: int, sigma2: float, objective: str = "elbo", **options: float) -> VAE:
    """A linear VAE trained by L-BFGS from small random weights, each image under 2·``latents`` codes."""
    random, pixels = torch.Generator().manual_seed(0), x.shape[1]
    W, V = (0.1 * torch.randn(pixels, latents, generator=random, dtype=torch.float64) for _ in range(2))
    vae = make_vae(V.T, torch.zeros_like(V[0]), torch.zeros_like(V[0]), W, torch.zeros_like(W[:, 0]), sigma2)
    repeated = x.repeat_interleave(2 * latents, 0)
    limits = {"max_iter": 300, "tolerance_grad": 1e-4, "tolerance_change": 1e-8}
    optimizer = torch.optim.LBFGS(vae.parameters(), line_search_fn="strong_wolfe", **limits)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(vae, repeated, objective, options)
        loss.backward()
        return loss

    optimizer.step(step)
    return vae


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def evaluate(metric: Any, vae: VAE, **options: int) -> Any:
    return metric.measure(Evaluation(vae, IMAGES), **options)


# -- what training reaches and metrics tell ---------------------------------------------------------------------------


@pytest.mark.slow
def test_training_reaches_the_maximum_of_the_likelihood() -> None:
    eigenvalues, _ = spectrum(X)
    best = best_model(X, latents=2)
    exact = best_log_likelihood(eigenvalues, 2, best.sigma2)
    assert float(best.log_px(X).mean()) == pytest.approx(exact, abs=1e-9)
    vae = train(X, latents=2, sigma2=best.sigma2)
    W = vae.decoder.weight.detach()
    torch.testing.assert_close(W @ W.T, best.W @ best.W.T, rtol=0, atol=1e-3)  # W is free to rotate
    vae.float()
    # codes of one image vary ln p(x|z) by about 1, the mean of 100 images with 500 codes each by 0.005
    assert evaluate(elbo, vae, samples=500)["elbo"] == pytest.approx(exact, abs=0.01)
    measured = evaluate(nll, vae, samples=20)
    assert -measured["nll"] == pytest.approx(exact, abs=1e-3)  # q(z|x) is the posterior, all weights are p(x)
    assert measured["effective_samples"] == pytest.approx(20, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("latents", "sigma2", "objective", "options"), [(5, 0.04, "elbo", {}), (4, 0.02, "beta", {"beta": 4.0})]
)
def test_latents_that_do_not_pay_collapse(
    latents: int, sigma2: float, objective: str, options: dict[str, float]
) -> None:
    """β times as much KL is a decoder with β times the variance: the latents whose eigenvalues exceed it stay."""
    eigenvalues, _ = spectrum(X)
    beta = options.get("beta", 1.0)
    active = eigenvalues[:latents][eigenvalues[:latents] > beta * sigma2]
    assert 0 < len(active) < latents
    vae = train(X, latents, sigma2, objective, **options)
    loss = loss_of(vae, X.repeat_interleave(2 * latents, 0), objective, options).detach()
    constant = D / 2 * math.log(2 * math.pi * beta * sigma2)
    exact = -beta * (best_log_likelihood(eigenvalues, latents, beta * sigma2) + constant)
    assert float(loss) == pytest.approx(exact, abs=1e-3)
    evaluation = Evaluation(vae.float(), IMAGES)
    codes = evaluation.codes
    np.testing.assert_allclose(np.sort(codes.kl)[::-1][: len(active)], kl_at_optimum(active, beta * sigma2), atol=2e-3)
    measured = active_units.measure(evaluation)
    assert measured["active_units"] == measured["active_units_by_kl"] == len(active)
    assert np.sort(codes.kl)[: latents - len(active)].max() < 1e-4


def kl_at_optimum(eigenvalues: Tensor, sigma2: float) -> Tensor:
    """Mean KL of each active latent, ½ ln λ/σ²."""
    return 0.5 * (eigenvalues / sigma2).log()


def test_reparametrised_gradients_vanish_at_the_optimum() -> None:
    vae = as_vae(best_model(X, latents=2))
    noise = StepNoise(0, torch.device("cpu"))
    gradients = []
    for step in range(200):
        noise.seek(step)
        vae.zero_grad()
        loss_of(vae, X, "elbo", {}, noise).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in vae.parameters()]))
    drawn = torch.stack(gradients)
    scores = drawn.mean(0) / (drawn.std(0) / math.sqrt(len(drawn)))
    assert float(scores.square().mean().sqrt()) < 1.3
    assert float(scores.abs().max()) < 5


@pytest.mark.slow
def test_importance_sampling_closes_the_gap_of_a_posterior_that_is_not_the_best() -> None:
    best = best_model(X, latents=2)
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    turned = Model(best.W @ turn, best.b, best.sigma2)  # the same p(x); given x, its latents depend on each other
    exact = float(best.log_px(X).mean())
    torch.testing.assert_close(turned.log_px(X), best.log_px(X))
    vae = as_vae(turned).float()
    with torch.no_grad():
        vae.encoder.log_var += math.log(4)
    gap = 3 - math.log(4) + float(turned.M.diagonal().log().sum() - turned.M.logdet()) / 2  # KL(q ‖ posterior)
    bound = evaluate(elbo, vae, samples=500)["elbo"]
    assert exact - bound == pytest.approx(gap, abs=0.05)
    few, many = (evaluate(nll, vae, samples=samples) for samples in (5, 2000))
    assert exact - gap + 0.5 < -few["nll"] < exact
    assert -many["nll"] == pytest.approx(exact, abs=0.01)
    assert 200 < many["effective_samples"] < 1800


def test_a_full_covariance_leaves_no_gap_where_the_best_diagonal_posterior_does() -> None:
    best = best_model(X, latents=2)
    turn = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    turned = Model(best.W @ turn, best.b, best.sigma2)
    exact = float(turned.log_px(X).mean())
    gap = float(turned.M.diagonal().log().sum() - turned.M.logdet()) / 2  # KL(best diagonal q ‖ posterior)
    assert gap > 0.05
    assert exact - evaluate(elbo, as_vae(turned).float(), samples=500)["elbo"] == pytest.approx(gap, abs=0.01)
    scale = torch.linalg.cholesky(turned.sigma2 * torch.linalg.inv(turned.M))
    encoding = torch.linalg.solve(turned.M, turned.W.T)
    rest = torch.cat([2 * scale.diagonal().log(), scale[1, :1]])
    exact_posterior = make_vae(encoding, -encoding @ turned.b, rest, turned.W, turned.b, turned.sigma2, full_covariance)
    measured = evaluate(nll, exact_posterior.float(), samples=20)
    assert -measured["nll"] == pytest.approx(exact, abs=1e-3)
    assert measured["effective_samples"] == pytest.approx(20, rel=1e-3)
    assert evaluate(elbo, exact_posterior, samples=500)["elbo"] == pytest.approx(exact, abs=0.01)


# -- the reference vectors --------------------------------------------------------------------------------------------


def case(name: str) -> Any:
    """A case of the reference vectors; without them the test that asks is skipped, not this module."""
    return importlib.import_module("vectors").Case(f"ppca/{name}")


either_weight = pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])


def model_of(given: Any) -> Model:
    return Model(given.W, given.b, given.params["sigma2"])


def sampled_log_weights(given: Any, vae: VAE, z: Tensor) -> Tensor:
    """ln w at given codes ``[K, N, Q]``."""
    q = vae.encode_batch(given.x[:, None, None])
    epsilon = ((z - q.mean) / torch.exp(0.5 * q.log_var)).detach()
    return log_weights_of_noise(given, vae, epsilon)


def log_weights_of_noise(given: Any, vae: VAE, epsilon: Tensor) -> Tensor:
    noise = GivenNoise(epsilon[0], epsilon[1:].transpose(0, 1))
    return sample_log_weights(vae, vae.density(), as_batch(given.x[:, None, None]), noise, len(epsilon))


class Posterior(networks.Encoder):
    """One posterior for each image of the case."""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.mean, self.log_var = nn.Parameter(mean), nn.Parameter(log_var)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.cat([self.mean, self.log_var], 1)


def vae_of(given: Any) -> VAE:
    """With the case's own posteriors."""
    vae = as_vae(model_of(given))
    vae.encoder = Posterior(given.q_mu, given.q_logvar)
    return vae


@either_weight
def test_marginal_likelihood_and_posterior(which: str) -> None:
    given = case(f"{which}/log_marginal")
    model = model_of(given)
    given.expect("log_px", model.log_px(given.x))
    given.expect("sum", model.log_px(given.x).sum())
    given.expect("posterior_mean", model.posterior_mean(given.x))
    given.expect("posterior_cov", model.sigma2 * torch.linalg.inv(model.M))


@either_weight
def test_elbo_of_the_best_diagonal_posterior(which: str) -> None:
    given = case(f"{which}/elbo_best_diagonal_q")
    model = model_of(given)
    vae, latents = as_vae(model), given.params["Q"]
    given.expect("q_var", vae.encode_batch(given.x[:1, None, None]).log_var[0].exp())
    repeated = given.x.repeat_interleave(2 * latents, 0)
    out = forward(vae, repeated[:, None, None], EvenNoise())
    of_codes = out.p_x.log_prob(repeated[:, None, None]).detach().view(-1, 2 * latents).T
    kl = out.kl.sum(1).detach()[:: 2 * latents]
    values = bounds.elbo(of_codes, kl).numpy()
    given.expect("expected_log_lik", of_codes.mean(0))
    given.expect("kl", kl)
    given.expect("elbo", values)
    for gap in model.log_px(given.x).numpy() - values:
        given.expect("gap", gap)


@either_weight
def test_bound_of_an_arbitrary_posterior(which: str) -> None:
    given = case(f"{which}/arbitrary_q")
    log_weights = sampled_log_weights(given, vae_of(given), given.z)
    given.expect("log_w", log_weights)
    given.expect("L_K", iwae_bound(log_weights.detach()))


@either_weight
def test_expected_bound_of_few_samples(which: str) -> None:
    given = case(f"{which}/expected_iwae_bound")
    assert given.value("K").tolist() == [1, 5, 50]
    epsilon = torch.randn(50, 2000, *given.q_mu.shape, generator=generator(), dtype=torch.float64)
    vae = vae_of(given)
    with torch.no_grad():
        log_weights = log_weights_of_noise(given, vae, epsilon.flatten(0, 1)).view(epsilon.shape[:3])
    drawn = [[float(iwae_bound(draw[:samples]).mean()) for draw in log_weights.unbind(1)] for samples in (1, 5, 50)]
    errors = np.std(drawn, 1) / math.sqrt(2000)
    assert errors.max() < 0.05
    given.expect("expected_L_K_mean", np.mean(drawn, 1), 4 * errors.max(), at_most=0.05)
    given.expect("log_px_mean", model_of(given).log_px(given.x).mean())


@either_weight
def test_gradient_of_the_bound(which: str) -> None:
    given = case(f"{which}/iwae_gradient")
    vae = vae_of(given)
    log_weights = sampled_log_weights(given, vae, given.z)
    (-iwae_bound(log_weights).mean()).backward()
    given.expect("grad_mu", vae.encoder.mean.grad)
    given.expect("grad_logvar", vae.encoder.log_var.grad)


def test_weights_of_the_exact_posterior_are_the_marginal() -> None:
    given = case("orthogonal_W/iwae_exact_posterior")
    log_weights = sampled_log_weights(given, as_vae(model_of(given)), given.z).detach()
    given.expect("log_w", log_weights)
    np.testing.assert_allclose(iwae_bound(log_weights[:2]), model_of(given).log_px(given.x).numpy())


def test_maximum_of_the_likelihood() -> None:
    given = case("ml_solution")
    eigenvalues, _ = spectrum(given.x)
    best = best_model(given.x, given.params["Q"])
    given.expect("mean", best.b)
    given.expect("eigenvalues", eigenvalues)
    given.expect("sigma2", np.float64(best.sigma2))
    given.expect("W_gram_diag", (best.W.T @ best.W).diagonal())
    given.expect("avg_log_lik", best.log_px(given.x).mean())
    given.expect("avg_log_lik", np.float64(best_log_likelihood(eigenvalues, given.params["Q"], best.sigma2)))
    best.W.requires_grad_()
    best.log_px(given.x).mean().backward()
    given.expect("max_abs_gradient", best.W.grad.abs().max())


@pytest.mark.parametrize("beta", [1, 4])
def test_training_reaches_the_optimum_of_the_vectors(beta: int) -> None:
    given = case(f"linear_beta_vae_optimum/beta_{beta}")
    latents = given.params["Q"]
    vae = train(given.x, latents, 0.5, "beta", beta=float(beta))
    given.expect("min_objective", loss_of(vae, given.x.repeat_interleave(2 * latents, 0), "beta", {"beta": beta}))
    posterior = vae.encode_batch(given.x[:, None, None])
    kl = posterior.kl_to_standard_normal().mean(0).detach()
    given.expect("active_dims", np.float64((kl > 0.01).sum()))
    variances = posterior.log_var[0].exp().sort().values.detach().numpy()
    np.testing.assert_allclose(variances, given.value("optimal_posterior_var"), rtol=1e-3)
    np.testing.assert_allclose(kl.sum(), given.value("mean_kl"), rtol=1e-5)
