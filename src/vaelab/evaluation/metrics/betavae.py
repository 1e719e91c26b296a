"""BetaVAE score: accuracy of predicting the shared factor from the mean differences of codes."""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import AtLeastTwo, Result
from vaelab.evaluation.metrics._factors import factor_metric
from vaelab.evaluation.metrics._votes import BLOCK, draw_votes
from vaelab.models.codes import as_finite


def mean_distances(
    codes: Float[np.ndarray, "n latent"], first: Int[np.ndarray, "vote pair"], second: Int[np.ndarray, "vote pair"]
) -> Float[np.ndarray, "vote latent"]:
    """Return the mean over pairs of |c₁ − c₂| for each latent, where ``first`` and ``second`` are rows of ``codes``."""
    given = as_finite(codes)
    means: NDArray[np.float64] = np.empty((len(first), codes.shape[1]))
    step = max(1, BLOCK // (first.shape[1] * codes.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        means[part] = np.abs(given[first[part]] - given[second[part]]).mean(1)
    return means


def classifier_accuracies(
    features: Float[np.ndarray, "n latent"], factor: Int[np.ndarray, " n"], num_train: int, C: float = 1.0
) -> tuple[float, float]:
    """Fit a multinomial logistic regression to the first ``num_train`` rows; return its accuracy on these and the rest.

    It minimises ½‖W‖² + C Σ log-loss on unscaled features, with a free bias. For two factors, W is the single weight of
    the log-odds. Raises NotMeasurable if all training rows have the same factor.
    """
    from sklearn.linear_model import LogisticRegression

    train, test = slice(num_train), slice(num_train, None)
    if len(np.unique(factor[train])) < 2:
        raise NotMeasurable(f"needs more votes: all of the {num_train} to train on have the same factor")
    # Centring, and dividing by one number that C compensates, keep the optimum and suit the solver at any scale.
    mean = features[train].mean(0)
    scale = float(np.abs(features[train] - mean).max()) or 1.0
    given = (features - mean) / scale
    solver = LogisticRegression(C=C * scale**2, solver="newton-cg", tol=1e-8, max_iter=1000)
    fitted = solver.fit(given[train], factor[train])
    return float(fitted.score(given[train], factor[train])), float(fitted.score(given[test], factor[test]))


def measure(
    evaluation: Evaluation,
    *,
    pairs: PositiveInt = 64,
    train_votes: AtLeastTwo = 10_000,
    test_votes: PositiveInt = 5_000,
    C: PositiveFloat = 1.0,
) -> Result:
    """Test accuracy, 0 to 1, of a linear classifier of votes.

    Higgins et al. 2017 (β-VAE, ICLR), section 3, in the form of Locatello et al. 2019 (1811.12359). A vote is a factor
    and the mean distance of ``pairs`` pairs of images, where the two images of a pair share the factor's value.
    """
    random = evaluation.generator("beta_score")
    votes = draw_votes(evaluation.images, train_votes + test_votes, pairs, 1, random)
    features = mean_distances(evaluation.codes.mean, votes.anchors, votes.partners[..., 0])
    train_accuracy, accuracy = classifier_accuracies(features, votes.factor, train_votes, C)
    return {
        "betavae": accuracy,
        "train_accuracy": train_accuracy,
        "chance_accuracy": 1 / votes.num_factors,
        "protocol": {
            **votes.protocol,
            "votes": f"mean |difference| of {pairs} pairs, drawn with replacement, that share a factor's value",
            "train_votes": train_votes,
            "test_votes": test_votes,
            "classifier": f"multinomial logistic regression, ½‖W‖² + {C:g} Σ log-loss, free bias, unscaled features",
        },
    }


METRIC = factor_metric(
    measure,
    {"betavae": "β-VAE score"},
    order=140,
    synonyms=("beta_vae", "betavae_score", "beta_vae_score", "beta_score"),
)
