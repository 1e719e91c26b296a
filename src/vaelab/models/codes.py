"""Latent space as arrays: codes of a data set, grids over the prior, principal axes, directions, linear probe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from vaelab.data.images import Images, as_tensor
from vaelab.data.pictures import read_ahead
from vaelab.models.distributions import DiagonalNormal
from vaelab.models.vae import VAE, chunk_length
from vaelab.system.device import Precision, autocast, progress
from vaelab.system.registry import unknown

Method = Literal["means", "probe"]


@dataclass(frozen=True)
class Codes:
    """Posteriors of a set of images."""

    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]

    def take(self, indices: Int[np.ndarray, " chosen"]) -> "Codes":
        """The posteriors at ``indices``."""
        return Codes(self.mean[indices], self.log_var[indices])

    @property
    def kl(self) -> Float[np.ndarray, " latent"]:
        """Mean KL to the prior of each latent, nats per image."""
        posterior = DiagonalNormal(torch.from_numpy(self.mean).double(), torch.from_numpy(self.log_var).double())
        means: NDArray[np.float64] = posterior.kl().mean(0).numpy()
        return means


Encode = Callable[[Images], Codes]
"""Images → their posteriors under one model."""


def as_finite(values: Float[np.ndarray, "n column"], what: str = "posterior means") -> NDArray[np.float64]:
    """float64; ValueError where one is no finite number: what is made of it may look like any other result."""
    if not np.isfinite(values).all():
        raise ValueError(f"some {what} are not finite numbers, as those of a diverged model: nothing can be measured")
    return values.astype(np.float64)


def chunk_spans(count: int, image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """(first, one after the last) of the chunks in which so many images of this shape go through a network."""
    length = chunk_length(image_shape)
    return [(start, min(start + length, count)) for start in range(0, count, length)]


def encode_spans(
    model: VAE, images: Images, spans: Sequence[tuple[int, int]], precision: Precision = "fp32"
) -> Iterator[Float[np.ndarray, "2 _ latent"]]:
    """The posteriors of one span of images after the other, means and log-variances, float32.

    The next images are read while the model works. Memory for two spans of images, however many there are.
    """
    with progress("encoding", sum(stop - start for start, stop in spans)) as bar:
        for pixels in read_ahead(images.pixels, spans):
            with autocast(model.device, precision):
                posterior = model.encode(as_tensor(pixels).to(model.device))  # as uint8: a quarter of the way
            yield torch.stack([posterior.mean, posterior.log_var]).numpy()
            bar.advance(len(pixels))


def encode_images(model: VAE, images: Images) -> Codes:
    """The posterior of every image, float32; memory for the codes and two chunks of images."""
    codes = np.empty((2, len(images), model.spec.latent_dim), np.float32)
    spans = chunk_spans(len(images), model.spec.image_shape)
    for (start, stop), part in zip(spans, encode_spans(model, images, spans), strict=True):
        codes[:, start:stop] = part
    return Codes(*codes)


def prior_quantiles(count: int, coverage: float = 0.98) -> Float[np.ndarray, " count"]:
    """Values of one latent that cut ``coverage`` of N(0, 1) into pieces of equal probability."""
    probabilities = torch.linspace(0.5 - coverage / 2, 0.5 + coverage / 2, count, dtype=torch.float64)
    quantiles: NDArray[np.float32] = torch.special.ndtri(probabilities).float().numpy()
    return quantiles


def prior_grid(count: int) -> Float[np.ndarray, "points 2"]:
    """Two-latent codes over the prior's quantiles, row by row from the top left: z₂ falls, z₁ rises."""
    axis = prior_quantiles(count)
    return np.stack(np.meshgrid(axis, axis[::-1]), axis=-1).reshape(-1, 2)


def traverse(
    code: Float[np.ndarray, " latent"], latents: Int[np.ndarray, " rows"], values: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "rows columns latent"]:
    """``code`` with one latent after the other set to each of ``values``, all others as they are."""
    codes = np.tile(code, (len(latents), len(values), 1))
    codes[np.arange(len(latents)), :, latents] = values
    return codes


def interpolate(
    a: Float[np.ndarray, "pairs latent"], b: Float[np.ndarray, "pairs latent"], count: int
) -> Float[np.ndarray, "pairs count latent"]:
    """``count`` codes on the straight line from ``a`` to ``b``, both ends included."""
    share = np.linspace(0, 1, count, dtype=np.float32)[None, :, None]
    line: NDArray[Any] = a[:, None] * (1 - share) + b[:, None] * share
    return line


def principal_axes(
    codes: Float[np.ndarray, "n latent"], count: int = 2
) -> tuple[Float[np.ndarray, "n count"], NDArray[np.float64]]:
    """Codes on their ``count`` axes of largest variance, and the share of all variance that each explains."""
    centred = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(codes))
    order = np.argsort(variances)[::-1][:count]
    total = variances.sum()
    share = variances[order] / total if total > 0 else np.zeros(len(order))
    return (centred @ axes[:, order]).astype(np.float32), share


@dataclass(frozen=True)
class Probe:
    """A linear rule for whether the image of a code has an attribute: logistic regression on standardised codes."""

    weight: Float[np.ndarray, " latent"]
    """Of codes less ``mean``, over ``std``."""
    bias: float
    mean: Float[np.ndarray, " latent"]
    std: Float[np.ndarray, " latent"]
    """Standard deviation (1/N) of the codes learnt from; 1 for a latent that does not vary."""

    def decision(self, codes: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
        """Log odds of having the attribute, in nats; positive: has it."""
        log_odds: NDArray[np.float64] = (codes - self.mean) / self.std @ self.weight + self.bias
        return log_odds

    @property
    def normal(self) -> Float[np.ndarray, " latent"]:
        """Unit vector in the space of codes along which the log odds rise fastest; zero where they never change."""
        gradient: NDArray[np.float64] = self.weight / self.std
        length = float(np.linalg.norm(gradient))
        return gradient / length if length > 0 else gradient


def fit_probe(codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"], C: float = 1.0) -> Probe:
    """The probe that minimises ½‖w‖² + C Σ ln(1 + exp(−y f)), y = ±1 for ``has``, bias free; float64.

    ValueError where all or none have it, and for codes that are not finite.
    """
    from sklearn.linear_model import LogisticRegression

    _check_both(has)
    given = as_finite(codes)
    varies = given.max(0) > given.min(0)  # computed, the variance of equal numbers may be a rounding error
    mean, std = np.where(varies, given.mean(0), given[0]), np.where(varies, given.std(0), 1)
    # Newton's method takes a second where lbfgs takes ten on 16,000 codes that are nearly separable.
    solver = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    fitted = solver.fit((given - mean) / std, has)
    return Probe(fitted.coef_[0], float(fitted.intercept_[0]), mean, std)


def direction(
    codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"], method: Method = "means"
) -> Float[np.ndarray, " latent"]:
    """The step in the space of codes from images without an attribute towards those with it; float64.

    "means": the difference of the two means (Larsen et al. 2016, 1512.09300, section 4.2). "probe": along the normal of
    the linear probe, which leaves correlated latents alone as far as they say nothing of their own, as long as the
    difference of the means is in that direction. ValueError where all or none have it.
    """
    if method not in get_args(Method):
        raise unknown("way to find a direction", method, get_args(Method))
    _check_both(has)
    given = codes.astype(np.float64)
    difference: NDArray[np.float64] = given[has].mean(0) - given[~has].mean(0)
    if method == "means":
        return difference
    normal = fit_probe(codes, has).normal
    return normal * float(normal @ difference)


def _check_both(has: NDArray[np.bool_]) -> None:
    if has.all() or not has.any():
        who = "all" if has.any() else "none"
        raise ValueError(f"{who} of the {len(has)} images have the attribute: some with and some without it are needed")
