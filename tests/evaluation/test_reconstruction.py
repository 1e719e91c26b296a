"""Reconstructions beside their images: MSE, PSNR and SSIM by hand, and how many images are looked at at once."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenDecoder, GivenLikelihood, linear_vae
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import elbo, nll, reconstruction
from vaelab.models.likelihoods import gaussian
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE


def test_psnr_is_in_decibel() -> None:
    np.testing.assert_allclose(reconstruction.psnr(np.array([1.0, 0.01, 0.0])), [0, 20, np.inf], atol=1e-12)


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
    np.testing.assert_allclose(reconstruction.ssim(x, y), expected, rtol=1e-10)
    np.testing.assert_allclose(reconstruction.ssim(y, x), expected, rtol=1e-10)
    np.testing.assert_allclose(reconstruction.ssim(x, x), 1, rtol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.8), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_plain_images(a: float, b: float) -> None:
    value = reconstruction.ssim(np.full((1, 1, 12, 14), a), np.full((1, 1, 12, 14), b))
    assert value[0] == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError, match="11 pixels or more; got 12×10"):
        reconstruction.ssim(np.zeros((1, 1, 12, 10)), np.zeros((1, 1, 12, 10)))


@pytest.mark.parametrize("block", [1, 300, 500])
def test_blocks_of_ssim_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    x, y = random_pictures(5, 1, 14, 12)
    whole = reconstruction.ssim(x, y)
    monkeypatch.setattr(reconstruction, "BLOCK", block)
    np.testing.assert_allclose(reconstruction.ssim(x, y), whole, rtol=1e-12)


# -- measure ----------------------------------------------------------------------------------------------------------


def small_vae(shape: tuple[int, int, int] = (1, 9, 8)) -> VAE:
    random, pixels = torch.Generator().manual_seed(0), math.prod(shape)
    encoder, decoder = torch.randn(2, pixels, generator=random), torch.randn(pixels, 2, generator=random)
    return linear_vae(0.3 * encoder, 0.0, decoder, gaussian.Likelihood(Spec(shape, 2, 100)), shape)


def random_images(count: int, shape: tuple[int, int, int] = (9, 8, 1)) -> Images:
    return Images(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


def test_reconstruction_by_hand() -> None:
    vae, given = small_vae(), random_images(10)  # a sample of the posterior would be far off
    x = given.floats(0, 10)
    decoded = torch.sigmoid(vae.decoder(x.flatten(1) @ vae.encoder.weight.T))
    errors = ((x - decoded) ** 2).mean((1, 2, 3)).detach().double().numpy()
    measured = reconstruction.measure(Evaluation(vae, given))
    assert measured["mse"] == pytest.approx(errors.mean(), rel=1e-5)
    assert measured["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(errors.mean()), rel=1e-5)
    assert measured["psnr_mean_over_finite"] == pytest.approx((-10 * np.log10(errors)).mean(), rel=1e-5)
    assert measured["psnr_mean_over_finite"] > measured["psnr_of_mean_mse"]
    assert "ssim" not in measured
    assert "below 11" in measured["protocol"]["ssim"]


def showing_vae(pixels: NDArray[np.uint8]) -> VAE:
    """Shows these pictures one after the other, whatever the code."""
    pictures = iter(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    vae = small_vae((3, 12, 11))
    vae.decoder = GivenDecoder(lambda z: torch.stack([next(pictures) for _ in z]))
    vae.likelihood = GivenLikelihood(lambda decoded: NormalPixels(decoded, 0.5))
    return vae


def test_infinite_ratios_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12, 11, 3), dtype=np.uint8)
    perfect = reconstruction.measure(Evaluation(showing_vae(pixels), Images(pixels)))
    assert (perfect["mse"], perfect["ssim"]) == (0, pytest.approx(1))
    assert not any("psnr" in key for key in perfect if key != "protocol")
    assert perfect["protocol"]["identical_images"] == 5
    other = pixels.copy()
    other[0] = 255 - other[0]
    monkeypatch.setattr("vaelab.models.chunks.EVAL_BATCH_SIZE", 2)
    measured = reconstruction.measure(Evaluation(showing_vae(other), Images(pixels)))
    error = ((pixels[0] / 255 - other[0] / 255) ** 2).mean()
    assert measured["psnr_mean_over_finite"] == pytest.approx(-10 * math.log10(error), rel=1e-5)
    assert measured["psnr_of_mean_mse"] == pytest.approx(-10 * math.log10(error / 5), rel=1e-5)
    assert measured["protocol"]["identical_images"] == 4
    assert measured["ssim"] < 0.9


class Watched(nn.Module):
    """Notes how many values pass through a network at once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.largest = network, 0

    def forward(self, given: Tensor, condition: Tensor | None = None) -> Tensor:
        out = self.network(given, condition)
        self.largest = max(self.largest, given.numel(), out.numel())
        return out


@pytest.mark.parametrize("metric", [elbo, reconstruction, nll])
def test_large_images_go_through_the_networks_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, metric: Any) -> None:
    monkeypatch.setattr("vaelab.models.chunks.EVAL_BATCH_BYTES", 4 * 400 * 3)  # three images of 20 × 20
    vae, given = small_vae((1, 20, 20)), random_images(10, (20, 20, 1))
    watched = vae.encoder, vae.decoder = Watched(vae.encoder), Watched(vae.decoder)
    metric.measure(Evaluation(vae, given), **({"samples": 4} if metric is nll else {}))
    assert 0 < max(network.largest for network in watched) <= 3 * 400


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    vae, given = small_vae(), random_images(10)
    vae.encoder.log_var = -30.0  # codes are the means, whatever the noise
    whole = [metric.measure(Evaluation(vae, given)) for metric in (elbo, reconstruction)]
    monkeypatch.setattr("vaelab.models.chunks.EVAL_BATCH_SIZE", chunk)
    for metric, expected in zip((elbo, reconstruction), whole, strict=True):
        found = metric.measure(Evaluation(vae, given))
        for key in expected.keys() - {"protocol"}:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-5)
