"""MSE, PSNR and SSIM: reference vectors, SciPy's windows, by hand; large images in parts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenDecoder, GivenLikelihood, linear_vae
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from vectors import Case

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import elbo, nll, reconstruction
from vaelab.evaluation.metrics.reconstruction import mse, psnr, ssim
from vaelab.models.likelihoods import gaussian
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE


@pytest.mark.parametrize("which", ["grey", "colour"])
def test_images_of_the_vectors(which: str) -> None:
    case = Case(f"images/{which}")
    x, y = case.x_uint8.numpy() / 255, case.y_uint8.numpy() / 255
    assert list(x.shape) == case.params["shape"]
    errors, ratios = mse(x, y), psnr(mse(x, y))
    case.expect("mse_per_image", errors)
    case.expect("psnr_per_image", ratios)
    case.expect("psnr_of_mean_mse", psnr(errors.mean(keepdims=True))[0])
    case.expect("psnr_mean_over_finite", ratios[np.isfinite(ratios)].mean())
    case.expect("ssim_per_image", ssim(x, y))
    case.expect("ssim_mean", ssim(x, y).mean())


def test_psnr_is_in_decibels() -> None:
    np.testing.assert_allclose(psnr(np.array([1.0, 0.01, 0.0])), [0, 20, np.inf], atol=1e-12)


def by_scipy(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    def filtered(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(image, (0, 0, 1.5, 1.5), radius=(0, 0, 5, 5))[..., 5:-5, 5:-5]

    mean_x, mean_y = filtered(x), filtered(y)
    spread = filtered(x**2) + filtered(y**2) - mean_x**2 - mean_y**2
    top = (2 * mean_x * mean_y + 1e-4) * (2 * (filtered(x * y) - mean_x * mean_y) + 9e-4)
    return (top / ((mean_x**2 + mean_y**2 + 1e-4) * (spread + 9e-4))).mean((1, 2, 3))


@pytest.mark.parametrize("shape", [(3, 1, 11, 11), (2, 3, 20, 13), (12_600, 1, 13, 13)])  # the last: two blocks
def test_ssim_is_that_of_scipys_windows(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x = gaussian_filter(random.random(shape), (0, 0, 2, 2)) * 2 - 0.5
    x, y = x.clip(0, 1), (x + 0.1 * random.standard_normal(shape)).clip(0, 1)
    np.testing.assert_allclose(ssim(x, y), by_scipy(x, y), rtol=1e-9)
    np.testing.assert_allclose(ssim(y[:3], x[:3]), ssim(x[:3], y[:3]), rtol=1e-10)
    np.testing.assert_allclose(ssim(x[:3], x[:3]), 1, rtol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.8), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_plain_images(a: float, b: float) -> None:
    value = ssim(np.full((1, 1, 12, 14), a), np.full((1, 1, 12, 14), b))
    assert value[0] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError):
        ssim(np.zeros((1, 1, 12, 10)), np.zeros((1, 1, 12, 10)))


# -- measure ----------------------------------------------------------------------------------------------------------


def small_vae(shape: tuple[int, int, int] = (1, 9, 8), log_var: float = 0.0) -> VAE:
    random, pixels = torch.Generator().manual_seed(0), math.prod(shape)
    encoder, decoder = torch.randn(2, pixels, generator=random), torch.randn(pixels, 2, generator=random)
    encoder *= 0.3 * math.sqrt(72 / pixels)
    return linear_vae(encoder, log_var, decoder, gaussian.Likelihood(Spec(shape, 2, 100)), shape)


def random_images(count: int, shape: tuple[int, int, int] = (9, 8, 1)) -> Images:
    return Images(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


@pytest.mark.parametrize("count", [10, 700])  # 512 images go through the networks at a time
def test_reconstruction_by_hand(count: int) -> None:
    vae, given = small_vae(), random_images(count)  # a sample of the posterior would be far off
    x = given.floats(0, count)
    decoded = torch.sigmoid(vae.decoder(x.flatten(1) @ vae.encoder.weight.T))
    errors = ((x - decoded) ** 2).mean((1, 2, 3)).detach().double().numpy()
    found = reconstruction.measure(Evaluation(vae, given))
    assert found["mse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert found["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(errors.mean()), rel=1e-5)
    assert found["psnr_mean_over_finite"] == pytest.approx((-10 * np.log10(errors)).mean(), rel=1e-5)
    assert found["psnr_mean_over_finite"] > found["psnr_of_mean_mse"]
    assert "ssim" not in found, "sides below 11 pixels"


def showing_vae(pixels: NDArray[np.uint8]) -> VAE:
    """Shows these pictures one after the other, for any code."""
    pictures = iter(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    vae = small_vae((3, 12, 11))
    vae.decoder = GivenDecoder(lambda z: torch.stack([next(pictures) for _ in z]))
    vae.likelihood = GivenLikelihood(lambda decoded: NormalPixels(decoded, 0.5))
    return vae


def test_infinite_ratios_are_left_out_and_counted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 11, 3), dtype=np.uint8)
    perfect = reconstruction.measure(Evaluation(showing_vae(pixels), Images(pixels)))
    assert (perfect["mse"], perfect["ssim"]) == (0, pytest.approx(1))
    assert not any("psnr" in key for key in perfect if key != "protocol")
    assert perfect["protocol"]["identical_images"] == 5
    other = pixels.copy()
    other[0] = 255 - other[0]
    found = reconstruction.measure(Evaluation(showing_vae(other), Images(pixels)))
    error = ((pixels[0] / 255 - other[0] / 255) ** 2).mean()
    assert found["psnr_mean_over_finite"] == pytest.approx(-10 * math.log10(error), rel=1e-5)
    assert found["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(error / 5), rel=1e-5)
    assert found["protocol"]["identical_images"] == 4
    assert found["ssim"] < 0.9


class Watched(nn.Module):
    """Notes how many values pass through a network at a time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.largest = network, 0

    def forward(self, given: Tensor, condition: Tensor | None = None) -> Tensor:
        out = self.network(given, condition)
        self.largest = max(self.largest, given.numel(), out.numel())
        return out


@pytest.mark.parametrize("metric", [elbo, reconstruction, nll])
def test_large_images_go_through_the_networks_a_few_at_a_time(metric: Any) -> None:
    """Ten images of 4 million pixels, of which four fit into the 64 MB of a chunk."""
    shape = (1, 8, 500_000)
    vae, given = small_vae(shape), random_images(10, (*shape[1:], 1))
    watched = vae.encoder, vae.decoder = Watched(vae.encoder), Watched(vae.decoder)
    metric.measure(Evaluation(vae, given), **({"samples": 2} if metric is nll else {}))
    assert 0 < max(network.largest for network in watched) <= 4 * math.prod(shape)


def test_elbo_of_many_images_is_that_of_their_parts() -> None:
    vae, given = small_vae(log_var=-30.0), random_images(700)  # codes are the means, without noise
    whole, *parts = (
        elbo.measure(Evaluation(vae, given.take(np.arange(*span)))) for span in ((700,), (300,), (300, 700))
    )
    for key in ("elbo", "reconstruction", "kl"):
        assert whole[key] == pytest.approx((300 * parts[0][key] + 400 * parts[1][key]) / 700, rel=1e-5)
