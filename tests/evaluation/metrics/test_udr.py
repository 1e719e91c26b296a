"""UDR: reference vectors, closed forms, invariances."""

from typing import Any

import numpy as np
import pytest
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import spearmanr
from vectors import Case

from vaelab.evaluation.metrics import udr as metric
from vaelab.evaluation.metrics.udr import relative_strength, similarity, udr
from vaelab.system.errors import UnknownName

every_method = pytest.mark.parametrize("method", ["lasso", "spearman"])
ALL = np.ones(4)


def random_codes(seed: int = 0, n: int = 200, latents: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, latents))


@every_method
def test_udr_of_the_vectors(method: Any) -> None:
    case = Case("udr")
    codes, kls = ([getattr(case, f"{a}_{model}").numpy() for model in case.params["models"]] for a in ("codes", "kl"))
    scores, pairwise = udr(codes, kls, method=method, alpha=case.params["alpha"], kl=case.params["kl_threshold"])
    case.expect(f"{method}.model_scores", scores, at_most=2e-4)
    case.expect(f"{method}.pairwise", pairwise, at_most=2e-4)
    kept = kls[0] > case.params["kl_threshold"]
    whole = np.zeros((5, 5))
    whole[kept] = similarity(codes[0][:, kept], codes[2], method)
    case.expect(f"{method}.correlation_0_2", whole, at_most=2e-4)


def test_relative_strength_by_hand() -> None:
    R = np.array([[0.6, 0.2, 0.0], [0.0, 0.5, 0.0]])
    over_b = (0.6**2 / 0.6 + 0.5**2 / 0.7 + 0) / 3
    over_a = (0.6**2 / 0.8 + 0.5**2 / 0.5) / 2
    assert relative_strength(R) == pytest.approx((over_b + over_a) / 2)
    assert relative_strength(np.zeros((2, 3))) == 0
    assert relative_strength(np.eye(5)[[3, 1, 0, 4, 2]]) == 1


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0, 1)))
def test_relative_strength_lies_between_0_and_the_largest_entry(R: NDArray[np.float64]) -> None:
    assert 0 <= relative_strength(R) <= R.max() + 1e-12
    assert relative_strength(R.T) == pytest.approx(relative_strength(R))


@pytest.mark.parametrize("alpha", [0.05, 0.4])
def test_lasso_on_orthogonal_codes_shrinks_correlations(alpha: float) -> None:
    codes = random_codes(latents=8)
    orthogonal, _ = np.linalg.qr(codes - codes.mean(0))
    x, y = orthogonal[:, :4], orthogonal @ np.random.default_rng(1).standard_normal((8, 3))
    correlation = np.abs(np.corrcoef(x.T, y.T)[:4, 4:])
    found = similarity(x * 3 + 5, y * 0.1 - 2, alpha=alpha)
    np.testing.assert_allclose(found, np.maximum(correlation - alpha, 0), atol=1e-8)


def test_spearman_is_that_of_scipy_with_ties() -> None:
    codes = np.concatenate([random_codes(0), random_codes(1)], 1).round(0)
    expected = np.abs(spearmanr(codes).statistic[:4, 4:])
    np.testing.assert_allclose(similarity(codes[:, :4], codes[:, 4:], "spearman"), expected, atol=1e-12)


@every_method
def test_similarity_of_constant_and_single_latents(method: Any) -> None:
    codes, constant = random_codes(), np.full((200, 1), 0.3)
    assert (similarity(constant, codes, method) == 0).all()
    assert (similarity(codes, constant, method) == 0).all()
    expected = 0.9 if method == "lasso" else 1
    np.testing.assert_allclose(similarity(codes[:, :1], -codes[:, :1], method), expected)


def test_an_unknown_similarity_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownName) as raised:
        similarity.__wrapped__(random_codes(), random_codes(), "pearson")  # past the checker of the tests
    assert raised.value.choices == ("lasso", "spearman")


# -- the score --------------------------------------------------------------------------------------------------------


@every_method
@given(
    order=st.permutations(range(4)), signs=st.lists(st.sampled_from([-3.0, -1.0, 0.5, 20.0]), min_size=4, max_size=4)
)
def test_order_sign_and_scale_of_latents_change_nothing(method: Any, order: list[int], signs: list[float]) -> None:
    first, second = random_codes(0), random_codes(1) + random_codes(0)
    _, expected = udr([first, second], [ALL, ALL], method=method)
    _, found = udr([first, second[:, order] * signs], [ALL, ALL], method=method)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_models_that_agree_up_to_order_and_sign() -> None:
    codes = random_codes(n=5000)
    models = [codes, -codes[:, [2, 0, 3, 1]], codes[:, ::-1] * [1, -1, 2, 5]]
    scores, pairwise = udr(models, [ALL] * 3)
    np.testing.assert_allclose(scores, 0.9, atol=1e-6)  # the lasso subtracts its 0.1
    assert (pairwise.diagonal() == 0).all()
    scores, _ = udr([np.exp(codes), *models[1:]], [ALL] * 3, method="spearman")
    assert (scores > 0.95).all()


@every_method
def test_inactive_latents_are_left_out(method: Any) -> None:
    first, second = random_codes(0), random_codes(0)[:, [1, 0, 2]] + 0.2 * random_codes(1)[:, :3]
    expected = udr([first, second], [ALL, ALL[:3]], method=method)
    wider = np.concatenate([second, random_codes(5)], 1)
    kl = np.array([1, 1, 1, 0.01, 0.009, 0, 0])
    for ours, theirs in zip(udr([first, wider], [ALL, kl], method=method), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_score_is_the_median_over_the_other_models() -> None:
    codes = random_codes()
    models = [codes + 0.5 * i * random_codes(i) for i in range(4)]
    scores, pairwise = udr(models, [ALL] * 4)
    assert not np.allclose(pairwise, pairwise.T)  # a lasso is directed
    for j in range(4):
        assert scores[j] == np.median([pairwise[i, j] for i in range(4) if i != j])


@pytest.mark.parametrize(
    ("codes", "kls"),
    [
        ([random_codes()], [ALL]),
        ([random_codes()] * 2, [ALL]),
        ([random_codes(), random_codes()[:100]], [ALL] * 2),
        ([random_codes()] * 2, [ALL, ALL[:3]]),
        ([random_codes()] * 2, [ALL, ALL * 0.01]),
        ([np.where(random_codes() > 2, np.nan, 1.0), random_codes()], [ALL] * 2),
    ],
    ids=["one model", "one kl", "other images", "other latents", "collapsed", "nan"],
)
def test_models_that_cannot_be_compared(codes: Any, kls: Any) -> None:
    with pytest.raises((ValueError, IndexError)):
        udr(codes, kls)


def test_collapsed_seeds_are_left_out_with_a_reason(wording: Any) -> None:
    alive, dead = [given_evaluation(random_codes(seed)) for seed in range(2)], given_evaluation(0.01 * random_codes(2))
    found = metric.measure([alive[0], dead, alive[1]])
    scores, _ = udr([one.codes.mean for one in alive], [one.codes.latent_kl for one in alive])
    assert [found[0], found[2]] == [{"udr": scores[0]}, {"udr": scores[1]}]
    reasons = [found[1], *metric.measure([alive[0], dead])]
    for reason in reasons:
        wording(reason)
