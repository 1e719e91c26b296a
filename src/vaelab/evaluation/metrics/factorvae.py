"""FactorVAE score: accuracy of predicting the fixed factor from the latent with the smallest variance."""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import AtLeastTwo, Result
from vaelab.evaluation.metrics._factors import draw, factor_metric
from vaelab.evaluation.metrics._votes import BLOCK, draw_votes
from vaelab.models.codes import as_finite


def global_variances(codes: Float[np.ndarray, "n latent"], prune: float = 0.05) -> Float[np.ndarray, " latent"]:
    """Return the variances (1/(n − 1)) of the codes, or 0, which means no votes, if their root is below ``prune``."""
    given = as_finite(codes)
    variances: NDArray[np.float64] = given.var(0, ddof=1)
    varies = given.max(0) > given.min(0)  # the computed variance of equal numbers may be a rounding error
    return np.where(varies & (np.sqrt(variances) >= prune), variances, 0)


def count_votes(
    codes: Float[np.ndarray, "n latent"],
    factor: Int[np.ndarray, " vote"],
    rows: Int[np.ndarray, "vote length"],
    variances: Float[np.ndarray, " latent"],
    num_factors: int,
) -> Int[np.ndarray, "{num_factors} latent"]:
    """Return how many votes of each factor go to each latent; a vote is a row of ``rows``, images that share its value.

    A vote goes to argmin_j of the variance among its images (1/(length − 1)) over ``variances``, where j runs over the
    latents with a positive entry there. Kim & Mnih 2018 (1802.05983), section 4. Without such latents no vote counts.
    """
    table = np.zeros((num_factors, codes.shape[1]), np.int64)
    kept = np.flatnonzero(variances > 0)
    if len(kept):
        given = codes[:, kept].astype(np.float64)
        step = max(1, BLOCK // (rows.shape[1] * len(kept)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            latent = kept[(given[rows[part]].var(1, ddof=1) / variances[kept]).argmin(1)]
            np.add.at(table, (factor[part], latent), 1)
    return table


def vote_accuracy(train: Int[np.ndarray, "factor latent"], test: Int[np.ndarray, "factor latent"]) -> float:
    """Return the share of test votes whose factor is the one with most training votes for the same latent.

    The first factor wins ties, also for a latent without training votes. 0 without test votes.
    """
    correct = test[train.argmax(0), np.arange(test.shape[1])].sum()
    return float(correct / max(1, test.sum()))


def measure(
    evaluation: Evaluation,
    *,
    length: AtLeastTwo = 64,
    train_votes: PositiveInt = 10_000,
    test_votes: PositiveInt = 5_000,
    variance_draws: AtLeastTwo = 10_000,
    prune: NonNegativeFloat = 0.05,
) -> Result:
    """Accuracy, 0 to 1, of test votes under the majority of the training votes.

    Kim & Mnih 2018 (1802.05983), section 4, with the numbers of Locatello et al. 2019 (1811.12359). A vote consists of
    ``length`` images, drawn with replacement among those that share the value of a factor. Latents whose standard
    deviation in ``variance_draws`` images is below ``prune`` get no votes; if there are no others the score is 0.
    """
    codes, random = evaluation.codes.mean, evaluation.generator("factor_score")
    variances = global_variances(codes[draw(len(codes), variance_draws, random)], prune)
    votes = draw_votes(evaluation.images, train_votes + test_votes, 1, length, random)
    train, test = (
        count_votes(codes, votes.factor[part], votes.partners[part, 0], variances, votes.num_factors)
        for part in (slice(train_votes), slice(train_votes, None))
    )
    return {
        "factorvae": vote_accuracy(train, test),
        "train_accuracy": vote_accuracy(train, train),
        "chance_accuracy": 1 / votes.num_factors,
        "pruned_latents": int((variances == 0).sum()),
        "train_votes_per_factor_and_latent": train.tolist(),
        "protocol": {
            **votes.protocol,
            "votes": f"{length} images drawn with replacement among those that share a factor's value",
            "train_votes": train_votes,
            "test_votes": test_votes,
            "pruned": f"standard deviation below {prune:g} in {variance_draws} draws",
        },
    }


METRIC = factor_metric(
    measure,
    {"factorvae": "FactorVAE score"},
    order=130,
    synonyms=("factor_vae", "factorvae_score", "factor_vae_score", "factor_score"),
)
