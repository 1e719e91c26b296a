"""Shared by the disentanglement metrics: draws of images with known factors, binned codes, information in nats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.codes import as_finite
from vaelab.system.messages import count_of


def factor_metric(
    measure: Callable[[Evaluation], Result], titles: Mapping[str, str], *, decides: bool = False, **declared: Any
) -> Metric:
    """Return a disentanglement metric with the given titles of its quantities, for all of which higher is better."""
    quantities = tuple(
        Quantity(key, title, better="higher", digits=3, decides=decides) for key, title in titles.items()
    )
    return Metric(measure, "disentanglement", frozenset({"factors"}), quantities=quantities, **declared)


# -- draws ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FactorSplit:
    """Codes of images and those of their factors that vary in training."""

    codes: Float[np.ndarray, "n latent"]
    factors: Int[np.ndarray, "n factor"]


@dataclass(frozen=True)
class Draws:
    """Training and test draws of the images, and their protocol."""

    train: FactorSplit
    test: FactorSplit
    protocol: dict[str, Any]

    def per_factor(self, values: Float[np.ndarray, "factor *any"]) -> dict[str, Any]:
        """Return the name of each factor with its value or values."""
        return dict(zip(self.protocol["factors"], values.tolist(), strict=True))


def draw(num: int, count: int, generator: torch.Generator) -> Int[np.ndarray, " count"]:
    """Draw ``count`` of the numbers 0 … ``num`` − 1 with replacement."""
    indices: NDArray[np.int64] = torch.randint(num, (count,), generator=generator).numpy()
    return indices


def draw_splits(
    evaluation: Evaluation,
    generator: torch.Generator,
    train_draws: int,
    test_draws: int = 0,
    *,
    min_factors: int = 1,
    min_latents: int = 1,
) -> Draws:
    """Draw images with replacement and return their posterior means and factors.

    The protocol of Locatello et al. 2019 (1811.12359). Factors that are constant in training are left out. Raises
    NotMeasurable if too few factors remain, or if the model has too few latents.
    """
    images, means = evaluation.images, as_finite(evaluation.codes.mean)
    assert images.factors is not None
    if means.shape[1] < min_latents:
        raise NotMeasurable(f"needs {min_latents} latents; the model has {means.shape[1]}")
    rows, test_rows = (draw(len(images), count, generator) for count in (train_draws, test_draws))
    columns = varying_factors(images.factors[rows])
    if len(columns) < min_factors:
        raise NotMeasurable(
            f"needs {count_of(min_factors, 'factor')} with several values; the images have {len(columns)}"
        )
    protocol: dict[str, Any] = {
        "codes": "posterior means",
        "images": len(images),
        "draws": "with replacement from the images measured",
        "train_draws": train_draws,
        **describe_factors(images, columns),
    }
    if test_draws:
        protocol |= {"test_draws": test_draws, "test_draws_also_in_train": float(np.isin(test_rows, rows).mean())}
    train, test = (FactorSplit(means[part], images.factors[part][:, columns]) for part in (rows, test_rows))
    return Draws(train, test, protocol)


def varying_factors(factors: Int[np.ndarray, "n factor"]) -> Int[np.ndarray, " kept"]:
    """Return the columns of the factors that take more than one value; the others cannot be measured."""
    return np.flatnonzero((factors != factors[0]).any(0))


def describe_factors(images: Images, columns: Int[np.ndarray, " kept"]) -> dict[str, list[str]]:
    """Return the names of the factors in ``columns`` and of the others; their numbers if they have no names."""
    assert images.factors is not None
    names = images.factor_names or [str(k) for k in range(images.factors.shape[1])]
    return {
        "factors": [names[k] for k in columns],
        "constant_factors": [name for k, name in enumerate(names) if k not in columns],
    }


# -- information ------------------------------------------------------------------------------------------------------


def histogram_bins(codes: Float[np.ndarray, "n latent"], bins: int = 20) -> Int[np.ndarray, "n latent"]:
    """Return the bin of every code, from 0, of ``bins`` bins of equal width over the range of each latent.

    The largest code lies in the last bin. Raises ValueError for codes that are not finite.
    """
    given = as_finite(codes)
    edges = np.linspace(given.min(0), given.max(0), bins + 1)[:-1]
    columns = [np.searchsorted(edges[:, j], given[:, j], side="right") - 1 for j in range(given.shape[1])]
    return np.stack(columns, 1)


def entropy(values: Int[np.ndarray, "n column"]) -> Float[np.ndarray, " column"]:
    """Return the entropy of the empirical distribution of each column, in nats."""
    from scipy import stats

    return np.array([stats.entropy(np.unique(column, return_counts=True)[1]) for column in values.T], np.float64)


def mutual_information(
    bins: Int[np.ndarray, "n latent"], factors: Int[np.ndarray, "n factor"]
) -> Float[np.ndarray, "latent factor"]:
    """Return the plug-in estimate Σ p(a, b) ln p(a, b) / (p(a) p(b)) for each latent and factor, in nats.

    Biased upwards by about (values − 1)(bins − 1) / 2n.
    """
    from scipy.special import rel_entr
    from scipy.stats.contingency import crosstab

    result = np.zeros((bins.shape[1], factors.shape[1]))
    for j, k in np.ndindex(result.shape):
        joint = crosstab(bins[:, j], factors[:, k]).count
        independent = joint.sum(1, keepdims=True) * joint.sum(0)  # in counts, so that independence gives exactly 0
        result[j, k] = max(rel_entr(len(bins) * joint, independent).sum() / len(bins) ** 2, 0)
    return result


def top_gaps(scores: Float[np.ndarray, "latent factor"]) -> Float[np.ndarray, " factor"]:
    """Return for each factor the largest score minus the second largest; scores below 0, or missing, count as 0."""
    ordered = np.sort(np.pad(scores.clip(0), [(0, 1), (0, 0)]), axis=0)
    gaps: NDArray[np.float64] = ordered[-1] - ordered[-2]
    return gaps
