"""The contract of metrics, over every member; the ELBO by hand."""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab import catalog
from vaelab.facts import Facts
from vaelab.images import Images
from vaelab.likelihoods.gaussian import Likelihood
from vaelab.metrics import likelihood as likelihood_metric
from vaelab.model import VAE

MakeModel = Callable[..., tuple[VAE, nn.Module]]
every_measure = pytest.mark.parametrize(
    "name", [name for name in catalog.names("metrics") if hasattr(catalog.load("metrics", name), "measure")]
)


def images(count: int, white: int = 255) -> Images:
    """Black-or-white images 9×8."""
    pixels = np.random.default_rng(0).integers(0, 2, (count, 9, 8, 1), dtype=np.uint8)
    return Images(pixels * np.uint8(white))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key, item in value.items() if key != "protocol" for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value]


# -- the contract -----------------------------------------------------------------------------------------------------


@every_measure
@pytest.mark.parametrize("likelihood", catalog.names("likelihoods"))
def test_measures_are_finite_numbers_with_their_protocol(make_model: MakeModel, name: str, likelihood: str) -> None:
    vae, _ = make_model(overrides={"likelihood.name": likelihood})
    measured = catalog.load("metrics", name).measure(vae, images(12), generator())
    assert isinstance(measured["protocol"], dict)
    assert measured["protocol"]
    numbers = numbers_in(measured)
    assert numbers
    assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    assert json.loads(json.dumps(measured)) == measured


@every_measure
def test_measures_are_a_function_of_model_images_and_generator(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    module = catalog.load("metrics", name)
    before = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    first, again = (module.measure(vae, images(12), generator()) for _ in range(2))
    assert first == again
    assert all(torch.equal(tensor, before[key]) for key, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())


@every_measure
def test_options_of_measures_are_keywords_with_defaults(name: str) -> None:
    model, given, random, *options = inspect.signature(catalog.load("metrics", name).measure).parameters.values()
    assert [model.name, given.name, random.name] == ["model", "images", "generator"]
    for option in options:
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert option.default is not inspect.Parameter.empty


# -- the bound from its parts -----------------------------------------------------------------------------------------


def test_elbo_is_the_mean_over_samples_minus_kl() -> None:
    log_likelihood = np.array([[-10.0, -20.0, -33.0], [-12.0, -22.0, -35.0]])
    values, error = likelihood_metric.elbo(log_likelihood, np.array([1.0, 2.0, 3.0]))
    assert values.tolist() == [-12.0, -23.0, -37.0]
    assert error == pytest.approx(np.std([-12, -23, -37], ddof=1) / math.sqrt(3))


def test_elbo_adds_in_float64() -> None:
    log_likelihood = np.full((3, 1), -1e5, np.float32)
    values, _ = likelihood_metric.elbo(log_likelihood, np.array([1e-3], np.float32))
    assert values.dtype == np.float64
    assert values[0] == pytest.approx(-1e5 - 1e-3, rel=1e-12)


def test_one_image_has_no_standard_error() -> None:
    assert likelihood_metric.elbo(np.zeros((2, 1)), np.zeros(1))[1] is None


def test_bits_per_dim() -> None:
    assert likelihood_metric.bits_per_dim(math.log(2) * 784, 784) == pytest.approx(1)
    assert likelihood_metric.bits_per_dim(-3 * math.log(2), 12) == pytest.approx(-0.25)


# -- measure ----------------------------------------------------------------------------------------------------------


class LinearEncoder(nn.Module):
    """One linear layer to the mean; the same log-variance for every image."""

    def __init__(self, log_var: float) -> None:
        super().__init__()
        weight = 0.3 * torch.randn(2, 72, generator=torch.Generator().manual_seed(0))
        self.weight, self.log_var = nn.Parameter(weight), log_var

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.weight.T
        return mean, torch.full_like(mean, self.log_var)


class LinearDecoder(nn.Module):
    """One linear layer to the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(72, 2, generator=torch.Generator().manual_seed(1)))

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T).view(-1, 1, 9, 8)


def linear_model(log_var: float, variance: float = 0.1) -> VAE:
    facts = Facts((1, 9, 8), latent_dim=2, num_images=100, decoder_channels=1)
    return VAE(facts, LinearEncoder(log_var), LinearDecoder(), Likelihood(facts, variance=variance))


def by_hand(vae: VAE, x: NDArray[np.float64], epsilon: NDArray[np.float64], variance: float) -> dict[str, Any]:
    """Everything that ``measure`` returns but its protocol; ``epsilon`` is ``[samples, images, latents]``."""
    log_var = vae.encoder.log_var
    mean = x @ vae.encoder.weight.detach().double().numpy().T
    kl = 0.5 * (mean**2 + math.exp(log_var) - log_var - 1)
    z = mean + math.exp(log_var / 2) * epsilon
    decoded = 1 / (1 + np.exp(-z @ vae.decoder.weight.detach().double().numpy().T))
    error = ((x - decoded) ** 2).sum(-1) / (2 * variance)
    elbo = (-error - 36 * math.log(2 * math.pi * variance)).mean(0) - kl.sum(1)
    return {
        "elbo": elbo.mean(),
        "elbo_standard_error": elbo.std(ddof=1) / math.sqrt(len(x)),
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
def test_measure_by_hand(samples: int) -> None:
    vae, given, noise = linear_model(log_var=-1.5), images(10, white=200), generator()
    epsilon = torch.stack([torch.randn(10, 2, generator=noise) for _ in range(samples)]).double().numpy()
    measured = likelihood_metric.measure(vae, given, generator(), samples=samples)
    assert_close(measured, by_hand(vae, given.pixels.reshape(10, 72) / 255, epsilon, 0.1))
    assert measured["protocol"]["samples"] == samples
    assert measured["protocol"]["images"] == 10


def test_more_samples_change_the_bound_but_not_the_kl() -> None:
    vae, given = linear_model(log_var=-1.5), images(10)
    one, many = (likelihood_metric.measure(vae, given, generator(), samples=samples) for samples in (1, 50))
    assert one["kl_per_latent"] == many["kl_per_latent"]
    assert one["elbo"] != many["elbo"]


@pytest.mark.parametrize("chunk", [1, 3, 5, 10])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    vae, given = linear_model(log_var=-30.0), images(10)  # codes that are the means, whatever the noise
    whole = likelihood_metric.measure(vae, given, generator(), samples=2)
    monkeypatch.setattr(likelihood_metric, "CHUNK", chunk)
    assert_close(likelihood_metric.measure(vae, given, generator(), samples=2), whole)


def test_elbo_is_minus_reconstruction_plus_kl_but_for_the_constant() -> None:
    measured = likelihood_metric.measure(linear_model(-1.5, variance=0.5), images(10), generator())
    assert measured["elbo"] == pytest.approx(-measured["reconstruction_plus_kl"] - 36 * math.log(math.pi))
