"""What metrics of disentanglement share: draws of images with known factors, binned codes, information in nats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.models.codes import as_finite


def varying(factors: Int[np.ndarray, "n factor"]) -> tuple[Int[np.ndarray, "n kept"], Int[np.ndarray, " kept"]]:
    """The factors that take more than one value, and their columns; the others cannot be measured."""
    (kept,) = np.nonzero(factors.max(0) > factors.min(0)) if len(factors) else (np.arange(0),)
    return factors[:, kept], kept


def draw(num: int, count: int, generator: torch.Generator) -> Int[np.ndarray, " count"]:
    """``count`` of the numbers 0 … ``num`` − 1, with replacement."""
    indices: NDArray[np.int64] = torch.randint(num, (count,), generator=generator).numpy()
    return indices


def describe_factors(images: Images, kept: Int[np.ndarray, " kept"]) -> dict[str, list[str]]:
    """For a protocol: the names of the factors ``kept``, and of the others; their numbers where they have none."""
    assert images.factors is not None
    names = images.factor_names or [str(k) for k in range(images.factors.shape[1])]
    return {
        "factors": [names[k] for k in kept],
        "factors_left_out_for_their_one_value": [name for k, name in enumerate(names) if k not in kept],
    }


# -- information ------------------------------------------------------------------------------------------------------


def histogram_bins(codes: Float[np.ndarray, "n latent"], bins: int = 20) -> Int[np.ndarray, "n latent"]:
    """The number, from 0, of the bin of every code: ``bins`` of equal width from a latent's least to its largest code.

    The largest code lies in the last bin; a latent that does not vary lies in one. ValueError for codes that are not
    finite.
    """
    given = as_finite(codes)
    low, high = given.min(0), given.max(0)
    still = low == high
    edges = np.linspace(np.where(still, low - 0.5, low), np.where(still, high + 0.5, high), bins + 1)[:-1]
    columns = [np.searchsorted(edges[:, j], given[:, j], side="right") - 1 for j in range(given.shape[1])]
    return np.stack(columns, 1) if columns else np.empty(given.shape, np.int64)


def entropy(values: Int[np.ndarray, "n column"]) -> Float[np.ndarray, " column"]:
    """Entropy of the values of each column as often as they occur, nats."""
    return np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in values.T], np.float64)


def mutual_information(
    bins: Int[np.ndarray, "n latent"], factors: Int[np.ndarray, "n factor"]
) -> Float[np.ndarray, "latent factor"]:
    """Σ p(a, b) ln p(a, b) / (p(a) p(b)) of every latent's bin and every factor's value as often as they occur, nats.

    Biased upwards by about (values − 1)(bins − 1) / 2n.
    """
    values = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    result = np.zeros((bins.shape[1], factors.shape[1]))
    for j in range(bins.shape[1]):
        own = np.unique(bins[:, j], return_inverse=True)[1]
        for k, of_factor in enumerate(values):
            result[j, k] = _mutual_information(own, of_factor)
    return result


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum()) + 0.0  # no −0


def _mutual_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Of numbers that leave none out from 0 on; from counts, so that it is 0 and not nearly 0 where there is none."""
    height, width = int(a.max()) + 1, int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=height * width).reshape(height, width)
    ratio = joint * len(a) / (joint.sum(1, keepdims=True) * joint.sum(0))
    there = joint > 0
    return max(float((joint[there] * np.log(ratio[there])).sum() / len(a)), 0.0)


# -- draws ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FactorSplit:
    """Some images: their codes, and those of their factors that vary in training."""

    codes: Float[np.ndarray, "n latent"]
    factors: Int[np.ndarray, "n factor"]


@dataclass(frozen=True)
class Drawn:
    """Draws of the images measured, and how they were made."""

    train: FactorSplit
    test: FactorSplit
    protocol: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the factors."""
        return tuple(self.protocol["factors"])


def draw_parts(
    evaluation: Evaluation, generator: torch.Generator, train_draws: int, test_draws: int = 0
) -> Drawn | None:
    """Posterior means and factors of images drawn with replacement; None if no factor takes two values in training.

    The protocol of Locatello et al. 2019 (1811.12359). It says which factors were left out, and which share of the test
    had been drawn for training, too.
    """
    images = evaluation.images
    assert images.factors is not None
    rows, test_rows = (draw(len(images), count, generator) for count in (train_draws, test_draws))
    factors, kept = varying(images.factors[rows])
    if not len(kept):
        return None
    means = as_finite(evaluation.codes.mean)
    protocol: dict[str, Any] = {
        "codes": "posterior means",
        "images": len(images),
        "draws": "with replacement from the images measured",
        "train_draws": train_draws,
        **describe_factors(images, kept),
    }
    if test_draws:
        protocol["test_draws"] = test_draws
        protocol["share_of_test_draws_drawn_in_training"] = float(np.isin(test_rows, rows).mean())
    return Drawn(
        FactorSplit(means[rows], factors),
        FactorSplit(means[test_rows], images.factors[test_rows][:, kept]),
        protocol,
    )
