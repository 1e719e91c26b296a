"""The contract of metrics, over every member; the ELBO, active units, sparsity and fidelity by hand."""

import inspect
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.evaluation.metrics import (
    active_units,
    beta_score,
    decomposition,
    factor_score,
    fidelity,
    frechet,
    irs,
    kid,
    mig,
    modularity,
    precision_recall,
    sparsity,
)
from vaelab.evaluation.metrics import likelihood as likelihood_metric
from vaelab.models.codes import Codes, encode_images
from vaelab.models.likelihoods.gaussian import Likelihood, NormalPixels
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import registry as catalog

MakeModel = Callable[..., tuple[VAE, nn.Module]]
MEASURES = [name for name in catalog.names("metrics") if hasattr(catalog.load("metrics", name), "measure")]
every_measure = pytest.mark.parametrize("name", MEASURES)
every_learner = pytest.mark.parametrize(
    "name",
    [name for name in MEASURES if "train" in inspect.signature(catalog.load("metrics", name).measure).parameters],
)
every_measure_of_codes = pytest.mark.parametrize(
    "name", [name for name in catalog.names("metrics") if hasattr(catalog.load("metrics", name), "measure_codes")]
)


def images(count: int, white: int = 255, seed: int = 0) -> Images:
    """Black-or-white images 9×8 that nothing more is known of."""
    pixels = np.random.default_rng(seed).integers(0, 2, (count, 9, 8, 1), dtype=np.uint8)
    return Images(pixels * np.uint8(white))


def told_images(count: int, seed: int = 0) -> Images:
    """Such images with classes, attributes and factors."""
    random = np.random.default_rng(seed + 1)
    return Images(
        images(count, seed=seed).pixels,
        labels=np.arange(count) % 2,
        attributes=random.random((count, 2)) < 0.5,
        attribute_names=("some", "other"),
        factors=random.integers(0, 3, (count, 2)),
        factor_names=("shape", "size"),
        factor_sizes=(3, 3),
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


FEW = {"train_draws": 200, "test_draws": 100}


def few(name: str) -> dict[str, int]:
    """The options that make a metric of many draws a fast one."""
    accepted = inspect.signature(catalog.load("metrics", name).measure).parameters
    return {option: count for option, count in FEW.items() if option in accepted}


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key, item in value.items() if key != "protocol" for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value]


# -- the contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalog.names("metrics"))
def test_metrics_have_functions_on_arrays(name: str) -> None:
    module = catalog.load("metrics", name)
    own = [
        function
        for key, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not key.startswith("_")
    ]
    assert [function for function in own if not function.__name__.startswith("measure")]
    assert hasattr(module, "measure") or not hasattr(module, "measure_codes")


@every_measure
@pytest.mark.parametrize("likelihood", catalog.names("likelihoods"))
def test_measures_are_finite_numbers_with_their_protocol(make_model: MakeModel, name: str, likelihood: str) -> None:
    vae, _ = make_model(overrides={"likelihood.name": likelihood})
    measure = catalog.load("metrics", name).measure
    for data in (images(12), told_images(40)):
        measured = measure(vae, data, generator(), **few(name))
        if measured is not None:
            assert_keeps_contract(measured)
    assert measured is not None, "nothing to measure on images with classes, attributes and factors"


def assert_keeps_contract(measured: Any) -> None:
    assert isinstance(measured["protocol"], dict)
    assert measured["protocol"]
    numbers = numbers_in(measured)
    assert numbers
    assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    assert json.loads(json.dumps(measured)) == measured


@every_measure
def test_one_image_is_measured_or_has_nothing_to_measure(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    measured = catalog.load("metrics", name).measure(vae, images(1), generator())
    assert measured is None or None not in measured.values()


@every_measure
def test_measures_are_a_function_of_model_images_and_generator(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    module = catalog.load("metrics", name)
    before = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    first, again = (module.measure(vae, told_images(40), generator(), **few(name)) for _ in range(2))
    assert first == again
    assert all(torch.equal(tensor, before[key]) for key, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())


@every_measure
def test_options_of_measures_are_keywords_with_defaults(name: str) -> None:
    module = catalog.load("metrics", name)
    assert_options(module.measure, ["model", "images", "generator"])
    if hasattr(module, "measure_codes"):
        assert_options(module.measure_codes, ["codes", "images", "generator"])
        own, of_codes = (inspect.signature(f).parameters for f in (module.measure, module.measure_codes))
        assert set(of_codes) - set(own) <= {"codes", "encode"}
        for option in own.keys() & of_codes.keys():
            assert own[option] == of_codes[option]


def assert_options(measure: Callable[..., Any], wanted: list[str]) -> None:
    parameters = list(inspect.signature(measure).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == wanted
    for option in parameters[3:]:
        assert option.kind is inspect.Parameter.KEYWORD_ONLY
        assert option.default is not inspect.Parameter.empty


@every_measure_of_codes
def test_measures_of_codes_are_those_of_freshly_encoded_images(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    module, given = catalog.load("metrics", name), told_images(40)
    codes = encode_images(vae, given)
    kept = codes.mean.copy(), codes.log_var.copy()
    of_codes = module.measure_codes(codes, given, generator(), **few(name))
    assert of_codes == module.measure(vae, given, generator(), **few(name))
    np.testing.assert_array_equal(codes.mean, kept[0])
    np.testing.assert_array_equal(codes.log_var, kept[1])


@every_measure_of_codes
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_codes_that_are_not_finite_are_refused(name: str, wrong: float) -> None:
    shown, means = told_images(40), np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    means[::2, 1] = wrong
    with pytest.raises(ValueError, match="posterior means are not finite numbers"):
        catalog.load("metrics", name).measure_codes(Codes(means, np.zeros_like(means)), shown, torch.Generator())


def scores_of_arrays() -> dict[str, Callable[[NDArray[np.float64]], object]]:
    """Functions of codes or features alone, the factors or the other set being given."""
    factors = np.random.default_rng(0).integers(0, 3, (40, 2))
    other = np.random.default_rng(1).standard_normal((40, 3))
    return {
        "mig": lambda codes: mig.mig(codes, factors),
        "modularity": lambda codes: modularity.modularity(codes, factors),
        "irs": lambda codes: irs.irs(codes, factors),
        "factor_score": lambda codes: factor_score.factor_score(codes, factors, torch.Generator(), train_votes=9),
        "beta_score": lambda codes: beta_score.beta_score(codes, factors, torch.Generator(), train_votes=9),
        "active_units": active_units.active_units,
        "kl_decomposition": lambda codes: decomposition.kl_decomposition(codes, 0 * other, torch.Generator()),
        "frechet": lambda features: frechet.frechet_distance(other, features),
        "kid": lambda features: kid.kernel_distance(features, other),
        "precision_recall": lambda features: precision_recall.precision_recall(other, features),
        "density_coverage": lambda features: precision_recall.density_coverage(features, other),
    }


@pytest.mark.parametrize("name", scores_of_arrays())
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_arrays_that_are_not_finite_are_refused(name: str, wrong: float) -> None:
    score, given = scores_of_arrays()[name], np.random.default_rng(0).standard_normal((40, 3))
    score(given)
    given[::2, 1] = wrong
    with pytest.raises(ValueError, match="are not finite numbers"):
        score(given)


@every_learner
def test_what_learns_says_what_from(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    module, given, train = catalog.load("metrics", name), told_images(40), told_images(60, seed=5)
    alone, taught = module.measure(vae, given, generator()), module.measure(vae, given, generator(), train=train)
    assert alone["protocol"] != taught["protocol"]
    assert_keeps_contract(taught)
    if hasattr(module, "measure_codes"):
        extra = {"encode": partial(encode_images, vae)}
        accepted = inspect.signature(module.measure_codes).parameters
        extra = {key: value for key, value in extra.items() if key in accepted}
        codes = encode_images(vae, given)
        assert module.measure_codes(codes, given, generator(), train=train, **extra) == taught


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
    facts = Spec((1, 9, 8), latent_dim=2, num_images=100, decoder_channels=1)
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


# -- active units -----------------------------------------------------------------------------------------------------


@given(arrays(np.float64, (7, 3), elements=st.floats(-2, 2)), st.floats(-100, 100))
def test_active_units_do_not_depend_on_where_the_means_lie(means: NDArray[np.float64], shift: float) -> None:
    count, variances = active_units.active_units(means)
    moved, moved_variances = active_units.active_units(means + np.array([0, shift, 0]))
    np.testing.assert_allclose(moved_variances, ((means - means.mean(0)) ** 2).mean(0), atol=1e-10)
    near = np.abs(variances - 0.01) < 1e-9
    assert near.any() or moved == count


def test_active_units_by_variance_and_by_kl() -> None:
    swing = np.array([1.0, -1.0])[:, None]
    means = (swing * [1.0, 0.11, 0.09, 0.0] + [0, 0, 0, 3]).astype(np.float32)  # variances 1, 0.0121, 0.0081, 0
    log_vars = np.array([[-2, 0, 0, 0]] * 2, np.float32)
    measured = active_units.measure_codes(Codes(means, log_vars), images(2), generator())
    assert measured["active_units"] == 2
    assert measured["active_units_by_kl"] == 2  # the first, and the last, which lies away from the prior
    np.testing.assert_allclose(measured["variance_of_means"], [1, 0.0121, 0.0081, 0], rtol=1e-6)
    strict = active_units.measure_codes(Codes(means, log_vars), images(2), generator(), variance=0.5, kl=4.0)
    assert (strict["active_units"], strict["active_units_by_kl"]) == (1, 1)


def test_a_collapsed_model_has_no_active_unit() -> None:
    nothing = np.zeros((5, 3), np.float32)
    measured = active_units.measure_codes(Codes(nothing, nothing), images(5), generator())
    assert (measured["active_units"], measured["active_units_by_kl"]) == (0, 0)


# -- sparsity ---------------------------------------------------------------------------------------------------------


def test_hoyer_by_hand() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, -7.0], [2.0, -2.0], [1e-200, 0.0]])
    expected = [(math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1), 1, 0, 1]
    np.testing.assert_allclose(sparsity.hoyer(vectors), expected, atol=1e-12)


def test_hoyer_of_what_has_no_direction_is_nan() -> None:
    assert np.isnan(sparsity.hoyer(np.zeros((2, 3)))).all()
    assert np.isnan(sparsity.hoyer(np.ones((2, 1)))).all()


@given(arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_hoyer_lies_between_0_and_1_whatever_the_scale(vectors: NDArray[np.float64], scale: float) -> None:
    values = sparsity.hoyer(vectors)
    assert ((values[np.isfinite(values)] > -1e-12) & (values[np.isfinite(values)] < 1 + 1e-12)).all()
    np.testing.assert_allclose(sparsity.hoyer(vectors * scale), values, atol=1e-9)


def measured_sparsity(means: NDArray[Any]) -> dict[str, Any]:
    codes = Codes(means.astype(np.float32), np.zeros_like(means, np.float32))
    return sparsity.measure_codes(codes, images(len(means)), generator())


def test_sparsity_does_not_depend_on_the_scale_of_a_latent() -> None:
    means = np.random.default_rng(0).standard_normal((500, 4))
    expected = measured_sparsity(means)["hoyer"]
    assert measured_sparsity(means * [1, 1e-3, 50, 7])["hoyer"] == pytest.approx(expected, rel=1e-5)


def test_sparsity_of_normal_codes_and_of_one_latent_at_a_time() -> None:
    random, root = np.random.default_rng(0), math.sqrt(20)
    ratio = 20 * math.gamma(10) / (math.sqrt(math.pi) * math.gamma(10.5))  # E ‖u‖₁ of a random unit vector
    dense = measured_sparsity(random.standard_normal((2000, 20)))
    assert dense["hoyer"] == pytest.approx((root - ratio) / (root - 1), abs=0.005)
    assert dense["share_near_zero"] == pytest.approx(math.erf(0.1 / math.sqrt(2)), abs=0.01)
    sparse = measured_sparsity(np.eye(20)[np.arange(2000) % 20] * random.standard_normal((2000, 1)))
    assert sparse["hoyer"] == pytest.approx(1)
    assert sparse["share_near_zero"] > 0.95


def test_a_latent_that_does_not_vary_counts_as_zero() -> None:
    means = np.random.default_rng(0).standard_normal((300, 3))
    still = np.concatenate([means, np.full((300, 1), 0.3)], 1)
    zero = np.concatenate([means, np.zeros((300, 1))], 1)
    assert measured_sparsity(still)["hoyer"] == pytest.approx(measured_sparsity(zero)["hoyer"])
    collapsed = measured_sparsity(np.full((5, 3), 0.3))
    assert "hoyer" not in collapsed
    assert collapsed["protocol"]["hoyer_undefined_for"] == 5
    assert collapsed["share_near_zero"] == 0


# -- fidelity ---------------------------------------------------------------------------------------------------------


def test_psnr_is_in_decibel() -> None:
    np.testing.assert_allclose(fidelity.psnr(np.array([1.0, 0.01, 0.0])), [0, 20, np.inf], atol=1e-12)


def random_pictures(*shape: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    x = gaussian_filter(random.random(shape), (0, 0, 2, 2)) * 2 - 0.5
    return x.clip(0, 1), (x + 0.1 * random.standard_normal(shape)).clip(0, 1)


@pytest.mark.parametrize("shape", [(3, 1, 11, 11), (2, 3, 20, 13)])
def test_ssim_is_that_of_scipys_windows(shape: tuple[int, ...]) -> None:
    x, y = random_pictures(*shape)

    def filtered(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(image, (0, 0, 1.5, 1.5), radius=(0, 0, 5, 5))[..., 5:-5, 5:-5]

    mean_x, mean_y = filtered(x), filtered(y)
    spread = filtered(x**2) + filtered(y**2) - mean_x**2 - mean_y**2
    top = (2 * mean_x * mean_y + 1e-4) * (2 * (filtered(x * y) - mean_x * mean_y) + 9e-4)
    expected = (top / ((mean_x**2 + mean_y**2 + 1e-4) * (spread + 9e-4))).mean((1, 2, 3))
    np.testing.assert_allclose(fidelity.ssim(x, y), expected, rtol=1e-10)
    np.testing.assert_allclose(fidelity.ssim(y, x), expected, rtol=1e-10)
    np.testing.assert_allclose(fidelity.ssim(x, x), 1, rtol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.8), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_plain_images(a: float, b: float) -> None:
    value = fidelity.ssim(np.full((1, 1, 12, 14), a), np.full((1, 1, 12, 14), b))
    assert value[0] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError, match="11 pixels or more; got 12×10"):
        fidelity.ssim(np.zeros((1, 1, 12, 10)), np.zeros((1, 1, 12, 10)))


@pytest.mark.parametrize("block", [1, 300, 500])
def test_blocks_of_ssim_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    x, y = random_pictures(5, 1, 14, 12)
    whole = fidelity.ssim(x, y)
    monkeypatch.setattr(fidelity, "BLOCK", block)
    np.testing.assert_allclose(fidelity.ssim(x, y), whole, rtol=1e-12)


def test_fidelity_by_hand() -> None:
    vae, given = linear_model(log_var=0.0), images(10, white=200)  # a sample of the posterior would be far off
    x = given.pixels.reshape(10, 72) / 255
    z = x @ vae.encoder.weight.detach().double().numpy().T
    errors = ((x - 1 / (1 + np.exp(-z @ vae.decoder.weight.detach().double().numpy().T))) ** 2).mean(1)
    measured = fidelity.measure(vae, given, generator())
    assert measured["mse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert measured["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(errors.mean()), rel=1e-5)
    assert measured["psnr_mean_over_finite"] == pytest.approx((-10 * np.log10(errors)).mean(), rel=1e-5)
    assert measured["psnr_mean_over_finite"] > measured["psnr_of_mean_mse"]
    assert "ssim" not in measured
    assert "below 11" in measured["protocol"]["ssim"]


class Showing(nn.Module):
    """Stands in for a decoder: shows its pictures one after the other, whatever the code."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures, self.shown = nn.Parameter(pictures), 0

    def forward(self, z: Tensor) -> Tensor:
        self.shown += len(z)
        return self.pictures[self.shown - len(z) : self.shown]


class AsTheyAre(nn.Module):
    """Stands in for a likelihood: what is decoded is the image."""

    def forward(self, decoded: Tensor) -> NormalPixels:
        return NormalPixels(decoded, 0.5)


def showing_model(pixels: NDArray[np.uint8]) -> VAE:
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    facts = Spec(tuple(pictures.shape[1:]), latent_dim=2, num_images=100)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pictures[0].numel(), 2))
    return VAE(facts, Twice(encoder), Showing(pictures), AsTheyAre())


class Twice(nn.Module):
    """An encoder whose log-variance is its mean."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(x), self.network(x)


def test_infinite_ratios_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 11, 3), dtype=np.uint8)
    perfect = fidelity.measure(showing_model(pixels), Images(pixels), generator())
    assert (perfect["mse"], perfect["ssim"]) == (0, pytest.approx(1))
    assert not any("psnr" in key for key in perfect if key != "protocol")
    assert perfect["protocol"]["identical_images"] == 5
    other = pixels.copy()
    other[0] = 255 - other[0]
    monkeypatch.setattr(fidelity, "CHUNK", 2)
    measured = fidelity.measure(showing_model(other), Images(pixels), generator())
    error = ((pixels[0] / 255 - other[0] / 255) ** 2).mean()
    assert measured["psnr_mean_over_finite"] == pytest.approx(-10 * math.log10(error), rel=1e-5)
    assert measured["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(error / 5), rel=1e-5)
    assert measured["protocol"]["identical_images"] == 4
    assert measured["ssim"] < 0.9
