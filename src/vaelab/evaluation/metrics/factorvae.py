"""FactorVAE score: whether the latent that varies least tells which factor was held."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._factors import draw
from vaelab.evaluation.metrics._sharing import BLOCK, draw_sharing, factors_to_hold
from vaelab.models.codes import as_finite


def global_variances(codes: Float[np.ndarray, "n latent"], prune: float = 0.05) -> Float[np.ndarray, " latent"]:
    """Variances (1/(n−1)) of the codes, 0 for a latent with a standard deviation below ``prune``: it has no vote."""
    given = as_finite(codes)
    variances: NDArray[np.float64] = given.var(0, ddof=1)
    varies = given.max(0) > given.min(0)  # computed, the variance of equal numbers may be a rounding error
    return np.where(varies & (np.sqrt(variances) >= prune), variances, 0)


def votes(
    codes: Float[np.ndarray, "n latent"],
    factor: Int[np.ndarray, " votes"],
    rows: Int[np.ndarray, "votes length"],
    variances: Float[np.ndarray, " latent"],
    num_factors: int,
) -> Int[np.ndarray, "{num_factors} latent"]:
    """How many votes each factor gave each latent: one for every row of ``rows``, images that share its value.

    It goes to argmin_j of the variance among these images (1/(length−1)) over ``variances``, j among the latents where
    that is not 0; Kim & Mnih 2018 (1802.05983), section 4. Without such latents there are no votes.
    """
    table = np.zeros((num_factors, codes.shape[1]), np.int64)
    (kept,) = np.nonzero(variances > 0)
    if len(kept):
        given = codes[:, kept].astype(np.float64)
        step = max(1, BLOCK // (rows.shape[1] * len(kept)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            latent = kept[(given[rows[part]].var(1, ddof=1) / variances[kept]).argmin(1)]
            np.add.at(table, (factor[part], latent), 1)
    return table


def accuracy_of_votes(train: Int[np.ndarray, "factor latent"], test: Int[np.ndarray, "factor latent"]) -> float:
    """The share of the votes in ``test`` by the factor that most of the latent's votes in ``train`` are by.

    The first of equal counts, so that a latent without votes in training stands for the first factor; 0 without votes.
    """
    right = test[train.argmax(0), np.arange(test.shape[1])].sum()
    return float(right / max(1, test.sum()))


def measure(
    evaluation: Evaluation,
    *,
    length: Annotated[int, Ge(2)] = 64,
    train_votes: Annotated[int, Ge(1)] = 10_000,
    test_votes: Annotated[int, Ge(1)] = 5_000,
    variance_draws: Annotated[int, Ge(2)] = 10_000,
    prune: Annotated[float, Ge(0)] = 0.05,
) -> dict[str, Any] | None:
    """The accuracy of ``test_votes`` votes under the majority of ``train_votes`` others, 0 to 1, and what led to it.

    Kim & Mnih 2018 (1802.05983), section 4, with the numbers of Locatello et al. 2019 (1811.12359). A vote is of
    ``length`` images, drawn with replacement among those that share the value of a factor. Latents with a standard
    deviation below ``prune`` in ``variance_draws`` images have none, and without any left the score is 0. None if
    fewer than two factors can be held.
    """
    held = factors_to_hold(evaluation.images)
    if held is None:
        return None
    (factors, protocol), codes, random = held, evaluation.codes.mean, evaluation.generator("factor_score")
    variances = global_variances(codes[draw(len(codes), variance_draws, random)], prune)
    factor, _, rows = draw_sharing(factors, train_votes + test_votes, 1, length, random)
    train, test = (
        votes(codes, factor[part], rows[part, 0], variances, factors.shape[1])
        for part in (slice(train_votes), slice(train_votes, None))
    )
    return {
        "factorvae": accuracy_of_votes(train, test),
        "train_accuracy": accuracy_of_votes(train, train),
        "by_chance": 1 / factors.shape[1],
        "latents_pruned": int((variances == 0).sum()),
        "train_votes_per_factor_and_latent": train.tolist(),
        "protocol": {
            **protocol,
            "votes": f"{length} images drawn with replacement among those that share a factor's value",
            "train_votes": train_votes,
            "test_votes": test_votes,
            "pruned": f"standard deviation below {prune:g} in {variance_draws} draws",
        },
    }


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(Quantity("factorvae", "FactorVAE score", better="higher", digits=3),),
    order=130,
    synonyms=("factor_vae", "factorvae_score", "factor_vae_score", "factor_score"),
)
