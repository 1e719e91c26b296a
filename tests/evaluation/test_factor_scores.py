"""FactorVAE and BetaVAE score: the reference vectors, votes by hand, and the draws that they are made from."""

from typing import Any

import numpy as np
import pytest
import torch
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from vectors import Case

from vaelab.evaluation.metrics import betavae, factorvae
from vaelab.evaluation.metrics._sharing import draw_sharing
from vaelab.evaluation.metrics.betavae import accuracies_of_classifier, distances
from vaelab.evaluation.metrics.factorvae import accuracy_of_votes, global_variances, votes

VARYING = [
    "perfect",
    "permuted_scaled",
    "duplicated",
    "constant_zero",
    "one_constant_dim",
    "noise",
    "rotated",
    "mixed",
]
every_table = pytest.mark.parametrize("name", [*VARYING, "factor_constant"])
every_varying_table = pytest.mark.parametrize("name", VARYING)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_table(module: Any, case: Any) -> Any:
    """The metric by its whole protocol on the codes and factors of a case."""
    return module.measure(given_evaluation(case.codes_table.numpy(), 0, case.factors_table.numpy().astype(np.int64)))


# -- the reference vectors --------------------------------------------------------------------------------------------


@every_table
def test_factor_votes_of_given_minibatches(name: str) -> None:
    case = Case(f"disent/{name}/factor_vae")
    codes, factors = case.codes_table.numpy(), case.factors_table.numpy()
    variances = global_variances(codes[case.variance_idx.numpy()], case.params["prune_std"])
    kept = variances > 0
    case.expect("active_dims", kept.astype(np.float64))
    factor, rows, count = case.factor_index.numpy(), case.batches.numpy(), case.params["num_train"]
    train, test = (
        votes(codes, factor[part], rows[part], variances, factors.shape[1])
        for part in (slice(count), slice(count, None))
    )
    case.expect("train_accuracy", np.float64(accuracy_of_votes(train, train)))
    case.expect("eval_accuracy", np.float64(accuracy_of_votes(train, test)))
    assert (train[:, ~kept] == 0).all()
    if kept.any():
        packed = np.concatenate([train[:, kept], train[:, ~kept]], 1)
        case.expect("train_votes", packed.astype(np.float64))


@every_varying_table
def test_factor_score_by_the_whole_protocol(name: str) -> None:
    case = Case(f"disent/{name}/factor_vae")
    found = of_table(factorvae, case)
    case.expect("full_protocol_eval_accuracy", np.float64(found["factorvae"]), at_most=0.03)
    assert np.sum(found["train_votes_per_factor_and_latent"]) == (0 if name == "constant_zero" else 10_000)


@every_table
def test_beta_votes_of_given_pairs(name: str) -> None:
    case = Case(f"disent/{name}/beta_vae")
    features = distances(case.codes_table.numpy(), case.rows1.numpy(), case.rows2.numpy())
    case.expect("first_features", features[:4])
    label, count = case.label.numpy(), case.params["num_train"]
    accuracies = accuracies_of_classifier(features[:count], label[:count], features[count:], label[count:])
    case.expect("train_accuracy", np.float64(accuracies[0]), at_most=0.015)
    case.expect("eval_accuracy", np.float64(accuracies[1]), at_most=0.02)


@every_varying_table
def test_beta_score_by_the_whole_protocol(name: str) -> None:
    case = Case(f"disent/{name}/beta_vae")
    found = of_table(betavae, case)
    case.expect("full_protocol_eval_accuracy", np.float64(found["betavae"]), at_most=0.021)


# -- votes by hand ----------------------------------------------------------------------------------------------------


def test_the_latent_that_varies_least_has_the_vote() -> None:
    codes = np.array([[0.0, 0.0, 5.0], [1.0, 10.0, 5.0], [4.0, 11.0, 5.0], [0.0, 30.0, 5.0]])
    variances = np.array([1.0, 100.0, 0.0])  # the last has no vote though it does not vary at all
    rows = np.array([[0, 1], [1, 2], [0, 3], [0, 2]])  # ½ : ½, 4½ : ½, 0 : 4½, 8 : 0.605
    table = votes(codes, np.array([0, 0, 1, 1]), rows, variances, 3)
    assert table.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert votes(codes, np.array([0, 0, 1, 1]), rows, 0 * variances, 3).tolist() == [[0] * 3] * 3


def test_accuracy_is_that_of_the_majority() -> None:
    train = np.array([[5, 1, 0, 2], [3, 4, 0, 2]])  # the third has no votes, the fourth as many of either
    test = np.array([[10, 20, 3, 0], [1, 30, 4, 7]])
    assert accuracy_of_votes(train, test) == (10 + 30 + 3 + 0) / 75
    assert accuracy_of_votes(train, train) == (5 + 4 + 2) / 17
    assert accuracy_of_votes(0 * train, 0 * test) == 0


def test_variances_of_pruned_latents_are_zero() -> None:
    codes = np.stack([np.array([-0.04, 0.04, 0.0]), np.array([-0.06, 0.06, 0.0]), np.full(3, 0.3)], 1)
    np.testing.assert_allclose(global_variances(codes), [0, 0.0036, 0])
    np.testing.assert_allclose(global_variances(codes, prune=0), [0.0016, 0.0036, 0])
    assert global_variances(codes, prune=0)[2] == 0


def test_distances_by_hand() -> None:
    codes = np.array([[0.0, 1.0], [2.0, -1.0], [5.0, 5.0]])
    found = distances(codes, np.array([[0, 1], [2, 2]]), np.array([[1, 2], [2, 0]]))
    assert found.tolist() == [[(2 + 3) / 2, (2 + 6) / 2], [5 / 2, 4 / 2]]


@pytest.mark.parametrize("block", [1, 50, 200])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    codes, factors = noise_and_grid()
    scores = [module_score(codes, factors, 30) for module_score in (score_of_factor, score_of_beta)]
    for module in (factorvae, betavae):
        monkeypatch.setattr(module, "BLOCK", block)
    assert [module_score(codes, factors, 30) for module_score in (score_of_factor, score_of_beta)] == scores


# -- the classifier ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_the_classifier_is_the_optimum_of_its_objective(scale: float) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 300)
    features = scale * (np.abs(random.standard_normal((300, 2))) + 0.5 * np.eye(3)[label][:, :2] + 4)

    def objective(flat: NDArray[np.float64]) -> float:
        weight, bias = flat[:6].reshape(2, 3), flat[6:]
        # The bias of features moved by their mean: as good a coordinate, and free either way.
        log_share = log_softmax((features - features.mean(0)) @ weight + bias, axis=1)
        return 0.5 * (weight**2).sum() - 2 * log_share[np.arange(300), label].sum()

    best = minimize(objective, np.zeros(9), method="BFGS", options={"gtol": 1e-3 * max(1, scale)}).x
    told = ((features - features.mean(0)) @ best[:6].reshape(2, 3) + best[6:]).argmax(1) == label
    accuracies = accuracies_of_classifier(features, label, features[:50], label[:50], C=2.0)
    assert accuracies == (pytest.approx(told.mean(), abs=1 / 300), pytest.approx(told[:50].mean(), abs=1 / 50))


def test_features_of_any_scale_are_learnt_without_warning() -> None:
    random = np.random.default_rng(0)
    features, label = np.abs(random.standard_normal((2000, 5))), random.integers(0, 4, 2000)
    large = accuracies_of_classifier(1e3 * features, label, features, label)
    huge = accuracies_of_classifier(1e6 * features, label, features, label)
    assert huge[0] == pytest.approx(large[0], abs=0.002)  # the regularisation is long past mattering


def test_one_factor_cannot_be_learnt() -> None:
    with pytest.raises(ValueError, match="all of the 3 votes to learn from are of one factor"):
        accuracies_of_classifier(np.zeros((3, 2)), np.ones(3, np.int64), np.zeros((1, 2)), np.ones(1, np.int64))


# -- draws ------------------------------------------------------------------------------------------------------------


def grid(*sizes: int) -> NDArray[np.int64]:
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))


def test_partners_share_the_value_and_are_as_likely_as_one_another() -> None:
    factors = np.array([[0, 7], [0, 8], [3, 8], [3, 8], [3, 9], [5, 9]])  # 5 and 7 are in one image only
    factor, anchors, partners = draw_sharing(factors, 3000, 2, 3, generator())
    assert (anchors.shape, partners.shape) == ((3000, 2), (3000, 2, 3))
    for k, shared in enumerate([range(5), range(1, 6)]):
        of_factor = factor == k
        assert abs(of_factor.sum() - 1500) < 120
        own, others = factors[anchors[of_factor], k], factors[partners[of_factor], k]
        assert (others == own[..., None]).all()
        drawn = np.bincount(anchors[of_factor].ravel(), minlength=6)
        assert set(np.nonzero(drawn)[0]) == set(shared)
        assert (np.abs(drawn[list(shared)] / drawn.sum() - 0.2) < 0.03).all()
        for row in shared:
            friends = np.flatnonzero(factors[:, k] == factors[row, k])
            found = np.bincount(partners[of_factor][anchors[of_factor] == row].ravel(), minlength=6)
            assert (np.abs(found[friends] / found.sum() - 1 / len(friends)) < 0.06).all()


def test_in_a_complete_grid_all_else_is_independent() -> None:
    factors = grid(2, 3, 4)
    factor, _, partners = draw_sharing(factors, 2000, 1, 20, generator())
    held = factors[partners[factor == 1, 0]]
    joint = np.zeros((2, 4))
    np.add.at(joint, (held[..., 0].ravel(), held[..., 2].ravel()), 1)
    np.testing.assert_allclose(joint / joint.sum(), 1 / 8, atol=0.006)


@pytest.mark.parametrize(
    "factors", [grid(4), np.tile(grid(4), (1, 2))[:0], np.stack([np.arange(4) % 2, np.zeros(4, int)], 1)]
)
def test_factors_that_cannot_be_held(factors: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="two factors or more are compared"):
        draw_sharing(factors, 3, 1, 2, generator())


# -- what the scores say ----------------------------------------------------------------------------------------------


def score_of_factor(codes: NDArray[Any], factors: NDArray[Any], count: int = 400, **options: Any) -> Any:
    options = {"train_votes": count, "test_votes": count, "variance_draws": 500, "length": 16, **options}
    return factorvae.measure(given_evaluation(codes, 0, factors), **options)


def score_of_beta(codes: NDArray[Any], factors: NDArray[Any], count: int = 400, **options: Any) -> Any:
    options = {"train_votes": count, "test_votes": count, "pairs": 16, **options}
    return betavae.measure(given_evaluation(codes, 0, factors), **options)


def noise_and_grid(latents: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Codes that know a little of three factors."""
    factors = grid(3, 4, 5)
    random = np.random.default_rng(1)
    return factors @ random.standard_normal((3, latents)) + 0.5 * random.standard_normal((60, latents)), factors


@given(
    order=st.permutations(range(4)), signs=st.lists(st.sampled_from([-8.0, -1.0, 0.25, 2.0]), min_size=4, max_size=4)
)
def test_order_sign_and_scale_of_latents_do_not_change_the_factor_score(order: list[int], signs: list[float]) -> None:
    codes, factors = noise_and_grid()
    expected, found = (score_of_factor(given, factors, prune=0) for given in (codes, codes[:, order] * signs))
    per_latent = np.array(expected["train_votes_per_factor_and_latent"])
    assert found["train_votes_per_factor_and_latent"] == per_latent[:, order].tolist()
    if (per_latent.sum(0) > 0).all():
        assert found["factorvae"] == expected["factorvae"]


@given(order=st.permutations(range(4)), shift=st.floats(-50, 50))
def test_order_sign_and_place_of_latents_do_not_change_the_beta_score(order: list[int], shift: float) -> None:
    codes, factors = noise_and_grid()
    expected, found = (score_of_beta(given, factors) for given in (codes, shift - codes[:, order]))
    assert found["betavae"] == pytest.approx(expected["betavae"], abs=2 / 400)  # a vote on the edge may turn


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_one_code_per_factor_is_perfect(scale: float) -> None:
    factors = grid(3, 4, 5)
    codes = scale * factors[:, [2, 0, 1]]
    assert score_of_factor(codes, factors)["factorvae"] == 1
    assert score_of_beta(codes, factors)["betavae"] == 1


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_codes_have_no_votes_and_tell_nothing(value: float) -> None:
    factors = grid(3, 4, 5)
    codes = np.full((60, 4), value)
    found = score_of_factor(codes, factors, prune=0)
    assert (found["factorvae"], found["train_accuracy"], found["latents_pruned"]) == (0, 0, 4)
    assert score_of_beta(codes, factors)["betavae"] == pytest.approx(1 / 3, abs=0.06)


def test_a_latent_that_hardly_varies_is_pruned() -> None:
    codes, factors = noise_and_grid()
    small = np.concatenate([codes, 1e-3 * grid(3, 4, 5)[:, :1]], 1)
    found = score_of_factor(small, factors)
    assert found["latents_pruned"] == 1
    assert found["factorvae"] == score_of_factor(codes, factors)["factorvae"]
    assert score_of_factor(small, factors, prune=0)["latents_pruned"] == 0


def test_two_factors_in_one_code() -> None:
    factors = grid(3, 3, 5)
    codes = np.stack([factors[:, 0] + 3.0 * factors[:, 1], factors[:, 2] * 1.0], 1)
    found = score_of_factor(codes, factors, count=2000, length=64)
    assert found["factorvae"] == pytest.approx(2 / 3, abs=0.05)  # of the two, the majority's alone is right


# -- measured ---------------------------------------------------------------------------------------------------------

both = pytest.mark.parametrize("score_of", [score_of_factor, score_of_beta])


@both
def test_factors_that_cannot_be_held_are_left_out_and_named(score_of: Any) -> None:
    factors = grid(3, 4, 5)
    still, own = np.full((60, 1), 2), np.arange(60)[:, None]
    found = score_of(factors, np.concatenate([factors, still, own], 1), 200)
    assert (found.get("factorvae", found.get("betavae")), found["by_chance"]) == (1, 1 / 3)
    protocol = found["protocol"]
    assert protocol["factors"] == ["0", "1", "2"]
    assert protocol["factors_left_out_for_their_one_value"] == ["3"]
    assert protocol["factors_left_out_for_sharing_no_value"] == ["4"]
    assert (protocol["train_votes"], protocol["test_votes"], protocol["images"]) == (200, 200, 60)


@both
def test_nothing_to_measure_without_two_factors(score_of: Any) -> None:
    for factors in (np.zeros((60, 2), np.int64), grid(3, 20)[:, :1], np.tile(np.arange(60)[:, None], (1, 3))):
        assert score_of(grid(3, 4, 5), factors) is None


def test_the_constant_factor_of_the_vectors_costs_nothing() -> None:
    case = Case("disent/factor_constant/factor_vae")
    found = of_table(factorvae, case)
    assert found["factorvae"] == 1
    assert found["protocol"]["factors_left_out_for_their_one_value"] == ["1"]
    assert case.value("full_protocol_eval_accuracy") < 0.9
