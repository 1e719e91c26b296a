"""Active units and sparsity, by hand."""

import math
from typing import Any

import numpy as np
import pytest
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from vectors import Case

from vaelab.evaluation.metrics import active_units, sparsity


def test_active_units_of_the_vectors() -> None:
    case = Case("active_units")
    count, variances = active_units.active_units(case.mu.numpy(), case.params["threshold"])
    case.expect("count", np.float64(count))
    case.expect("variance", variances)
    case.expect("active", (variances > case.params["threshold"]).astype(np.float64))


@given(arrays(np.float64, (7, 3), elements=st.floats(-2, 2)), st.floats(-100, 100))
def test_active_units_do_not_depend_on_the_offset_of_means(means: NDArray[np.float64], shift: float) -> None:
    count, variances = active_units.active_units(means)
    moved, moved_variances = active_units.active_units(means + np.array([0, shift, 0]))
    np.testing.assert_allclose(moved_variances, ((means - means.mean(0)) ** 2).mean(0), atol=1e-10)
    near = np.abs(variances - 0.01) < 1e-9
    assert near.any() or moved == count


def test_active_units_by_variance_and_by_kl() -> None:
    swing = np.array([1.0, -1.0])[:, None]
    means = swing * [1.0, 0.11, 0.09, 0.0] + [0, 0, 0, 3]  # variances 1, 0.0121, 0.0081, 0
    evaluation = given_evaluation(means, np.array([[-2.0, 0, 0, 0]] * 2))
    found = active_units.measure(evaluation)
    assert found["active_units"] == 2
    assert found["active_units_by_kl"] == 2  # the first, and the last, which lies away from the prior
    np.testing.assert_allclose(found["variance_of_means"], [1, 0.0121, 0.0081, 0], rtol=1e-6)
    strict = active_units.measure(evaluation, variance=0.5, kl=4.0)
    assert (strict["active_units"], strict["active_units_by_kl"]) == (1, 1)
    assert evaluation.codes.is_active.tolist() == [True, False, False, True]
    collapsed = active_units.measure(given_evaluation(np.zeros((5, 3))))
    assert (collapsed["active_units"], collapsed["active_units_by_kl"]) == (0, 0)


def test_hoyer_by_hand() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, -7.0], [2.0, -2.0], [1e-200, 0.0]])
    expected = [(math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1), 1, 0, 1]
    np.testing.assert_allclose(sparsity.hoyer(vectors), expected, atol=1e-12)
    assert np.isnan(sparsity.hoyer(np.zeros((2, 3)))).all()
    assert np.isnan(sparsity.hoyer(np.ones((2, 1)))).all()


@given(arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_hoyer_lies_between_0_and_1_at_any_scale(vectors: NDArray[np.float64], scale: float) -> None:
    values = sparsity.hoyer(vectors)
    defined = values[np.isfinite(values)]
    assert ((defined > -1e-12) & (defined < 1 + 1e-12)).all()
    np.testing.assert_allclose(sparsity.hoyer(vectors * scale), values, atol=1e-9)


def measure_sparsity(means: NDArray[Any]) -> dict[str, Any]:
    return sparsity.measure(given_evaluation(means))


def test_sparsity_does_not_depend_on_the_scale_of_a_latent() -> None:
    means = np.random.default_rng(0).standard_normal((500, 4))
    expected = measure_sparsity(means)["hoyer"]
    assert measure_sparsity(means * [1, 1e-3, 50, 7])["hoyer"] == pytest.approx(expected, rel=1e-5)


def test_sparsity_of_normal_codes_and_of_one_latent_at_a_time() -> None:
    random, root = np.random.default_rng(0), math.sqrt(20)
    ratio = 20 * math.gamma(10) / (math.sqrt(math.pi) * math.gamma(10.5))  # E ‖u‖₁ of a random unit vector
    dense = measure_sparsity(random.standard_normal((2000, 20)))
    assert dense["hoyer"] == pytest.approx((root - ratio) / (root - 1), abs=0.005)
    assert dense["share_near_zero"] == pytest.approx(math.erf(0.1 / math.sqrt(2)), abs=0.01)
    sparse = measure_sparsity(np.eye(20)[np.arange(2000) % 20] * random.standard_normal((2000, 1)))
    assert sparse["hoyer"] == pytest.approx(1)
    assert sparse["share_near_zero"] > 0.95


def test_a_constant_latent_counts_as_zero() -> None:
    means = np.random.default_rng(0).standard_normal((300, 3))
    constant, zero = (np.concatenate([means, np.full((300, 1), value)], 1) for value in (0.3, 0.0))
    assert measure_sparsity(constant)["hoyer"] == pytest.approx(measure_sparsity(zero)["hoyer"])
    collapsed = measure_sparsity(np.full((5, 3), 0.3))
    assert "hoyer" not in collapsed
    assert collapsed["protocol"]["hoyer_undefined_for"] == 5
    assert collapsed["share_near_zero"] == 0
