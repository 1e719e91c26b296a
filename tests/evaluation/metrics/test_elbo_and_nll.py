"""ELBO and importance-sampled likelihood: by hand, against exact marginals, against the reference vectors."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenEncoder, GivenNoise, given_vae, linear_vae
from small import as_batch
from torch import Tensor, nn
from vectors import Case

from vaelab import recipe
from vaelab.build import build
from vaelab.data.images import Images
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


def model(kind: Any = gaussian, latents: int = 2, log_var: float = -1.0, channels: int = 1, **options: float) -> VAE:
    """Linear maps with small weights under a likelihood, on images 9×8."""
    shape = (channels, 9, 8)
    random = torch.Generator().manual_seed(latents)
    encoder = 0.1 * torch.randn(latents, 72 * channels, generator=random)
    decoder = torch.randn(72 * channels, latents, generator=random)
    return linear_vae(encoder, log_var, decoder, kind.Likelihood(Spec(shape, latents, 100), **options), shape)


def images(count: int, channels: int = 1, white: int = 255) -> Images:
    pixels = np.random.default_rng(0).integers(0, 2, (count, 9, 8, channels), dtype=np.uint8)
    return Images(pixels * np.uint8(white))


def measure(metric: Any, vae: VAE, some: Images, **options: int) -> Any:
    return metric.measure(Evaluation(vae, some), **options)


@pytest.mark.parametrize(
    ("nats", "scale", "bits"),
    [(784 * math.log(2), 1, 1), (-784 * math.log(2) / 4, 1, -0.25), (0.0, 256, 8), (0.0, 255, 7.994353)],
)
def test_bits_per_dim_of_probabilities_and_scaled_densities(nats: float, scale: float, bits: float) -> None:
    assert bits_per_dim(nats, 784, scale) == pytest.approx(bits, abs=1e-6)


def test_bits_per_dim_of_the_vectors() -> None:
    case = Case("bits_per_dim")
    for name, scale in (("plain", 1), ("scaled_256", 256), ("scaled_255", 255)):
        case.expect(name, [bits_per_dim(float(nats), case.params["D"], scale) for nats in case.nll])


# -- the ELBO ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_elbo_by_hand(samples: int) -> None:
    vae, variance = model(log_var=-1.5, variance=0.1), 0.1
    evaluation = Evaluation(vae, images(10, white=200))
    noise = evaluation.generator("likelihood")
    epsilon = torch.stack([torch.randn(10, 2, generator=noise) for _ in range(samples)]).double().numpy()
    found = elbo.measure(evaluation, samples=samples)
    x = evaluation.images.pixels[:].reshape(10, 72) / 255
    mean = x @ vae.encoder.weight.detach().double().numpy().T
    kl = 0.5 * (mean**2 + math.exp(-1.5) + 1.5 - 1)
    z = torch.from_numpy(mean + math.exp(-1.5 / 2) * epsilon)
    decoded = torch.sigmoid(vae.decoder(z.flatten(0, 1)).view(samples, 10, -1)).numpy()
    error = ((x - decoded) ** 2).sum(-1) / (2 * variance)
    values = (-error - 36 * math.log(2 * math.pi * variance)).mean(0) - kl.sum(1)
    expected = {
        "elbo": values.mean(),
        "elbo_standard_error": values.std(ddof=1) / math.sqrt(10),
        "reconstruction": error.mean(),
        "kl": kl.sum(1).mean(),
        "reconstruction_plus_kl": error.mean() + kl.sum(1).mean(),
        "kl_per_latent": list(kl.mean(0)),
    }
    protocol = found.pop("protocol")
    assert found == {key: pytest.approx(value, rel=1e-5) for key, value in expected.items()}
    assert (protocol["samples"], protocol["images"], protocol["kl"]) == (samples, 10, "closed form")
    assert found["elbo"] == pytest.approx(-found["reconstruction_plus_kl"] - 36 * math.log(0.2 * math.pi))


def test_one_image_has_no_standard_error() -> None:
    for metric in (elbo, nll):
        assert not any("standard_error" in key for key in measure(metric, model(), images(1), samples=2))


def test_more_samples_change_the_bound_but_not_the_kl() -> None:
    one, many = (measure(elbo, model(), images(10), samples=samples) for samples in (1, 50))
    assert one["kl_per_latent"] == pytest.approx(many["kl_per_latent"])
    assert one["elbo"] != many["elbo"]


# -- the importance-sampled likelihood --------------------------------------------------------------------------------


def weights_by_hand(vae: VAE, x: Tensor, epsilon: Tensor) -> Tensor:
    """ln w ``[samples, images]``, one code after the other, in float64."""
    x, prior, vae = x.double(), StandardNormal(2), vae.double()
    q = vae.encode_batch(x)
    assert isinstance(q, DiagonalNormal)
    codes = [q.rsample(noise) for noise in epsilon.double()]
    rows = [vae.decode_batch(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z) for z in codes]
    return torch.stack(rows).detach()


@pytest.mark.parametrize(("kind", "channels"), [(gaussian, 1), (bernoulli, 3)])
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


@pytest.mark.parametrize("samples", [1, 200, 600, 1100])
def test_the_exact_posterior_gives_the_exact_value_in_any_number_of_blocks(samples: int) -> None:
    """The decoder ignores the code and the posterior is the prior, so every weight is p(x).

    At most 512 images are decoded at a time: two images of 200 samples each, or 600 samples of one image in two blocks.
    """
    shape, count = (1, 9, 8), 5
    likelihood = gaussian.Likelihood(Spec(shape, 2, 100))
    vae = linear_vae(torch.zeros(2, 72), 0.0, torch.zeros(72, 2), likelihood, shape)
    found = measure(nll, vae, images(count), samples=samples)
    x = images(count).floats(0, count).double()
    exact = ((x - 0.5) ** 2).sum((1, 2, 3)).mean() + 36 * math.log(math.pi)
    assert found["nll"] == pytest.approx(float(exact), rel=1e-6)
    assert found["effective_samples"] == pytest.approx(samples, rel=1e-6)


def test_the_bound_decreases_to_the_exact_value() -> None:
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


@pytest.mark.parametrize("metric", [elbo, nll])
def test_only_probabilities_have_bits_per_dim(metric: Any) -> None:
    binary = measure(metric, model(bernoulli), images(5), samples=3)
    nats = -binary["elbo"] if metric is elbo else binary["nll"]
    assert binary["bits_per_dim"] == pytest.approx(nats / 72 / math.log(2))
    grey, density = (measure(metric, model(kind), images(5, white=200), samples=3) for kind in (bernoulli, gaussian))
    kinds = {found["protocol"]["log_likelihood"] for found in (binary, grey, density)}
    assert len(kinds) == 3
    assert "bits_per_dim" not in grey.keys() | density.keys()
    vae = model(gaussian)
    vae.likelihood.is_discrete = True
    assert "bits_per_dim" in measure(metric, vae, images(5, white=200), samples=3)


def test_progress_counts_images() -> None:
    tasks: list[Task] = []
    with show_progress(tasks.append):
        measure(nll, model(), images(7), samples=400)
    assert {(task.done, task.total, task.is_over) for task in tasks} == {(7, 7, True)}


# -- bounds of the reference vectors ----------------------------------------------------------------------------------


def test_bound_of_given_weights() -> None:
    case = Case("iwae/bound")
    found = iwae_bound(case.log_w)
    case.expect("L_K_per_image", found)
    case.expect("L_K_mean", found.mean())
    case.expect("elbo_mean_over_K", torch.stack([iwae_bound(row[None]) for row in case.log_w]).mean(0))
    case.expect("normalized_weights", torch.exp(case.log_w - found) / len(case.log_w))
    case.expect("ess", bounds.effective_samples(case.log_w))


def test_bound_averaged_over_subsets() -> None:
    case = Case("iwae/subset_average")
    rows = range(len(case.log_w))
    subsets = [itertools.combinations(rows, k) for k in range(1, len(rows) + 1)]
    averages = [np.mean([iwae_bound(case.log_w[list(some)]).numpy() for some in of_size], 0) for of_size in subsets]
    case.expect("mean_L_k", np.stack(averages))
    assert bool((np.diff(averages, axis=0) >= 0).all())


def test_a_bernoulli_model_with_a_known_marginal() -> None:
    case = Case("bernoulli_linear")
    count, latents = case.q_mu.shape
    shape = (1, 1, case.params["P"])

    def log_weights(mean: Tensor, log_var: Tensor, epsilon: Tensor) -> Tensor:
        likelihood = bernoulli.Likelihood(Spec(shape, latents, count))
        decoder = lambda z: (z @ case.W.T + case.b)[:, None, None]  # noqa: E731
        vae = given_vae(GivenEncoder(mean, log_var), decoder, likelihood, shape)
        noise = GivenNoise(epsilon[0], epsilon[1:].transpose(0, 1))
        return nll.sample_log_weights(vae, vae.density(), as_batch(case.x[:, None, None]), noise, len(epsilon)).detach()

    posterior = case.q_mu, case.q_logvar
    of_case = log_weights(*posterior, (case.z - case.q_mu) / torch.exp(case.q_logvar / 2))
    case.expect("log_w", of_case)
    case.expect("L_K", iwae_bound(of_case))
    generator = torch.Generator().manual_seed(1)
    epsilon = torch.randn(20_000, count, latents, generator=generator, dtype=torch.float64)
    drawn = log_weights(*posterior, epsilon)
    case.expect("elbo", drawn.mean(0), 4 * float(drawn.std(0).max()) / math.sqrt(len(drawn)))
    wide = torch.zeros_like(case.q_mu)  # the prior, whose weights are bounded; those of the case have long tails
    drawn = log_weights(wide, wide, epsilon)
    found = iwae_bound(drawn)
    errors = torch.exp(drawn - found).std(0) / math.sqrt(len(drawn))
    assert bool((errors < 0.03).all())
    case.expect("log_px", found, 4 * float(errors.max()))


# -- presets -----------------------------------------------------------------------------------------------------------


def test_presets_of_the_likelihood_experiment_differ_in_the_objective() -> None:
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
