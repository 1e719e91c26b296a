"""SAP, modularity and explicitness, DCI and IRS: reference vectors, values by hand, optima."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import mixed_codes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from vectors import CASES, Case

from vaelab.evaluation.metrics import dci, irs, modularity, sap
from vaelab.evaluation.metrics._factors import (
    FactorSplit,
    histogram_bins,
    mutual_information,
    top_gaps,
    varying_factors,
)

SETS = [name.split("/")[1] for name in CASES if name.startswith("disent/") and name.endswith("/dci")]
every_set = pytest.mark.parametrize("name", SETS)


def splits(case: Case, used: list[int] | None = None) -> tuple[FactorSplit, FactorSplit]:
    """Training and test of a case, with all factors or those ``used``."""
    columns = used or list(range(case.factors_table.shape[1]))
    rows = (case.train_idx.long(), case.test_idx.long())
    train, test = (FactorSplit(case.codes_table[at].numpy(), case.factors_table[at].numpy()[:, columns]) for at in rows)
    return train, test


# -- modularity and explicitness --------------------------------------------------------------------------------------


def modularity_of(information: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.float64(modularity.modularity_per_latent(information).mean())


def test_modularity_of_the_vectors_matrix() -> None:
    case = Case("modularity_matrix")
    information = case.mi.numpy()
    case.expect("modularity", modularity_of(information))
    case.expect("modularity_without_dead_codes", modularity_of(information[information.max(1) > 0]))


@every_set
def test_modularity_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/modularity")
    train, _ = splits(case)
    information = mutual_information(histogram_bins(train.codes, case.params["num_bins"]), train.factors)
    case.expect("modularity", modularity_of(information))
    wanted = "modularity_over_varying_factors" if name == "factor_constant" else "modularity"
    case.expect(wanted, modularity_of(information[:, varying_factors(train.factors)]))


def test_modularity_by_hand() -> None:
    information = np.array([[2.0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 2, 0]])
    np.testing.assert_allclose(modularity.modularity_per_latent(information), [1, 0, 0, 1 - 0.25 / 2])


@every_set
def test_explicitness_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/explicitness")
    assert case.params["C"] == 1
    train, test = splits(case, varying_factors(case.factors_table.numpy()).tolist())
    prefix = "recommended_" if name in ("constant_zero", "factor_constant") else ""
    for key, split in (("train", train), ("test", test)):
        found = modularity.explicitness_per_factor(train, split).mean()
        case.expect(f"{prefix}explicitness_{key}", np.float64(found), at_most=0.002)


def test_explicitness_leaves_out_undefined_values() -> None:
    whole = FactorSplit(np.arange(12.0)[:, None], (np.arange(12) // 4)[:, None])
    first, only_0 = (FactorSplit(whole.codes[:n], whole.factors[:n]) for n in (8, 4))
    for train, test, expected in ((whole, first, 1), (first, whole, 0.75), (whole, only_0, math.nan)):
        found = modularity.explicitness_per_factor(train, test)
        assert found[0] == pytest.approx(expected, nan_ok=True)


# -- SAP --------------------------------------------------------------------------------------------------------------


def test_sap_of_the_vectors_matrix() -> None:
    case = Case("sap_matrix")
    case.expect("sap", np.float64(top_gaps(case.scores.numpy()).mean()))


@every_set
def test_sap_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/sap")
    train, test = splits(case, case.params["factors_used"])
    accuracies, correlations = sap.svm_accuracies(train, test, case.params["C"]), sap.squared_correlations(train)
    case.expect("score_matrix", accuracies, at_most=0.012)
    case.expect("sap_discrete", np.float64(top_gaps(accuracies).mean()), at_most=0.01)
    case.expect("r2_matrix", correlations)
    case.expect("sap_continuous", np.float64(top_gaps(correlations).mean()))


def test_support_vector_machines_reach_the_minimum() -> None:
    codes, factors = (table[:, :1] for table in mixed_codes(0, 200))
    decisions = []
    for value in range(3):
        y = np.where(factors[:, 0] == value, 1, -1)
        weight = np.where(y > 0, 200 / (3 * (y > 0).sum()), 1)

        def loss(w: Any, y: Any = y, weight: Any = weight) -> float:
            hinge = np.maximum(0, 1 - y * (w[0] * codes[:, 0] + w[1]))
            return float(w @ w / 2 + 0.05 * (weight * hinge**2).sum())

        w = minimize(loss, np.zeros(2), tol=1e-12).x
        decisions.append(w[0] * codes[:, 0] + w[1])
    correct = (np.argmax(decisions, 0) == factors[:, 0]).mean()
    split = FactorSplit(codes, factors)
    assert sap.svm_accuracies(split, split, 0.05)[0, 0] == pytest.approx(correct, abs=0.011)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10))
def test_squared_correlations_are_numpys(seed: int, scale: float, shift: float) -> None:
    codes, factors = mixed_codes(seed)
    found = sap.squared_correlations(FactorSplit(codes * scale + shift, factors))
    np.testing.assert_allclose(found, np.corrcoef(codes.T, factors.T)[:4, 4:] ** 2, atol=1e-10)


# -- DCI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("dci_matrix/")])
def test_dci_of_the_vectors_matrices(name: str) -> None:
    case = Case(name)
    importances = case.importance.numpy()
    case.expect("disentanglement", np.float64(dci.concentration(importances)))
    case.expect("completeness", np.float64(dci.concentration(importances.T)))


def predict(train: FactorSplit, test: FactorSplit, jobs: int = 1) -> tuple[NDArray[np.float64], ...]:
    return dci.predict_factors(train, test, torch.Generator().manual_seed(0), jobs)


PARTLY = {"perfect": 3, "permuted_scaled": 1, "one_constant_dim": 2, "mixed": 0, "noise": 0, "rotated": 0}
"""Sets of codes of which only one factor is predicted, because each takes long; the others are as expected."""


@pytest.mark.parametrize(
    "name", [name if name in PARTLY else pytest.param(name, marks=pytest.mark.slow) for name in SETS]
)
def test_dci_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/dci")
    train, test = splits(case, [PARTLY[name]] if name in PARTLY else case.params["factors_used"])
    matrix, in_train, in_test = predict(train, test)
    if name in PARTLY:
        whole = case.value("importance_matrix").copy()
        whole[:, [PARTLY[name]]] = matrix
        matrix = whole
        for found, split in ((in_train, "train"), (in_test, "test")):
            of_all = case.value(f"informativeness_{split}")
            assert 1 - 4 * (1.01 - of_all) <= found[0] <= min(1, 4 * of_all)  # the mean of this and three others
    else:
        case.expect("informativeness_train", in_train.mean(), at_most=0.02)
        case.expect("informativeness_test", in_test.mean(), at_most=0.02)
    if name == "duplicated":  # a tree chooses one of two equal latents at random
        case.expect("importance_sum_over_copies", matrix[:4] + matrix[4:], at_most=0.01)
    else:
        case.expect("importance_matrix", matrix, at_most=0.03)
    case.expect("disentanglement", np.float64(dci.concentration(matrix)), at_most=0.02)
    case.expect("completeness", np.float64(dci.concentration(matrix.T)), at_most=0.2)


def test_dci_of_two_factors_merged_in_one_latent() -> None:
    merged = np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) * [2, 2, 1, 1]
    assert dci.concentration(merged) == pytest.approx((2 * (1 - math.log(2) / math.log(4)) + 2) / 4)
    assert dci.concentration(merged.T) == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)), st.permutations(range(3)))
def test_concentration_does_not_depend_on_order_and_scale(seed: int, rows: list[int], columns: list[int]) -> None:
    matrix = np.random.default_rng(seed).exponential(size=(5, 3)) ** 3
    found = dci.concentration(matrix)
    assert 0 <= found <= 1
    assert dci.concentration(7 * matrix[rows][:, columns]) == pytest.approx(found)
    assert dci.concentration(np.pad(matrix, [(0, 1), (0, 0)])) == pytest.approx(found)
    assert dci.concentration(0 * matrix) == 0


@pytest.mark.slow
def test_trees_do_not_depend_on_order_scale_and_offset() -> None:
    codes, factors = mixed_codes(0)
    split, moved = FactorSplit(codes, factors), FactorSplit(codes[:, [2, 0, 3, 1]] * 4 + 8, factors[:, [1, 2, 0]])
    (expected, *accuracies), (found, *others) = predict(split, split), predict(moved, moved)
    np.testing.assert_allclose(found, expected[[2, 0, 3, 1]][:, [1, 2, 0]], atol=0.03)  # ties are broken at random
    for own, other in zip(accuracies, others, strict=True):
        np.testing.assert_allclose(other, own[[1, 2, 0]])


@pytest.mark.slow
def test_trees_are_the_same_in_any_number_of_processes() -> None:
    split = FactorSplit(*mixed_codes(0, 30))
    for alone, together in zip(predict(split, split), predict(split, split, jobs=2), strict=True):
        np.testing.assert_array_equal(alone, together)


# -- IRS --------------------------------------------------------------------------------------------------------------


def test_irs_of_constant_codes() -> None:
    case = Case("irs/constant_nonzero_codes")
    found = irs.irs(*irs.robustness(FactorSplit(case.codes.numpy(), case.factors.numpy())))
    case.expect("irs_recommended", np.float64(found))


@every_set
def test_irs_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/irs")
    train, _ = splits(case)
    for wanted, quantile in (("irs", case.params["diff_quantile"]), ("irs_quantile_1", 1.0)):
        case.expect(wanted, np.float64(irs.irs(*irs.robustness(train, quantile))))


def test_irs_by_hand() -> None:
    codes = np.array([[0.0, 4, 0.3], [2, 4, 0.3], [8, 0, 0.3], [6, 0, 0.3]])  # means 4, 2
    robust, reach = irs.robustness(FactorSplit(codes, np.array([[0], [0], [1], [1]])), 1.0)
    np.testing.assert_allclose(robust[:, 0], [1 - 1 / 4, 1, 0])
    np.testing.assert_allclose(reach, [4, 2, 0])
    assert irs.irs(robust, reach) == pytest.approx((4 * 0.75 + 2) / 6)
