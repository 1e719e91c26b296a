"""How closely reconstructions resemble their images."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_columns
from vaelab.system.progress import progress

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, in pixels."""
K1, K2 = 0.01, 0.03
BLOCK = 1 << 21
"""Pixel values that SSIM looks at together: 16 MB."""

Pictures = Float[np.ndarray, "n channel height width"]


def mse(x: Pictures, y: Pictures) -> Float[np.ndarray, " n"]:
    """Mean squared difference over the pixel values of each image, in [0, 1]; float64."""
    difference = x.astype(np.float64) - y
    errors: NDArray[np.float64] = (difference**2).mean((1, 2, 3))
    return errors


def psnr(errors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """10 log₁₀(1/MSE) in decibel, for values in [0, 1]; infinite for an MSE of 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors.astype(np.float64))


def ssim(x: Pictures, y: Pictures) -> Float[np.ndarray, " n"]:
    """Structural similarity of each pair of images in [0, 1]: mean over channels and over all places of the window.

    Wang et al. 2004 (IEEE TIP 13(4)), equation 13, with an 11×11 Gaussian window (σ = 1.5), K₁ = 0.01, K₂ = 0.03,
    population variances, and only places where the window lies inside. float64. ValueError for a side below 11.
    """
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs sides of {WINDOW} pixels or more; got {x.shape[2]}×{x.shape[3]}")
    down, across = (_window_at_every_place(side) for side in x.shape[2:])
    step = max(1, BLOCK // int(np.prod(x.shape[1:])))
    parts = [
        _ssim_map(torch.from_numpy(x[i : i + step]).double(), torch.from_numpy(y[i : i + step]).double(), down, across)
        for i in range(0, len(x), step)
    ]
    values: NDArray[np.float64] = np.concatenate([part.mean((1, 2, 3)).numpy() for part in parts])
    return values


def _window_at_every_place(side: int) -> torch.Tensor:
    """``[places, side]``: the normalised Gaussian window at each place where it lies inside; one product filters."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    places = side - WINDOW + 1
    band = np.zeros((places, side))
    for k, weight in enumerate(weights / weights.sum()):
        band[np.arange(places), np.arange(places) + k] = weight
    return torch.from_numpy(band)


def _ssim_map(x: torch.Tensor, y: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    def filtered(image: torch.Tensor) -> torch.Tensor:
        return down @ image @ across.T

    mean_x, mean_y = filtered(x), filtered(y)
    variances = filtered(x * x) + filtered(y * y) - mean_x**2 - mean_y**2
    covariance = filtered(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


@torch.no_grad()
def measure(evaluation: Evaluation) -> dict[str, Any]:
    """MSE, PSNR by both conventions, and SSIM of the expected images of posterior means.

    ``psnr_of_mean_mse`` and ``psnr_mean_over_finite`` are different numbers; the second, a mean over images, is the
    larger if no image is reproduced exactly. Each is left out if it would be infinite, SSIM if a side is below 11
    pixels.
    """
    model, images = evaluation.model, evaluation.images
    has_ssim = min(images.image_shape[1:]) >= WINDOW
    errors, similarities = np.empty(len(images)), np.empty(len(images))
    with progress("comparing reconstructions", len(images)) as bar:
        for start, stop in chunk_spans(len(images), images.image_shape):
            batch = images.batch(start, stop, model.device)
            condition = condition_columns(model.spec, batch.labels, batch.attributes)
            decoded = model.decode_batch(model.encode_batch(batch.x, condition).mean, condition).mean
            x, rebuilt = batch.x.cpu().numpy(), decoded.float().cpu().numpy()
            errors[start:stop] = mse(x, rebuilt)
            if has_ssim:
                similarities[start:stop] = ssim(x, rebuilt)
            bar.advance(stop - start)
    ratios = psnr(errors)
    finite = ratios[np.isfinite(ratios)]
    return {
        "mse": float(errors.mean()),
        **({"psnr_of_mean_mse": float(psnr(errors.mean(keepdims=True))[0])} if errors.any() else {}),
        **({"psnr_mean_over_finite": float(finite.mean())} if len(finite) else {}),
        **({"ssim": float(similarities.mean())} if has_ssim else {}),
        "protocol": {
            "images": len(images),
            "identical_images": len(ratios) - len(finite),
            "reconstructions": "expected images of posterior means",
            "mse": "mean over pixel values in [0, 1]",
            "psnr": "decibel",
            "ssim": f"Gaussian window {WINDOW}×{WINDOW}, σ {SIGMA}, K1 {K1}, K2 {K2}, inside only, mean of channels"
            if has_ssim
            else f"left out: sides below {WINDOW} pixels",
        },
    }


METRIC = Metric(
    measure,
    question="fit",
    quantities=(Quantity("psnr_mean_over_finite", "PSNR, mean over images", "dB", "higher"),),
    order=60,
    synonyms=("fidelity", "psnr", "ssim", "mse"),
)
