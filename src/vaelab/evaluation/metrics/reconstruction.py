"""Similarity of reconstructions to their images: MSE, PSNR and SSIM."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_columns
from vaelab.system.progress import progress

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, in pixels."""
K1, K2 = 0.01, 0.03
BLOCK = 1 << 21
"""Pixel values that SSIM processes at a time: 16 MB."""

Pictures = Float[np.ndarray, "n channel height width"]


def mse(x: Pictures, y: Pictures) -> Float[np.ndarray, " n"]:
    """Return the mean squared difference over the pixel values of each image, in [0, 1]; float64."""
    errors: NDArray[np.float64] = ((x.astype(np.float64) - y) ** 2).mean((1, 2, 3))
    return errors


def psnr(errors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return 10 log₁₀(1/MSE) in decibels, for values in [0, 1]; infinite for an MSE of 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors.astype(np.float64))


def ssim(x: Pictures, y: Pictures) -> Float[np.ndarray, " n"]:
    """Return the structural similarity of each pair of images in [0, 1], mean over channels and window positions.

    Wang et al. 2004 (IEEE TIP 13(4)), equation 13, with an 11×11 Gaussian window (σ = 1.5), K₁ = 0.01 and K₂ = 0.03.
    Variances are those of the population, and the window lies inside the image. float64. Raises ValueError for a
    side below 11.
    """
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs sides of {WINDOW} pixels or more; got {x.shape[2]}×{x.shape[3]}")
    filters = [_window_matrix(side) for side in x.shape[2:]]
    step = max(1, BLOCK // int(np.prod(x.shape[1:])))
    pairs = zip(torch.split(torch.from_numpy(x), step), torch.split(torch.from_numpy(y), step), strict=True)
    parts = [_ssim_map(a.double(), b.double(), *filters).mean((1, 2, 3)) for a, b in pairs]
    values: NDArray[np.float64] = torch.cat(parts).numpy()
    return values


def _window_matrix(side: int) -> Float[Tensor, "position {side}"]:
    """Return the normalised Gaussian window at each position inside ``side`` pixels, so that one product filters."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    positions = np.arange(side - WINDOW + 1)
    matrix = np.zeros((len(positions), side))
    matrix[positions[:, None], positions[:, None] + np.arange(WINDOW)] = weights / weights.sum()
    return torch.from_numpy(matrix)


def _ssim_map(x: Tensor, y: Tensor, down: Tensor, across: Tensor) -> Tensor:
    mean_x, mean_y, square_x, square_y, product = (down @ z @ across.T for z in (x, y, x * x, y * y, x * y))
    variances = square_x + square_y - mean_x**2 - mean_y**2
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * (product - mean_x * mean_y) + c2) / (variances + c2)


@torch.no_grad()
def measure(evaluation: Evaluation) -> Result:
    """MSE, PSNR by both conventions, and SSIM of the expected images of posterior means.

    "psnr_of_mean_mse" and "psnr_mean_over_finite" differ; the second, a mean over images, is larger if no image is
    reproduced exactly. Either is left out if it would be infinite, and SSIM if a side is below 11 pixels.
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
    window = f"Gaussian window {WINDOW}×{WINDOW}, σ {SIGMA}, K1 {K1}, K2 {K2}, inside only, mean of channels"
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
            "ssim": window if has_ssim else f"left out: sides below {WINDOW} pixels",
        },
    }


METRIC = Metric(
    measure,
    question="fit",
    quantities=(Quantity("psnr_mean_over_finite", "PSNR, mean over images", "dB", "higher"),),
    order=60,
    synonyms=("fidelity", "psnr", "ssim", "mse"),
)
