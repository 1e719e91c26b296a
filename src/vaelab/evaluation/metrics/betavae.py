"""BetaVAE score: whether mean distances between codes, latent by latent, tell which factor was shared."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.evaluation.metrics._sharing import BLOCK, draw_sharing, factors_to_hold
from vaelab.models.codes import as_finite


def distances(
    codes: Float[np.ndarray, "n latent"], first: Int[np.ndarray, "votes pairs"], second: Int[np.ndarray, "votes pairs"]
) -> Float[np.ndarray, "votes latent"]:
    """Mean over pairs of |c₁ − c₂| of every latent, the rows of ``first`` being paired with those of ``second``."""
    given = as_finite(codes)
    means: NDArray[np.float64] = np.empty((len(first), codes.shape[1]))
    step = max(1, BLOCK // (first.shape[1] * codes.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        means[part] = np.abs(given[first[part]] - given[second[part]]).mean(1)
    return means


def accuracies_of_classifier(
    train: Float[np.ndarray, "n latent"],
    train_factor: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m latent"],
    test_factor: Int[np.ndarray, " m"],
    C: float = 1.0,
) -> tuple[float, float]:
    """Shares of ``train`` and ``test`` whose factor is told by a multinomial logistic regression fitted on ``train``.

    It minimises ½‖W‖² + C Σ log-loss on features as they are, bias free; of two factors W is the one weight of the log
    odds. ValueError where all are of one factor.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_factor)) < 2:
        raise ValueError(f"all of the {len(train)} votes to learn from are of one factor: draw more")
    # Moved, and divided by one number that C makes good, the features have the same optimum at any scale of the codes.
    mean = train.mean(0)
    scale = float(np.abs(train - mean).max()) or 1.0
    solver = LogisticRegression(C=C * scale**2, solver="newton-cg", tol=1e-8, max_iter=1000)
    fitted = solver.fit((train - mean) / scale, train_factor)
    parts = (train, train_factor), (test, test_factor)
    of_train, of_test = (float(fitted.score((features - mean) / scale, factor)) for features, factor in parts)
    return of_train, of_test


def measure(
    evaluation: Evaluation,
    *,
    pairs: Annotated[int, Ge(1)] = 64,
    train_votes: Annotated[int, Ge(2)] = 10_000,
    test_votes: Annotated[int, Ge(1)] = 5_000,
    C: Annotated[float, Gt(0)] = 1.0,
) -> dict[str, Any] | None:
    """The accuracy of a linear classifier on ``test_votes`` votes after ``train_votes`` others, 0 to 1, and on these.

    Higgins et al. 2017 (β-VAE, ICLR), section 3, in the form of Locatello et al. 2019 (1811.12359). A vote is a factor
    and the mean distance of ``pairs`` pairs of images, the two of a pair sharing the factor's value. None if fewer than
    two factors can be held.
    """
    held = factors_to_hold(evaluation.images)
    if held is None:
        return None
    factors, protocol = held
    count, random = train_votes + test_votes, evaluation.generator("beta_score")
    factor, first, second = draw_sharing(factors, count, pairs, 1, random)
    features = distances(evaluation.codes.mean, first, second[..., 0])
    train, test = slice(train_votes), slice(train_votes, None)
    train_accuracy, accuracy = accuracies_of_classifier(features[train], factor[train], features[test], factor[test], C)
    return {
        "betavae": accuracy,
        "train_accuracy": train_accuracy,
        "by_chance": 1 / factors.shape[1],
        "protocol": {
            **protocol,
            "votes": f"mean |difference| of {pairs} pairs, drawn with replacement, that share a factor's value",
            "train_votes": train_votes,
            "test_votes": test_votes,
            "classifier": f"multinomial logistic regression, ½‖W‖² + {C:g} Σ log-loss, bias free, features as they are",
        },
    }


METRIC = Metric(
    measure,
    question="disentanglement",
    needs=frozenset({"factors"}),
    quantities=(Quantity("betavae", "β-VAE score", better="higher", digits=3),),
    order=140,
    synonyms=("beta_vae", "betavae_score", "beta_vae_score", "beta_score"),
)
