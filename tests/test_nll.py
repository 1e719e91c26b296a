"""The importance-sampled likelihood: against exact marginals, by hand, and against the reference vectors."""

import importlib
import itertools
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor, nn
from vaelab.models.distributions import DiagonalNormal

from vaelab import recipe
from vaelab.data.images import Images
from vaelab.evaluation import evaluate as evaluation
from vaelab.evaluation.metrics import likelihood, nll
from vaelab.evaluation.metrics.likelihood import bits_per_dim
from vaelab.evaluation.metrics.nll import iwae_bound
from vaelab.models.likelihoods import bernoulli, gaussian
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import device as runtime


class Linear(nn.Module):
    """Stands in for a network: a linear map of flat images or codes; with a log-variance it is an encoder."""

    def __init__(self, weight: Tensor, shape: tuple[int, ...], log_var: float | None = None) -> None:
        super().__init__()
        self.weight, self.shape, self.log_var = nn.Parameter(weight), shape, log_var

    def forward(self, given: Tensor) -> Any:
        out = (given.flatten(1) @ self.weight.T).view(-1, *self.shape)
        return out if self.log_var is None else (out, torch.full_like(out, self.log_var))


def model(kind: Any = gaussian, latents: int = 2, log_var: float = -1.0, channels: int = 1) -> VAE:
    """Linear maps of small weights under a likelihood, on images 9×8."""
    facts = Spec((channels, 9, 8), latent_dim=latents, num_images=100, decoder_channels=channels)
    random = torch.Generator().manual_seed(latents)
    encoder = 0.1 * torch.randn(latents, facts.num_pixels, generator=random)
    decoder = torch.randn(facts.num_pixels, latents, generator=random)
    return VAE(facts, Linear(encoder, (latents,), log_var), Linear(decoder, facts.image_shape), kind.Likelihood(facts))


def images(count: int, channels: int = 1, white: int = 255) -> Images:
    pixels = np.random.default_rng(0).integers(0, 2, (count, 9, 8, channels), dtype=np.uint8)
    return Images(pixels * np.uint8(white))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


# -- the bound from its weights ---------------------------------------------------------------------------------------

weights = arrays(np.float64, (5, 3), elements=st.floats(-1e5, 1e5) | st.just(-math.inf))


def test_the_bound_of_one_sample_is_its_weight() -> None:
    given = np.array([[-3.0, -1e5, -math.inf]])
    np.testing.assert_array_equal(iwae_bound(given), given[0])


def test_the_bound_adds_in_float64() -> None:
    found = iwae_bound(np.full((3, 1), -1e5 - 1 / 128, np.float32))
    assert found.dtype == np.float64
    assert found[0] == pytest.approx(-1e5 - 1 / 128, rel=1e-15)


@given(weights)
def test_the_bound_lies_between_mean_and_maximum(log_weights: NDArray[np.float64]) -> None:
    bounds = iwae_bound(log_weights)
    assert bool((bounds <= log_weights.max(0) + 1e-9).all())
    assert bool((bounds >= log_weights.mean(0) - 1e-9).all())
    assert bool((bounds >= log_weights.max(0) - math.log(5) - 1e-9).all())
    assert not np.isnan(bounds).any()


@given(weights, st.permutations(range(5)), st.floats(-1e4, 1e4))
def test_the_bound_knows_no_order_and_moves_with_its_weights(
    log_weights: NDArray[np.float64], order: list[int], shift: float
) -> None:
    np.testing.assert_allclose(iwae_bound(log_weights[order]), iwae_bound(log_weights), atol=1e-9)
    np.testing.assert_allclose(iwae_bound(log_weights + shift), iwae_bound(log_weights) + shift, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(("nats", "scale", "bits"), [(784 * math.log(2), 1, 1), (0.0, 256, 8), (0.0, 255, 7.994353)])
def test_bits_per_dim_of_probabilities_and_of_scaled_densities(nats: float, scale: float, bits: float) -> None:
    assert bits_per_dim(nats, 784, scale) == pytest.approx(bits, abs=1e-6)


# -- measure ----------------------------------------------------------------------------------------------------------


def by_hand(vae: VAE, x: Tensor, epsilon: Tensor) -> NDArray[np.float64]:
    """ln w ``[samples, images]`` one code after the other, in float64."""
    vae, x, epsilon = vae.double(), x.double(), epsilon.double()
    posterior = vae.posterior(x)
    prior = DiagonalNormal(torch.zeros_like(posterior.mean), torch.zeros_like(posterior.mean))
    rows = []
    for noise in epsilon:
        z = posterior.rsample(noise)
        rows.append(vae.pixels(z).log_prob(x) + prior.log_prob(z) - posterior.log_prob(z))
    return torch.stack(rows).detach().numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [gaussian, bernoulli])
def test_measure_by_hand(kind: Any, channels: int) -> None:
    given, epsilon = images(6, channels), torch.randn(7, 6, 2, generator=generator())
    measured = nll.measure(model(kind, channels=channels), given, generator(), samples=7)
    log_weights = by_hand(model(kind, channels=channels), given.floats(0, 6), epsilon)
    bounds, shares = iwae_bound(log_weights), np.exp(log_weights - np.logaddexp.reduce(log_weights))
    assert measured["nll"] == pytest.approx(-bounds.mean(), rel=1e-6)
    assert measured["nll_standard_error"] == pytest.approx(bounds.std(ddof=1) / math.sqrt(6), rel=1e-5)
    assert measured["effective_samples"] == pytest.approx(np.median(1 / (shares**2).sum(0)), rel=1e-4)
    assert (measured["protocol"]["samples"], measured["protocol"]["images"]) == (7, 6)


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 8, 9, 25])
def test_blocks_of_samples_and_images_add_up(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    table = np.random.default_rng(0).normal(-1e4, 3, (8, 4))
    table[:5, 2] = -math.inf
    pixels = np.zeros((4, 9, 8, 1), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    drawn, largest = [0] * 4, 0

    def known_weights(model: VAE, x: Tensor, epsilon: Tensor) -> Tensor:
        nonlocal largest
        which = (x[:, 0, 0, 0] * 255).round().long().tolist()
        rows = [table[drawn[i] : drawn[i] + len(epsilon), i] for i in which]
        for i in which:
            drawn[i] += len(epsilon)
        largest = max(largest, epsilon.shape[0] * epsilon.shape[1])
        return torch.from_numpy(np.stack(rows, 1))

    monkeypatch.setattr(nll, "log_weights", known_weights)
    monkeypatch.setattr(nll, "BLOCK_BYTES", 4 * 72 * at_once)
    measured = nll.measure(model(), Images(pixels), generator(), samples=8)
    assert drawn == [8] * 4
    assert largest <= at_once
    assert measured["nll"] == pytest.approx(-iwae_bound(table).mean(), rel=1e-12)


def test_the_bound_comes_down_to_the_exact_value() -> None:
    """Two latents, so that p(x) = ∫ p(x|z) p(z) dz is a sum over a fine grid."""
    vae, given = model(bernoulli, log_var=0.0), images(20)
    axis = torch.linspace(-6, 6, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        joint = vae.double().pixels(grid).log_prob(given.floats(0, 20).double()[:, None])
    joint = joint + DiagonalNormal(torch.zeros(2), torch.zeros(2)).log_prob(grid) + 2 * math.log(12 / 80)
    exact = -float(torch.logsumexp(joint, 1).mean())
    values = [nll.measure(vae.float(), given, generator(), samples=samples)["nll"] for samples in (1, 10, 100, 3000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > exact + 1
    assert values[-1] == pytest.approx(exact, abs=0.02)


def test_bits_are_told_of_probabilities_only() -> None:
    for measure in (likelihood.measure, nll.measure):
        binary = measure(model(bernoulli), images(5), generator(), samples=3)
        nats = -binary["elbo"] if "elbo" in binary else binary["nll"]
        assert binary["bits_per_dim"] == pytest.approx(nats / 72 / math.log(2))
        assert "probability" in binary["protocol"]["log_likelihood"]
        for other, word in (
            (measure(model(bernoulli), images(5, white=200), generator(), samples=3), "not a likelihood"),
            (measure(model(gaussian), images(5), generator(), samples=3), "density"),
        ):
            assert "bits_per_dim" not in other
            assert word in other["protocol"]["log_likelihood"]


def test_a_discrete_likelihood_of_grey_pixels_has_bits() -> None:
    vae = model(gaussian)
    vae.likelihood.is_discrete = True
    assert "bits_per_dim" in nll.measure(vae, images(5, white=200), generator(), samples=3)


def test_progress_counts_images(monkeypatch: pytest.MonkeyPatch) -> None:
    done, totals = [], []

    class Bar(nullcontext[Any]):
        def __enter__(self) -> Any:
            return self

        def advance(self, amount: int) -> None:
            done.append(amount)

    monkeypatch.setattr(runtime, "_factory", lambda _label, total: totals.append(total) or Bar())
    nll.measure(model(), images(7), generator(), samples=400)
    assert sum(done) == 7
    assert totals == [7]


def test_a_training_does_not_end_with_it() -> None:
    assert "nll" not in {*evaluation.DEFAULT_METRICS, *evaluation.COMPARED}, "5,000 decoded images for each one"


# -- the reference vectors --------------------------------------------------------------------------------------------


def case(name: str) -> Any:
    """A case of the reference vectors; without them the test that asks is skipped, not this module."""
    return importlib.import_module("vectors").Case(name)


def test_bound_of_given_weights() -> None:
    given = case("iwae/bound")
    log_weights = given.log_w.numpy()
    bounds, count = iwae_bound(log_weights), len(log_weights)
    given.expect("L_K_per_image", bounds)
    given.expect("L_K_mean", bounds.mean())
    given.expect("elbo_mean_over_K", np.mean([iwae_bound(row[None]) for row in log_weights], 0))
    given.expect("normalized_weights", np.exp(log_weights - bounds) / count)
    given.expect("ess", count * np.exp(2 * bounds - iwae_bound(2 * log_weights)))


def test_bound_averaged_over_subsets() -> None:
    given = case("iwae/subset_average")
    log_weights = given.log_w.numpy()
    averages = [
        np.mean([iwae_bound(log_weights[list(rows)]) for rows in itertools.combinations(range(len(log_weights)), k)], 0)
        for k in range(1, len(log_weights) + 1)
    ]
    given.expect("mean_L_k", np.stack(averages))
    assert bool((np.diff(averages, axis=0) >= 0).all())


def test_bits_per_dim_of_the_vectors() -> None:
    given = case("bits_per_dim")
    for name, scale in (("plain", 1), ("scaled_256", 256), ("scaled_255", 255)):
        given.expect(name, [bits_per_dim(float(nats), given.params["D"], scale) for nats in given.nll])


class Posterior(nn.Module):
    """Stands in for an encoder: one posterior for each image of the case."""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.mean, self.log_var = mean, log_var

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean, self.log_var


class Rows(nn.Module):
    """Stands in for a decoder: Wz + b, one row of pixels."""

    def __init__(self, W: Tensor, b: Tensor) -> None:
        super().__init__()
        self.W, self.b = W, b

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.W.T + self.b)[:, None, None]


def test_a_bernoulli_model_whose_marginal_is_known() -> None:
    given = case("bernoulli_linear")
    count, latents = given.q_mu.shape
    facts = Spec((1, 1, given.params["P"]), latent_dim=latents, num_images=count)
    x = given.x[:, None, None]

    def log_weights(mean: Tensor, log_var: Tensor, epsilon: Tensor) -> NDArray[np.float64]:
        vae = VAE(facts, Posterior(mean, log_var), Rows(given.W, given.b), bernoulli.Likelihood(facts))
        return nll.log_weights(vae, x, epsilon).numpy()

    posterior = given.q_mu, given.q_logvar
    of_case = log_weights(*posterior, (given.z - given.q_mu) / torch.exp(given.q_logvar / 2))
    given.expect("log_w", of_case)
    given.expect("L_K", iwae_bound(of_case))
    epsilon = torch.randn(20_000, count, latents, generator=generator(), dtype=torch.float64)
    drawn = log_weights(*posterior, epsilon)
    given.expect("elbo", drawn.mean(0), 4 * drawn.std(0).max() / math.sqrt(len(drawn)))
    wide = torch.zeros_like(given.q_mu)  # the prior, whose weights are bounded; those of the case have long tails
    drawn = log_weights(wide, wide, epsilon)
    bounds = iwae_bound(drawn)
    errors = np.exp(drawn - bounds).std(0) / math.sqrt(len(drawn))
    assert bool((errors < 0.03).all())
    given.expect("log_px", bounds, 4 * errors.max())


# -- the presets ------------------------------------------------------------------------------------------------------


def test_the_presets_are_one_experiment_with_two_objectives() -> None:
    """Networks of 1509.00519, section 5 and table 1: 784–200–200–50 and back, tanh, images binarised anew each time."""
    vae_preset, iwae_preset = (recipe.load(name) for name in ("mnist-nll", "mnist-iwae50"))
    assert {line.partition(":")[0] for line in vae_preset.differences(iwae_preset)} == {
        "objective.name",
        "objective.num_samples",
        "training.epochs",
        "training.batch_size",
    }
    assert iwae_preset.objective == {"name": "iwae", "num_samples": 50}
    assert (vae_preset.expected["nll"], iwae_preset.expected["nll"]) == (86.76, 84.78)
    assert (vae_preset.data["binarize"], vae_preset.likelihood["name"]) == ("dynamic", "bernoulli")
    vae, _ = recipe.build(vae_preset, (1, 28, 28), 60_000)
    for network, widths in ((vae.encoder, [784, 200, 200, 100]), (vae.decoder, [50, 200, 200, 784])):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths
        assert sum(isinstance(layer, nn.Tanh) for layer in network.modules()) == 2
