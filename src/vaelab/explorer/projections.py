"""Directions in latent space that a map is drawn along, and measures of how much of the codes a map shows; float64."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray

from vaelab.models.codes import principal_vectors

CodeArray = Float[np.ndarray, "n latent"]
BLOCK_SIZE = 1 << 14
"""Codes converted to float64 at once."""
VARIANCE_FLOOR = 1e-6
"""Added to variances before a division; negligible beside the prior's variance of 1."""


def iterate_blocks(codes: CodeArray) -> Iterator[tuple[slice, CodeArray]]:
    """Yield (rows, codes in float64) for blocks of BLOCK_SIZE codes."""
    for start in range(0, len(codes), BLOCK_SIZE):
        rows = slice(start, start + BLOCK_SIZE)
        yield rows, codes[rows].astype(np.float64)


def compute_covariance(codes: CodeArray) -> Float[np.ndarray, "latent latent"]:
    """Return Σ (z − z̄)(z − z̄)ᵀ / N."""
    mean = codes.mean(0, dtype=np.float64)
    total: NDArray[np.float64] = np.zeros((codes.shape[1], codes.shape[1]))
    for _, block in iterate_blocks(codes):
        total += (block - mean).T @ (block - mean)
    return total / len(codes)


def find_principal_axes(covariance: Float[np.ndarray, "latent latent"]) -> Float[np.ndarray, "_ latent"]:
    """Return unit vectors along the two largest variances (one vector for a single latent)."""
    return _fix_signs(principal_vectors(covariance)[0])


def find_discriminants(
    codes: CodeArray, labels: Integer[np.ndarray, " n"], posterior_variance: Float[np.ndarray, " latent"]
) -> Float[np.ndarray, "_ latent"]:
    """Return at most two unit vectors that separate the classes best (linear discriminant analysis, Fisher 1936).

    The covariance within classes is that of codes sampled from the posteriors: the covariance of the means plus
    ``posterior_variance``. A collapsed latent, whose means hardly vary, therefore cannot separate classes. The result
    is empty if all classes have the same mean.
    """
    from scipy.linalg import eigh

    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), codes.shape[1]))
    for rows, block in iterate_blocks(codes):
        sums += np.eye(len(counts))[classes[rows]].T @ block
    offsets = sums / counts[:, None] - sums.sum(0) / len(codes)
    between = (offsets * (counts / len(codes))[:, None]).T @ offsets
    within = compute_covariance(codes) - between + np.diag(posterior_variance + VARIANCE_FLOOR)
    ratios, vectors = eigh(between, within)
    count = min(2, len(counts) - 1)
    found = vectors.T[::-1][:count][ratios[::-1][:count] > VARIANCE_FLOOR]
    return _fix_signs(found / np.linalg.norm(found, axis=1, keepdims=True))


def _fix_signs(vectors: Float[np.ndarray, "count latent"]) -> Float[np.ndarray, "count latent"]:
    """Make the largest entry of each vector positive, so that the result is the same on every machine."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1, keepdims=True), 1)
    signed: NDArray[np.float64] = vectors * np.where(largest < 0, -1.0, 1.0)
    return signed


def compute_group_means(
    codes: CodeArray, has: Bool[np.ndarray, "n attributes"]
) -> tuple[Float[np.ndarray, "attributes latent"], Float[np.ndarray, "attributes latent"]]:
    """Return the mean codes of the images with and without each attribute; neither group may be empty."""
    sums = np.zeros((has.shape[1], codes.shape[1]))
    for rows, block in iterate_blocks(codes):
        sums += has[rows].T.astype(np.float64) @ block
    counts = has.sum(0)[:, None]
    return sums / counts, (codes.sum(0, dtype=np.float64) - sums) / (len(codes) - counts)


def compute_balanced_accuracy(
    codes: CodeArray,
    has: Bool[np.ndarray, "n attributes"],
    with_: Float[np.ndarray, "attributes latent"],
    without: Float[np.ndarray, "attributes latent"],
) -> Float[np.ndarray, " attributes"]:
    """Return the balanced accuracy of the threshold half-way between the two means: chance ½, perfect 1."""
    directions = with_ - without
    thresholds = ((with_ + without) * directions).sum(1) / 2
    correct = np.zeros((2, has.shape[1]))
    for rows, block in iterate_blocks(codes):
        above, own = block @ directions.T > thresholds, has[rows]
        correct += (above & own).sum(0), (~above & ~own).sum(0)
    counts = has.sum(0)
    accuracy: NDArray[np.float64] = (correct[0] / counts + correct[1] / (len(codes) - counts)) / 2
    return accuracy


def orthonormalise(a: Float[np.ndarray, " latent"], b: Float[np.ndarray, " latent"]) -> Float[np.ndarray, "latent 2"]:
    """Return two orthonormal columns that span the same plane as two vectors."""
    plane: NDArray[np.float64] = np.linalg.qr(np.stack([a, b], axis=1).astype(np.float64))[0]
    return plane


def compute_explained_variance(
    covariance: Float[np.ndarray, "latent latent"], plane: Float[np.ndarray, "latent 2"]
) -> float:
    """Return the share of the codes' variance that lies in a plane of orthonormal columns."""
    total = float(np.trace(covariance))
    return float(np.trace(plane.T @ covariance @ plane)) / total if total > 0 else 0.0


def compute_neighbour_agreement(positions: Float[np.ndarray, "n 2"], labels: Integer[np.ndarray, " n"]) -> float:
    """Return the share of points whose nearest neighbour has the same label (leave-one-out accuracy)."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(positions).query(positions, k=2)
    # of points at one position, either may come first
    nearest = np.where(found[:, 0] == np.arange(len(positions)), found[:, 1], found[:, 0])
    return float((labels[nearest] == labels).mean())
