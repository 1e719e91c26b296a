"""FactorVAE and BetaVAE scores: reference vectors, votes by hand, the classifier's optimum."""

from typing import Any

import numpy as np
import pytest
from given import factor_grid, given_evaluation
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from vectors import CASES, Case

from vaelab.evaluation.evaluation import NotMeasurable
from vaelab.evaluation.metrics import betavae, factorvae
from vaelab.evaluation.metrics.betavae import classifier_accuracies, mean_distances
from vaelab.evaluation.metrics.factorvae import count_votes, global_variances, vote_accuracy

TABLES = [name.split("/")[1] for name in CASES if name.startswith("disent/") and name.endswith("/factor_vae")]
every_table = pytest.mark.parametrize("name", TABLES)


def measure(module: Any, case: Any) -> Any:
    """The metric with its whole protocol on the codes and factors of a case."""
    return module.measure(given_evaluation(case.codes_table.numpy(), 0, case.factors_table.numpy().astype(np.int64)))


@every_table
def test_factor_votes_of_given_minibatches(name: str) -> None:
    case = Case(f"disent/{name}/factor_vae")
    codes, factors = case.codes_table.numpy(), case.factors_table.numpy()
    variances = global_variances(codes[case.variance_idx.numpy()], case.params["prune_std"])
    kept = variances > 0
    case.expect("active_dims", kept.astype(np.float64))
    factor, rows, count = case.factor_index.numpy(), case.batches.numpy(), case.params["num_train"]
    train, test = (
        count_votes(codes, factor[part], rows[part], variances, factors.shape[1])
        for part in (slice(count), slice(count, None))
    )
    case.expect("train_accuracy", np.float64(vote_accuracy(train, train)))
    case.expect("eval_accuracy", np.float64(vote_accuracy(train, test)))
    assert (train[:, ~kept] == 0).all()
    if kept.any():
        case.expect("train_votes", np.concatenate([train[:, kept], train[:, ~kept]], 1).astype(np.float64))


@every_table
def test_beta_votes_of_given_pairs(name: str) -> None:
    case = Case(f"disent/{name}/beta_vae")
    features = mean_distances(case.codes_table.numpy(), case.rows1.numpy(), case.rows2.numpy())
    case.expect("first_features", features[:4])
    accuracies = classifier_accuracies(features, case.label.numpy(), case.params["num_train"])
    case.expect("train_accuracy", np.float64(accuracies[0]), at_most=0.015)
    case.expect("eval_accuracy", np.float64(accuracies[1]), at_most=0.02)


@every_table
def test_scores_of_the_whole_protocol(name: str) -> None:
    factor, beta = (Case(f"disent/{name}/{metric}") for metric in ("factor_vae", "beta_vae"))
    found = measure(factorvae, factor)
    if name == "factor_constant":  # it costs the reference votes that are arbitrary; here it is left out
        assert (found["factorvae"], found["protocol"]["constant_factors"]) == (1, ["1"])
        assert factor.value("full_protocol_eval_accuracy") < 0.9
        return
    factor.expect("full_protocol_eval_accuracy", np.float64(found["factorvae"]), at_most=0.03)
    assert np.sum(found["train_votes_per_factor_and_latent"]) == (0 if name == "constant_zero" else 10_000)
    beta.expect("full_protocol_eval_accuracy", np.float64(measure(betavae, beta)["betavae"]), at_most=0.021)


def test_a_vote_goes_to_the_latent_that_varies_least() -> None:
    codes = np.array([[0.0, 0.0, 5.0], [1.0, 10.0, 5.0], [4.0, 11.0, 5.0], [0.0, 30.0, 5.0]])
    variances = np.array([1.0, 100.0, 0.0])  # the last gets no vote though it does not vary at all
    rows = np.array([[0, 1], [1, 2], [0, 3], [0, 2]])  # ½ : ½, 4½ : ½, 0 : 4½, 8 : 0.605
    table = count_votes(codes, np.array([0, 0, 1, 1]), rows, variances, 3)
    assert table.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert count_votes(codes, np.array([0, 0, 1, 1]), rows, 0 * variances, 3).tolist() == [[0] * 3] * 3


def test_accuracy_is_that_of_the_majority() -> None:
    train = np.array([[5, 1, 0, 2], [3, 4, 0, 2]])  # the third latent has no votes, the fourth a tie
    test = np.array([[10, 20, 3, 0], [1, 30, 4, 7]])
    assert vote_accuracy(train, test) == (10 + 30 + 3 + 0) / 75
    assert vote_accuracy(train, train) == (5 + 4 + 2) / 17
    assert vote_accuracy(0 * train, 0 * test) == 0


def test_variances_of_pruned_latents_are_0() -> None:
    codes = np.stack([np.array([-0.04, 0.04, 0.0]), np.array([-0.06, 0.06, 0.0]), np.full(3, 0.3)], 1)
    np.testing.assert_allclose(global_variances(codes), [0, 0.0036, 0])
    np.testing.assert_allclose(global_variances(codes, prune=0), [0.0016, 0.0036, 0])
    assert global_variances(codes, prune=0)[2] == 0


def test_distances_by_hand() -> None:
    codes = np.array([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]])
    found = mean_distances(codes, np.array([[0, 1], [2, 2]]), np.array([[1, 2], [2, 0]]))
    assert found.tolist() == [[(2 + 3) / 2, (2 + 6) / 2], [5 / 2, 4 / 2]]


def test_more_votes_than_fit_into_a_block() -> None:
    random = np.random.default_rng(0)
    codes, rows = random.standard_normal((50, 4)), random.integers(0, 50, (9000, 64))  # 2.3 million codes
    factor = random.integers(0, 3, 9000)
    variances = global_variances(codes)
    parts = [count_votes(codes, factor[i : i + 900], rows[i : i + 900], variances, 3) for i in range(0, 9000, 900)]
    np.testing.assert_array_equal(count_votes(codes, factor, rows, variances, 3), sum(parts))
    expected = np.abs(codes[rows] - codes[rows[::-1]]).mean(1)
    np.testing.assert_allclose(mean_distances(codes, rows, rows[::-1]), expected, rtol=1e-12)


def test_a_latent_that_hardly_varies_is_pruned() -> None:
    factors = factor_grid(3, 4, 5)
    codes = np.concatenate([factors, 1e-3 * factors[:, :1]], 1)
    few = {"train_votes": 200, "test_votes": 200, "variance_draws": 500, "length": 16}
    for prune, count in ((0.05, 1), (0.0, 0)):
        found = factorvae.measure(given_evaluation(codes, 0, factors), prune=prune, **few)
        assert found["pruned_latents"] == count


def test_two_factors_in_one_code_halve_their_votes() -> None:
    factors = factor_grid(3, 3, 5)
    codes = np.stack([factors[:, 0] + 3.0 * factors[:, 1], factors[:, 2] * 1.0], 1)
    found = factorvae.measure(given_evaluation(codes, 0, factors), train_votes=2000, test_votes=2000)
    assert found["factorvae"] == pytest.approx(2 / 3, abs=0.05)


# -- the classifier of the BetaVAE score ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_classifier_reaches_the_optimum_of_its_objective(scale: float) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 300)
    features = scale * (np.abs(random.standard_normal((300, 2))) + 0.5 * np.eye(3)[label][:, :2] + 4)
    centred = features - features.mean(0)  # an equally good coordinate for a free bias

    def objective(flat: NDArray[np.float64]) -> float:
        weight, bias = flat[:6].reshape(2, 3), flat[6:]
        log_share = log_softmax(centred @ weight + bias, axis=1)
        return 0.5 * (weight**2).sum() - 2 * log_share[np.arange(300), label].sum()

    best = minimize(objective, np.zeros(9), method="BFGS", options={"gtol": 1e-3 * max(1, scale)}).x
    correct = (centred @ best[:6].reshape(2, 3) + best[6:]).argmax(1) == label
    both = np.concatenate([features, features[:50]]), np.concatenate([label, label[:50]])
    accuracies = classifier_accuracies(*both, 300, C=2.0)
    assert accuracies == (pytest.approx(correct.mean(), abs=1 / 300), pytest.approx(correct[:50].mean(), abs=1 / 50))


def test_classifier_converges_on_features_of_any_scale() -> None:
    random = np.random.default_rng(0)
    features, label = np.abs(random.standard_normal((2000, 5))), random.integers(0, 4, 2000)
    large, huge = (classifier_accuracies(scale * features, label, 1000)[0] for scale in (1e3, 1e6))
    assert huge == pytest.approx(large, abs=0.002)  # where the regularisation no longer matters


def test_votes_of_one_factor_are_not_enough() -> None:
    with pytest.raises(NotMeasurable):
        classifier_accuracies(np.zeros((4, 2)), np.array([1, 1, 1, 0]), 3)
