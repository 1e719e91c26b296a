"""ELBO and importance-sampled likelihood: against exact marginals, by hand, and against the reference vectors."""

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenEncoder, GivenNoise, given_vae, linear_vae
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from small import as_batch
from torch import Tensor, nn

from vaelab import recipe
from vaelab.build import build
from vaelab.data.images import Batch, Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import elbo, nll
from vaelab.evaluation.metrics.elbo import bits_per_dim
from vaelab.models import bounds
from vaelab.models.bounds import iwae_bound
from vaelab.models.likelihoods import bernoulli, gaussian
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system.progress import Task, show_progress
from vaelab.system.seeds import Noise


def model(kind: Any = gaussian, latents: int = 2, log_var: float = -1.0, channels: int = 1, **options: float) -> VAE:
    """Linear maps of small weights under a likelihood, on images 9×8."""
    shape = (channels, 9, 8)
    random = torch.Generator().manual_seed(latents)
    encoder = 0.1 * torch.randn(latents, 72 * channels, generator=random)
    decoder = torch.randn(72 * channels, latents, generator=random)
    return linear_vae(encoder, log_var, decoder, kind.Likelihood(Spec(shape, latents, 100), **options), shape)


def images(count: int, channels: int = 1, white: int = 255) -> Images:
    pixels = np.random.default_rng(0).integers(0, 2, (count, 9, 8, channels), dtype=np.uint8)
    return Images(pixels * np.uint8(white))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def measure(metric: Any, vae: VAE, some: Images, **options: int) -> Any:
    return metric.measure(Evaluation(vae, some), **options)


# -- bounds from their parts ------------------------------------------------------------------------------------------

weights = arrays(np.float64, (5, 3), elements=st.floats(-1e5, 1e5) | st.just(-math.inf))


def test_elbo_is_the_mean_over_samples_minus_kl() -> None:
    log_likelihood = torch.tensor([[-10.0, -20.0, -33.0], [-12.0, -22.0, -35.0]])
    assert bounds.elbo(log_likelihood, torch.tensor([1.0, 2.0, 3.0])).tolist() == [-12.0, -23.0, -37.0]


def test_the_bound_of_one_sample_is_its_weight() -> None:
    given = torch.tensor([[-3.0, -1e5, -math.inf]])
    assert torch.equal(iwae_bound(given), given[0])


@given(weights)
def test_the_bound_lies_between_mean_and_maximum(log_weights: NDArray[np.float64]) -> None:
    found = iwae_bound(torch.from_numpy(log_weights)).numpy()
    assert bool((found <= log_weights.max(0) + 1e-9).all())
    assert bool((found >= log_weights.mean(0) - 1e-9).all())
    assert bool((found >= log_weights.max(0) - math.log(5) - 1e-9).all())
    assert not np.isnan(found).any()


@given(weights, st.permutations(range(5)), st.floats(-1e4, 1e4))
def test_the_bound_knows_no_order_and_moves_with_its_weights(
    log_weights: NDArray[np.float64], order: list[int], shift: float
) -> None:
    given = torch.from_numpy(log_weights)
    torch.testing.assert_close(iwae_bound(given[order]), iwae_bound(given), rtol=0, atol=1e-9)
    torch.testing.assert_close(iwae_bound(given + shift), iwae_bound(given) + shift, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    ("nats", "scale", "bits"),
    [(784 * math.log(2), 1, 1), (-784 * math.log(2) / 4, 1, -0.25), (0.0, 256, 8), (0.0, 255, 7.994353)],
)
def test_bits_per_dim_of_probabilities_and_of_scaled_densities(nats: float, scale: float, bits: float) -> None:
    assert bits_per_dim(nats, 784, scale) == pytest.approx(bits, abs=1e-6)


# -- the ELBO ---------------------------------------------------------------------------------------------------------


def elbo_by_hand(vae: VAE, x: NDArray[np.float64], epsilon: NDArray[np.float64], variance: float) -> dict[str, Any]:
    """Everything that ``measure`` returns but its protocol; ``epsilon`` is ``[samples, images, latents]``."""
    log_var = vae.encoder.log_var
    mean = x @ vae.encoder.weight.detach().double().numpy().T
    kl = 0.5 * (mean**2 + math.exp(log_var) - log_var - 1)
    z = torch.from_numpy(mean + math.exp(log_var / 2) * epsilon)
    decoded = torch.sigmoid(vae.decoder(z.flatten(0, 1)).view(*z.shape[:2], -1)).numpy()
    error = ((x - decoded) ** 2).sum(-1) / (2 * variance)
    values = (-error - 36 * math.log(2 * math.pi * variance)).mean(0) - kl.sum(1)
    return {
        "elbo": values.mean(),
        "elbo_standard_error": values.std(ddof=1) / math.sqrt(len(x)),
        "reconstruction": error.mean(),
        "kl": kl.sum(1).mean(),
        "reconstruction_plus_kl": error.mean() + kl.sum(1).mean(),
        "kl_per_latent": list(kl.mean(0)),
    }


def assert_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() - {"protocol"} == theirs.keys() - {"protocol"}
    for key in theirs.keys() - {"protocol"}:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("samples", [1, 3])
def test_elbo_by_hand(samples: int) -> None:
    evaluation = Evaluation(model(log_var=-1.5, variance=0.1), images(10, white=200))
    noise = evaluation.generator("likelihood")
    epsilon = torch.stack([torch.randn(10, 2, generator=noise) for _ in range(samples)]).double().numpy()
    found = elbo.measure(evaluation, samples=samples)
    x = evaluation.images.pixels[:].reshape(10, 72) / 255
    assert_close(found, elbo_by_hand(evaluation.model, x, epsilon, 0.1))
    assert (found["protocol"]["samples"], found["protocol"]["images"]) == (samples, 10)
    assert found["protocol"]["kl"] == "closed form"


def test_one_image_has_no_standard_error() -> None:
    for metric in (elbo, nll):
        assert not any("standard_error" in key for key in measure(metric, model(), images(1), samples=2))


def test_more_samples_change_the_bound_but_not_the_kl() -> None:
    one, many = (measure(elbo, model(), images(10), samples=samples) for samples in (1, 50))
    assert one["kl_per_latent"] == pytest.approx(many["kl_per_latent"])
    assert one["elbo"] != many["elbo"]


def test_elbo_is_minus_reconstruction_plus_kl_but_for_the_constant() -> None:
    found = measure(elbo, model(variance=0.5), images(10))
    assert found["elbo"] == pytest.approx(-found["reconstruction_plus_kl"] - 36 * math.log(math.pi))


# -- the importance-sampled likelihood --------------------------------------------------------------------------------


def weights_by_hand(vae: VAE, x: Tensor, epsilon: Tensor) -> Tensor:
    """ln w ``[samples, images]`` one code after the other, in float64."""
    x, prior = x.double(), StandardNormal(2)
    vae = vae.double()
    q = vae.encode_batch(x)
    assert isinstance(q, DiagonalNormal)
    codes = [q.rsample(noise) for noise in epsilon.double()]
    rows = [vae.decode_batch(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z) for z in codes]
    return torch.stack(rows).detach()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [gaussian, bernoulli])
def test_nll_by_hand(kind: Any, channels: int) -> None:
    evaluation = Evaluation(model(kind, channels=channels), images(6, channels))
    noise = evaluation.generator("nll")
    first, others = torch.randn(6, 2, generator=noise), torch.randn(6, 6, 2, generator=noise)
    found = nll.measure(evaluation, samples=7)
    epsilon = torch.cat([first[None], others.transpose(0, 1)])
    log_weights = weights_by_hand(model(kind, channels=channels), evaluation.images.floats(0, 6), epsilon)
    values = iwae_bound(log_weights)
    assert found["nll"] == pytest.approx(-float(values.mean()), rel=1e-6)
    assert found["nll_standard_error"] == pytest.approx(float(values.std()) / math.sqrt(6), rel=1e-5)
    effective = np.median(bounds.effective_samples(log_weights).numpy())
    assert found["effective_samples"] == pytest.approx(effective, rel=1e-4)
    assert (found["protocol"]["samples"], found["protocol"]["images"]) == (7, 6)


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 8, 9, 25])
def test_blocks_of_samples_and_images_add_up(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    table = np.random.default_rng(0).normal(-1e4, 3, (8, 4))
    table[:5, 2] = -math.inf
    pixels = np.zeros((4, 9, 8, 1), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None]
    drawn, largest = [0] * 4, 0

    def known_weights(model: VAE, prior: object, batch: Batch, noise: Noise, samples: int) -> Tensor:
        nonlocal largest
        which = (batch.x[:, 0, 0, 0] * 255).round().long().tolist()
        rows = [table[drawn[i] : drawn[i] + samples, i] for i in which]
        for i in which:
            drawn[i] += samples
        largest = max(largest, samples * len(which))
        return torch.from_numpy(np.stack(rows, 1))

    monkeypatch.setattr(nll, "sample_log_weights", known_weights)
    monkeypatch.setattr(nll, "BLOCK_BYTES", 4 * 72 * at_once)
    found = measure(nll, model(), Images(pixels), samples=8)
    assert drawn == [8] * 4
    assert largest <= at_once
    assert found["nll"] == pytest.approx(-float(iwae_bound(torch.from_numpy(table)).mean()), rel=1e-12)


def test_the_bound_comes_down_to_the_exact_value() -> None:
    """Two latents, so that p(x) = ∫ p(x|z) p(z) dz is a sum over a fine grid."""
    vae, given = model(bernoulli, log_var=0.0), images(20)
    axis = torch.linspace(-6, 6, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        joint = vae.double().decode_batch(grid).log_prob(given.floats(0, 20).double()[:, None])
    joint = joint + StandardNormal(2).log_prob(grid) + 2 * math.log(12 / 80)
    exact = -float(torch.logsumexp(joint, 1).mean())
    values = [measure(nll, vae.float(), given, samples=samples)["nll"] for samples in (1, 10, 100, 3000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > exact + 1
    assert values[-1] == pytest.approx(exact, abs=0.02)


def test_bits_are_told_of_probabilities_only() -> None:
    for metric in (elbo, nll):
        binary = measure(metric, model(bernoulli), images(5), samples=3)
        nats = -binary["elbo"] if "elbo" in binary else binary["nll"]
        assert binary["bits_per_dim"] == pytest.approx(nats / 72 / math.log(2))
        assert "probability" in binary["protocol"]["log_likelihood"]
        for other, word in (
            (measure(metric, model(bernoulli), images(5, white=200), samples=3), "not a likelihood"),
            (measure(metric, model(gaussian), images(5), samples=3), "density"),
        ):
            assert "bits_per_dim" not in other
            assert word in other["protocol"]["log_likelihood"]


def test_a_discrete_likelihood_of_grey_pixels_has_bits() -> None:
    vae = model(gaussian)
    vae.likelihood.is_discrete = True
    assert "bits_per_dim" in measure(nll, vae, images(5, white=200), samples=3)


def test_progress_counts_images() -> None:
    tasks: list[Task] = []
    with show_progress(tasks.append):
        measure(nll, model(), images(7), samples=400)
    assert {(task.done, task.total, task.is_over) for task in tasks} == {(7, 7, True)}


# -- the reference vectors --------------------------------------------------------------------------------------------


def case(name: str) -> Any:
    """A case of the reference vectors; without them the test that asks is skipped, not this module."""
    return importlib.import_module("vectors").Case(name)


def test_bound_of_given_weights() -> None:
    given = case("iwae/bound")
    log_weights = given.log_w
    found = iwae_bound(log_weights)
    given.expect("L_K_per_image", found)
    given.expect("L_K_mean", found.mean())
    given.expect("elbo_mean_over_K", torch.stack([iwae_bound(row[None]) for row in log_weights]).mean(0))
    given.expect("normalized_weights", torch.exp(log_weights - found) / len(log_weights))
    given.expect("ess", bounds.effective_samples(log_weights))


def test_bound_averaged_over_subsets() -> None:
    given = case("iwae/subset_average")
    log_weights = given.log_w
    subsets = [itertools.combinations(range(len(log_weights)), k) for k in range(1, len(log_weights) + 1)]
    averages = [np.mean([iwae_bound(log_weights[list(rows)]).numpy() for rows in of_size], 0) for of_size in subsets]
    given.expect("mean_L_k", np.stack(averages))
    assert bool((np.diff(averages, axis=0) >= 0).all())


def test_bits_per_dim_of_the_vectors() -> None:
    given = case("bits_per_dim")
    for name, scale in (("plain", 1), ("scaled_256", 256), ("scaled_255", 255)):
        given.expect(name, [bits_per_dim(float(nats), given.params["D"], scale) for nats in given.nll])


def test_a_bernoulli_model_whose_marginal_is_known() -> None:
    given = case("bernoulli_linear")
    count, latents = given.q_mu.shape
    shape = (1, 1, given.params["P"])
    x = given.x[:, None, None]

    def log_weights(mean: Tensor, log_var: Tensor, epsilon: Tensor) -> Tensor:
        likelihood = bernoulli.Likelihood(Spec(shape, latents, count))
        decoder = lambda z: (z @ given.W.T + given.b)[:, None, None]  # noqa: E731
        vae = given_vae(GivenEncoder(mean, log_var), decoder, likelihood, shape)
        noise = GivenNoise(epsilon[0], epsilon[1:].transpose(0, 1))
        return nll.sample_log_weights(vae, vae.density(), as_batch(x), noise, len(epsilon)).detach()

    posterior = given.q_mu, given.q_logvar
    of_case = log_weights(*posterior, (given.z - given.q_mu) / torch.exp(given.q_logvar / 2))
    given.expect("log_w", of_case)
    given.expect("L_K", iwae_bound(of_case))
    epsilon = torch.randn(20_000, count, latents, generator=generator(), dtype=torch.float64)
    drawn = log_weights(*posterior, epsilon)
    given.expect("elbo", drawn.mean(0), 4 * float(drawn.std(0).max()) / math.sqrt(len(drawn)))
    wide = torch.zeros_like(given.q_mu)  # the prior, whose weights are bounded; those of the case have long tails
    drawn = log_weights(wide, wide, epsilon)
    found = iwae_bound(drawn)
    errors = torch.exp(drawn - found).std(0) / math.sqrt(len(drawn))
    assert bool((errors < 0.03).all())
    given.expect("log_px", found, 4 * float(errors.max()))


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
    vae, _ = build(vae_preset.resolve((1, 28, 28), 60_000))
    for network, widths in ((vae.encoder, [784, 200, 200, 100]), (vae.decoder, [50, 200, 200, 784])):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths
        assert sum(isinstance(layer, nn.Tanh) for layer in network.modules()) == 2
