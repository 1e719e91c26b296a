"""Latent space as arrays: codes of a data set, grids over the prior, principal axes, directions, linear probe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.data.pictures import read_ahead
from vaelab.data.tensors import as_tensor
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_of
from vaelab.models.posteriors import PosteriorDistribution
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.vae import VAE
from vaelab.system.device import autocast
from vaelab.system.errors import InputError
from vaelab.system.machine import Precision
from vaelab.system.noise import GeneratorNoise
from vaelab.system.noise import generator as generator_for
from vaelab.system.progress import progress
from vaelab.system.registry import unknown

Method = Literal["means", "probe"]
ACTIVE_KL = 0.01
"""Nats; a latent with a larger mean KL is active (Burda et al. 2016, 1509.00519, put 0.01 on the variance of means)."""


@dataclass(frozen=True)
class Codes:
    """Posteriors of a set of images."""

    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]
    """Logarithm of the variance of each latent, for every kind of posterior."""
    image_kl: Float[np.ndarray, "n 1"] | None = None
    """KL to the prior of each image, nats; None if it is a sum over latents in closed form."""

    def take(self, indices: Int[np.ndarray, " chosen"] | slice) -> "Codes":
        """Return the posteriors at ``indices``."""
        return Codes(
            self.mean[indices], self.log_var[indices], None if self.image_kl is None else self.image_kl[indices]
        )

    def kl_of_images(self) -> Float[np.ndarray, "n group"]:
        """KL to the prior of each image and group, nats, float64; the groups are latents if the KL is a sum of them."""
        return self._latent_kl_of_images() if self.image_kl is None else self.image_kl.astype(np.float64)

    @property
    def kl(self) -> Float[np.ndarray, " group"]:
        """Mean KL to the prior of each group, nats per image."""
        means: NDArray[np.float64] = self.kl_of_images().mean(0)
        return means

    @property
    def latent_kl(self) -> Float[np.ndarray, " latent"]:
        """Mean KL(N(μ_j, σ_j²) ‖ N(0, 1)) of each latent, nats per image, for every kind of posterior and prior.

        It ranks latents by how much information they carry. For a diagonal posterior and the prior N(0, I) it is the
        KL of each latent.
        """
        means: NDArray[np.float64] = self._latent_kl_of_images().mean(0)
        return means

    @property
    def is_active(self) -> Bool[np.ndarray, " latent"]:
        """Whether each latent carries more than ACTIVE_KL nats."""
        active: NDArray[np.bool_] = self.latent_kl > ACTIVE_KL
        return active

    def _latent_kl_of_images(self) -> Float[np.ndarray, "n latent"]:
        marginals = DiagonalNormal(torch.from_numpy(self.mean).double(), torch.from_numpy(self.log_var).double())
        found: NDArray[np.float64] = marginals.kl_to_standard_normal().numpy()
        return found


@dataclass(frozen=True)
class CodeSamples:
    """One sample of the posterior of each of n images, with the posterior's mean and log-variance."""

    z: Float[np.ndarray, "n latent"]
    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]


Encode = Callable[[Images], Codes]
"""Images → their posteriors under one model."""


def as_finite(values: Float[np.ndarray, "n column"], what: str = "posterior means") -> NDArray[np.float64]:
    """Return ``values`` in float64; InputError if one is not finite, because results may look normal nevertheless."""
    if not np.isfinite(values).all():
        raise InputError(f"some {what} are not finite, as after a divergence: nothing can be measured", subject=what)
    return values.astype(np.float64)


def infer_spans(
    model: VAE, images: Images, spans: Sequence[tuple[int, int]], precision: Precision = "fp32"
) -> Iterator[PosteriorDistribution]:
    """Yield q(z|x) of one span of images after the other, on the device of the model, with the images' conditions.

    The next images are read while the model works. Needs memory for two spans of images.
    """
    conditions = condition_of(model.spec, images)
    with progress("encoding", sum(stop - start for start, stop in spans)) as bar:
        for (start, stop), pixels in zip(spans, read_ahead(images.pixels, spans), strict=True):
            given = None if conditions is None else conditions[start:stop]
            with autocast(model.device, precision):
                q = model.infer(as_tensor(pixels).to(model.device), given)  # as uint8: a quarter of the bytes
            yield q
            bar.advance(len(pixels))


def encode_spans(
    model: VAE, images: Images, spans: Sequence[tuple[int, int]], precision: Precision = "fp32"
) -> Iterator[Float[np.ndarray, "2 _ latent"]]:
    """Yield posterior means and log-variances of one span of images after the other, float32."""
    for q in infer_spans(model, images, spans, precision):
        yield torch.stack([q.mean, q.log_var]).cpu().numpy()


@torch.no_grad()
def encode_images(model: VAE, images: Images) -> Codes:
    """Return the posterior of every image, float32; needs memory for the codes and two chunks of images."""
    codes = np.empty((2, len(images), model.spec.latent_dim), np.float32)
    image_kl = None if model.has_latent_kl else np.empty((len(images), 1), np.float32)
    spans, density = chunk_spans(len(images), model.spec.image_shape), model.density()
    noise = GeneratorNoise(generator_for(0, "kl"), model.device)
    for (start, stop), q in zip(spans, infer_spans(model, images, spans), strict=True):
        codes[:, start:stop] = torch.stack([q.mean, q.log_var]).cpu().numpy()
        if image_kl is not None:
            image_kl[start:stop] = density.kl(q, q.draw(noise)).sum(1, keepdim=True).cpu().numpy()
    return Codes(codes[0], codes[1], image_kl)


@torch.no_grad()
def sample_codes(model: VAE, images: Images, generator: torch.Generator) -> CodeSamples:
    """Return one sample of the posterior of every image, float32."""
    codes = np.empty((3, len(images), model.spec.latent_dim), np.float32)
    spans, noise = chunk_spans(len(images), model.spec.image_shape), GeneratorNoise(generator, model.device)
    for (start, stop), q in zip(spans, infer_spans(model, images, spans), strict=True):
        codes[:, start:stop] = torch.stack([q.draw(noise).z[0], q.mean, q.log_var]).cpu().numpy()
    return CodeSamples(*codes)


def prior_quantiles(count: int, coverage: float = 0.98) -> Float[np.ndarray, " count"]:
    """Return values of one latent that divide ``coverage`` of N(0, 1) into intervals of equal probability."""
    probabilities = torch.linspace(0.5 - coverage / 2, 0.5 + coverage / 2, count, dtype=torch.float64)
    quantiles: NDArray[np.float32] = torch.special.ndtri(probabilities).float().numpy()
    return quantiles


def prior_grid(count: int) -> Float[np.ndarray, "points 2"]:
    """Return codes of two latents at the quantiles of N(0, I), row by row from the top left: z₂ falls, z₁ rises."""
    axis = prior_quantiles(count)
    return np.stack(np.meshgrid(axis, axis[::-1]), axis=-1).reshape(-1, 2)


def traverse(
    code: Float[np.ndarray, " latent"], latents: Int[np.ndarray, " rows"], values: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "rows columns latent"]:
    """Return copies of ``code`` with one latent after the other set to each of ``values``."""
    codes = np.tile(code, (len(latents), len(values), 1))
    codes[np.arange(len(latents)), :, latents] = values
    return codes


def interpolate(
    a: Float[np.ndarray, "pairs latent"], b: Float[np.ndarray, "pairs latent"], count: int
) -> Float[np.ndarray, "pairs count latent"]:
    """Return ``count`` codes on the straight line from ``a`` to ``b``, both ends included."""
    share = np.linspace(0, 1, count, dtype=np.float32)[None, :, None]
    line: NDArray[Any] = a[:, None] * (1 - share) + b[:, None] * share
    return line


def principal_vectors(
    covariance: Float[np.ndarray, "latent latent"], count: int = 2
) -> tuple[Float[np.ndarray, "vector latent"], Float[np.ndarray, " vector"]]:
    """Return unit vectors along the ``count`` largest variances, and the share of the total variance along each.

    scikit-learn is not used because its import takes a second of every training.
    """
    variances, vectors = np.linalg.eigh(covariance)
    total = variances.sum()
    shares: NDArray[np.float64] = variances[::-1][:count] / (total if total > 0 else 1)
    return vectors.T[::-1][:count], shares


def principal_axes(
    codes: Float[np.ndarray, "n latent"], count: int = 2
) -> tuple[Float[np.ndarray, "n count"], NDArray[np.float64]]:
    """Return codes projected on their ``count`` principal axes, and the share of the variance along each."""
    centred = codes.astype(np.float64) - codes.mean(0, dtype=np.float64)
    vectors, shares = principal_vectors(centred.T @ centred / len(codes), count)
    return (centred @ vectors.T).astype(np.float32), shares


@dataclass(frozen=True)
class Probe:
    """A linear classifier of an attribute from codes: logistic regression on standardised codes."""

    weight: Float[np.ndarray, " latent"]
    """Weights of standardised codes."""
    bias: float
    mean: Float[np.ndarray, " latent"]
    std: Float[np.ndarray, " latent"]
    """Standard deviation (1/N) of the training codes; 1 for a latent that does not vary."""

    def decision(self, codes: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
        """Return the log odds of having the attribute, nats."""
        log_odds: NDArray[np.float64] = (codes - self.mean) / self.std @ self.weight + self.bias
        return log_odds

    @property
    def normal(self) -> Float[np.ndarray, " latent"]:
        """Unit vector in the space of codes along which the log odds rise fastest; zero if they are constant."""
        gradient: NDArray[np.float64] = self.weight / self.std
        length = float(np.linalg.norm(gradient))
        return gradient / length if length > 0 else gradient


def fit_probe(codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"], C: float = 1.0) -> Probe:
    """Return the probe that minimises ½‖w‖² + C Σ ln(1 + exp(−y f)), y = ±1 for ``has``, float64.

    The bias is not penalised. Raises InputError if all or no images have the attribute, or codes are not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    _check_both(has)
    scaler = StandardScaler().fit(as_finite(codes))
    # on 16,000 nearly separable codes Newton's method takes a second, lbfgs ten
    solver = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    fitted = solver.fit(scaler.transform(codes.astype(np.float64)), has)
    varies = codes.max(0) > codes.min(0)  # standardised equal numbers may be rounding errors
    return Probe(np.where(varies, fitted.coef_[0], 0), float(fitted.intercept_[0]), scaler.mean_, scaler.scale_)


def find_direction(
    codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"], method: Method = "means"
) -> Float[np.ndarray, " latent"]:
    """Return the step in the space of codes from images without an attribute to those with it, float64.

    "means": the difference of the two means (Larsen et al. 2016, 1512.09300, section 4.2). "probe": the projection of
    that difference on the normal of the linear probe, which ignores latents that are only correlated with the
    attribute. Raises InputError if all or no images have it.
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
        message = f"{who} of the {len(has)} images have the attribute: images with and without it are needed"
        raise InputError(message, subject="attribute")
