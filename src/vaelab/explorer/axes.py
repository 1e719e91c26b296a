"""Directions in the space of codes along which a map can be drawn, and how well a map shows what is there; float64."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray

from vaelab.models.codes import principal_vectors

Codes = Float[np.ndarray, "n latent"]
BLOCK = 1 << 14
"""Codes that are worked on at once in float64."""
FLOOR = 1e-6
"""Added to variances: nothing beside the prior's 1, and enough to divide by."""


def blocks(codes: Codes) -> Iterator[tuple[slice, Codes]]:
    """A few thousand codes after the other, in float64, with where they stand."""
    for start in range(0, len(codes), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, codes[part].astype(np.float64)


def covariance(codes: Codes) -> Float[np.ndarray, "latent latent"]:
    """Σ (z − z̄)(z − z̄)ᵀ / N."""
    mean = codes.mean(0, dtype=np.float64)
    total: NDArray[np.float64] = np.zeros((codes.shape[1], codes.shape[1]))
    for _, part in blocks(codes):
        total += (part - mean).T @ (part - mean)
    return total / len(codes)


def mean_variance(log_var: Codes) -> Float[np.ndarray, " latent"]:
    """Of each latent's posteriors."""
    return sum((np.exp(part).sum(0) for _, part in blocks(log_var)), np.zeros(log_var.shape[1])) / len(log_var)


def principal(covariance: Float[np.ndarray, "latent latent"]) -> Float[np.ndarray, "_ latent"]:
    """Unit vectors of the two largest variances, or of the one there is."""
    return _signed(principal_vectors(covariance)[0])


def discriminants(
    codes: Codes, labels: Integer[np.ndarray, " n"], posterior_variance: Float[np.ndarray, " latent"]
) -> Float[np.ndarray, "_ latent"]:
    """Unit vectors, at most two, along which classes lie farthest apart for their spread (Fisher 1936; LDA).

    The spread within classes is that of codes drawn from the posteriors: the covariance of the means and
    ``posterior_variance``, its mean over the images. So a collapsed latent, whose means hardly vary, counts for as
    little as it says, where by its means alone it could count for all. Empty where the means of all classes agree.
    """
    from scipy.linalg import eigh

    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), codes.shape[1]))
    for where, part in blocks(codes):
        sums += np.eye(len(counts))[classes[where]].T @ part
    apart = sums / counts[:, None] - sums.sum(0) / len(codes)
    between = (apart * (counts / len(codes))[:, None]).T @ apart
    within = covariance(codes) - between + np.diag(posterior_variance + FLOOR)
    ratios, vectors = eigh(between, within)
    found = vectors.T[::-1][: min(2, len(counts) - 1)][ratios[::-1][: min(2, len(counts) - 1)] > FLOOR]
    return _signed(found / np.linalg.norm(found, axis=1, keepdims=True))


def _signed(vectors: Float[np.ndarray, "count latent"]) -> Float[np.ndarray, "count latent"]:
    """Each so that its largest entry is positive: the same on every machine."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1, keepdims=True), 1)
    signed: NDArray[np.float64] = vectors * np.where(largest < 0, -1.0, 1.0)
    return signed


def means_with_and_without(
    codes: Codes, has: Bool[np.ndarray, "n attributes"]
) -> tuple[Float[np.ndarray, "attributes latent"], Float[np.ndarray, "attributes latent"]]:
    """Mean code of the images with each attribute, and of those without; some but not all images have each."""
    sums = np.zeros((has.shape[1], codes.shape[1]))
    for where, part in blocks(codes):
        sums += has[where].T.astype(np.float64) @ part
    counts = has.sum(0)[:, None]
    return sums / counts, (codes.sum(0, dtype=np.float64) - sums) / (len(codes) - counts)


def balanced_accuracy(
    codes: Codes,
    has: Bool[np.ndarray, "n attributes"],
    with_: Float[np.ndarray, "attributes latent"],
    without: Float[np.ndarray, "attributes latent"],
) -> Float[np.ndarray, " attributes"]:
    """How often half-way between the two means tells, mean of images with and without: chance ½, perfect 1."""
    directions = with_ - without
    middles = ((with_ + without) * directions).sum(1) / 2
    right = np.zeros((2, has.shape[1]))
    for where, part in blocks(codes):
        beyond, own = part @ directions.T > middles, has[where]
        right += (beyond & own).sum(0), (~beyond & ~own).sum(0)
    counts = has.sum(0)
    accuracy: NDArray[np.float64] = (right[0] / counts + right[1] / (len(codes) - counts)) / 2
    return accuracy


def cosine(a: Float[np.ndarray, " latent"], b: Float[np.ndarray, " latent"]) -> float:
    """Of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def plane(a: Float[np.ndarray, " latent"], b: Float[np.ndarray, " latent"]) -> Float[np.ndarray, "latent 2"]:
    """Two orthonormal columns that span what two vectors span."""
    orthonormal: NDArray[np.float64] = np.linalg.qr(np.stack([a, b], axis=1).astype(np.float64))[0]
    return orthonormal


def share_shown(covariance: Float[np.ndarray, "latent latent"], axes: Float[np.ndarray, "latent 2"]) -> float:
    """The part of the codes' variance that lies in a plane."""
    total = float(np.trace(covariance))
    return float(np.trace(axes.T @ covariance @ axes)) / total if total > 0 else 0.0


def share_alike(places: Float[np.ndarray, "n 2"], labels: Integer[np.ndarray, " n"]) -> float:
    """The part of the points whose nearest other point has the same class (leave-one-out)."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(places).query(places, k=2)
    nearest = np.where(found[:, 0] == np.arange(len(places)), found[:, 1], found[:, 0])  # of equals any may be first
    return float((labels[nearest] == labels).mean())
