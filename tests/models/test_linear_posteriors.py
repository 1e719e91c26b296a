"""Posteriors on probabilistic PCA: the best diagonal one leaves a known gap, full covariance and a flow leave none.

Model: x = W z + b + ε, ε ~ N(0, σ² I), with W's columns not orthogonal. M = Wᵀ W + σ² I; the exact posterior is
N(M⁻¹ Wᵀ (x − b), σ² M⁻¹) (Tipping & Bishop 1999).
"""

import math
from dataclasses import replace

import pytest
import torch
from given import GivenDecoder, GivenLikelihood, GivenNoise
from small import as_batch, compute_terms
from torch import Tensor, nn
from vectors import Case

from vaelab.models import networks
from vaelab.models.initialisation import initialise
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors import Posterior
from vaelab.models.priors import normal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE, VAEOutput
from vaelab.system import registry
from vaelab.training.objectives.elbo import Objective

PIXELS, LATENTS, IMAGES, SIGMA2 = 8, 3, 20, 0.3
ALL = pytest.mark.parametrize("name", ["diagonal", "full_covariance", "iaf"])


class LinearEncoder(networks.Encoder):
    """One linear layer."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.head = nn.Linear(spec.num_pixels, spec.posterior_parameters)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Parameters of the posteriors."""
        parameters: Tensor = self.head(x.flatten(1))
        return parameters


class ProbabilisticPCA:
    """A linear decoder, images drawn from it, and what is exact."""

    def __init__(self, W: Tensor, b: Tensor, sigma2: float, x: Tensor) -> None:
        self.W, self.b, self.sigma2, self.x = W, b, sigma2, x
        self.latents = W.shape[1]
        self.M = W.T @ W + sigma2 * torch.eye(self.latents, dtype=torch.float64)
        self.mean = (x - b) @ W @ torch.linalg.inv(self.M)
        self.covariance = sigma2 * torch.linalg.inv(self.M)
        marginal = W @ W.T + sigma2 * torch.eye(len(W), dtype=torch.float64)
        self.log_px = torch.distributions.MultivariateNormal(b, marginal).log_prob(x)
        self.gap = 0.5 * float(self.M.diagonal().log().sum() - torch.logdet(self.M))
        """Gap of the best diagonal posterior, nats per image, the same for each."""

    def vae(self, name: str) -> VAE:
        spec = Spec((1, 1, len(self.W)), self.latents, len(self.x))
        options = {"transforms": 1, "hidden": []} if name == "iaf" else {}
        posterior: Posterior = registry.load("posteriors", name).Posterior(spec, **options)
        initialise(posterior, torch.Generator().manual_seed(0))
        spec = replace(spec, posterior_parameters=posterior.num_parameters)
        decoder = GivenDecoder(lambda z: (z @ self.W.T + self.b)[:, None, None])
        likelihood = GivenLikelihood(lambda mean: NormalPixels(mean, self.sigma2))
        return VAE(spec, LinearEncoder(spec), posterior, normal.Prior(spec), decoder, likelihood).double()

    @property
    def images(self) -> Tensor:
        return self.x[:, None, None]

    def sigma_points(self) -> GivenNoise:
        """2d samples with mean 0 and covariance I, so that means of quadratic functions over them are exact."""
        eye = math.sqrt(self.latents) * torch.eye(self.latents, dtype=torch.float64)
        first, *rest = torch.cat([eye, -eye])
        count = len(self.x)
        return GivenNoise(first.expand(count, -1), torch.stack(rest).expand(count, -1, -1))

    def output(self, vae: VAE) -> VAEOutput:
        out: VAEOutput = vae(as_batch(self.images), self.sigma_points(), 2 * self.latents)
        return out

    def elbo(self, vae: VAE) -> Tensor:
        """The exact ELBO of each image, with the constant of the likelihood."""
        out = self.output(vae)
        return (out.p_x.log_prob(self.images).mean(0) - out.kl.sum(1)).detach()

    def set_best(self, vae: VAE, name: str) -> None:
        """Set the encoder to the best posterior of its kind: the exact mean, and the variance that is best."""
        head, d = vae.encoder.head, self.latents
        with torch.no_grad():
            head.weight.zero_()
            weight = torch.linalg.inv(self.M) @ self.W.T
            head.weight[:d], head.bias[:d] = weight, -weight @ self.b
            if name == "diagonal":
                head.bias[d:] = (self.sigma2 / self.M.diagonal()).log()
                return
            scale = torch.linalg.cholesky(self.covariance)
            head.bias[d : 2 * d] = 2 * scale.diagonal().log()
            if name == "iaf":
                # z = y + A (y − μ) with y = μ + diag(L) ε and I + A = L diag(L)⁻¹; the context is −A μ
                below = scale / scale.diagonal() - torch.eye(d).double()
                (layer,) = vae.posterior.flow.transforms[0].hyper
                layer.weight[0::2] = torch.cat([below, torch.eye(d).double()], 1)
                head.weight[2 * d :], head.bias[2 * d :] = -below @ head.weight[:d], -below @ head.bias[:d]
                return
            order = torch.arange(1.0, 1 + d * (d - 1) // 2).double()
            probe = torch.cat([torch.zeros(2 * d).double(), order])[None]
            places = vae.posterior(probe).scale[0].tril(-1).round().long()  # which parameter stands where in L
            head.bias[2 * d + places[places > 0] - 1] = scale[places > 0]


@pytest.fixture(scope="module")
def pca() -> ProbabilisticPCA:
    random = torch.Generator().manual_seed(0)
    W = torch.randn(PIXELS, LATENTS, generator=random, dtype=torch.float64)
    W[:, 1] = 0.8 * W[:, 0] + 0.6 * W[:, 1]  # far from orthogonal
    b = torch.randn(PIXELS, generator=random, dtype=torch.float64)
    z = torch.randn(IMAGES, LATENTS, generator=random, dtype=torch.float64)
    noise = math.sqrt(SIGMA2) * torch.randn(IMAGES, PIXELS, generator=random, dtype=torch.float64)
    return ProbabilisticPCA(W, b, SIGMA2, z @ W.T + b + noise)


def test_the_gap_of_the_example_is_large(pca: ProbabilisticPCA) -> None:
    assert 0.3 < pca.gap < 3


@ALL
def test_the_best_posterior_leaves_the_known_gap(pca: ProbabilisticPCA, name: str) -> None:
    vae = pca.vae(name)
    pca.set_best(vae, name)
    gap = pca.log_px - pca.elbo(vae)
    expected = torch.full_like(gap, pca.gap if name == "diagonal" else 0.0)
    torch.testing.assert_close(gap, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["full_covariance", "iaf"])
def test_every_importance_weight_of_the_exact_posterior_is_the_marginal(pca: ProbabilisticPCA, name: str) -> None:
    vae = pca.vae(name)
    pca.set_best(vae, name)
    out = pca.output(vae)
    log_weights = out.p_x.log_prob(pca.images) + out.log_p - out.log_q
    torch.testing.assert_close(log_weights, pca.log_px.expand_as(log_weights), rtol=0, atol=1e-9)


@ALL
def test_training_the_encoder_finds_the_best_posterior(pca: ProbabilisticPCA, name: str) -> None:
    vae = pca.vae(name)
    nn.init.zeros_(vae.encoder.head.weight)
    nn.init.zeros_(vae.encoder.head.bias)
    objective = Objective(vae.spec)
    objective.samples = 2 * LATENTS
    optimizer = torch.optim.LBFGS(
        [*vae.encoder.parameters(), *vae.posterior.parameters()],
        max_iter=200,
        history_size=100,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = compute_terms(objective, vae, pca.images, noise=pca.sigma_points())["loss"]
        value.backward()
        return value

    optimizer.step(loss)
    gap = float((pca.log_px - pca.elbo(vae)).mean())
    assert gap == pytest.approx(pca.gap if name == "diagonal" else 0.0, abs=1e-4)
    torch.testing.assert_close(vae.encode_batch(pca.images).mean.detach(), pca.mean, rtol=0, atol=1e-2)


@ALL
def test_orthogonal_columns_leave_no_gap(pca: ProbabilisticPCA, name: str) -> None:
    W, _ = torch.linalg.qr(pca.W)
    orthogonal = ProbabilisticPCA(W, pca.b, SIGMA2, pca.x)
    assert orthogonal.gap == pytest.approx(0, abs=1e-12)
    vae = orthogonal.vae(name)
    orthogonal.set_best(vae, name)
    torch.testing.assert_close(orthogonal.elbo(vae), orthogonal.log_px, rtol=0, atol=1e-9)


@pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])
@ALL
def test_marginals_match_the_reference_vectors(which: str, name: str) -> None:
    case = Case(f"ppca/{which}/log_marginal")
    model = ProbabilisticPCA(case.W, case.b, case.params["sigma2"], case.x)
    case.expect("log_px", model.log_px)
    vae = model.vae(name)
    model.set_best(vae, name)
    case.expect("log_px", model.elbo(vae) + (model.gap if name == "diagonal" else 0.0))
