"""SAP, modularity and explicitness, DCI and IRS: reference vectors, known answers, what they do not depend on."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import given_evaluation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from vectors import CASES, Case

from vaelab.evaluation.metrics import dci, irs, modularity, sap
from vaelab.evaluation.metrics._factors import FactorSplit, histogram_bins, mutual_information, varying

SETS = [name.split("/")[1] for name in CASES if name.startswith("disent/") and name.endswith("/dci")]
GRID = np.stack(np.meshgrid(*map(np.arange, (3, 4, 2)), indexing="ij"), -1).reshape(-1, 3)
"""All combinations of three factors."""
MEMBERS = {"sap": sap, "modularity": modularity, "dci": dci, "irs": irs}


def measured(name: str, means: NDArray[Any], factors: NDArray[np.int64] | None = None, count: int = 400) -> Any:
    """What the metric finds with few draws."""
    draws = {"draws": count} if name == "irs" else {"train_draws": count, "test_draws": count // 2}
    module: Any = MEMBERS[name]
    return module.measure(given_evaluation(means, 0, GRID if factors is None else factors), **draws)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts(case: Case, used: list[int] | None = None) -> tuple[FactorSplit, FactorSplit]:
    """Training and test of a case, all factors or those ``used``."""
    rows = (case.train_idx.long(), case.test_idx.long())
    columns = used or list(range(case.factors_table.shape[1]))
    train, test = (FactorSplit(case.codes_table[at].numpy(), case.factors_table[at].numpy()[:, columns]) for at in rows)
    return train, test


def random_part(seed: int, count: int = 80) -> FactorSplit:
    """Codes of three latents that mix three factors, and noise in a fourth."""
    random = np.random.default_rng(seed)
    factors = random.integers(0, [3, 4, 2], (count, 3))
    codes = factors @ random.standard_normal((3, 4)) * [1, 1, 1, 0] + random.standard_normal((count, 4))
    return FactorSplit(codes, factors)


# -- modularity and explicitness --------------------------------------------------------------------------------------


def test_modularity_of_the_vectors_matrix() -> None:
    case = Case("modularity_matrix")
    information = case.mi.numpy()
    case.expect("modularity", np.float64(modularity.modularity_of(information)))
    alive = information[information.max(1) > 0]
    case.expect("modularity_without_dead_codes", np.float64(modularity.modularity_of(alive)))


@pytest.mark.parametrize("name", SETS)
def test_modularity_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/modularity")
    train, _ = parts(case)
    bins = case.params["num_bins"]
    information = mutual_information(histogram_bins(train.codes, bins), train.factors)
    case.expect("modularity", np.float64(modularity.modularity_of(information)))
    wanted = "modularity_over_varying_factors" if name == "factor_constant" else "modularity"
    case.expect(wanted, np.float64(modularity.modularity_of(information[:, varying(train.factors)[1]])))


def test_modularity_by_hand() -> None:
    information = np.array([[2.0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 2, 0]])
    np.testing.assert_allclose(modularity.modularity_per_latent(information), [1, 0, 0, 1 - 0.25 / 2])
    with pytest.raises(ValueError, match="two factors; got the information on 1"):
        modularity.modularity_of(information[:, :1])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10), st.permutations(range(4)))
def test_modularity_does_not_depend_on_order_scale_and_place(
    seed: int, scale: float, shift: float, order: list[int]
) -> None:
    part = random_part(seed)
    expected = score_of("modularity", part.codes, part.factors)
    assert 0 <= expected <= 1
    moved = part.codes[:, order] * [scale, -1, 1, 1] + shift
    assert score_of("modularity", moved, part.factors[:, [2, 0, 1]]) == pytest.approx(expected)
    wider = np.pad(part.codes, [(0, 0), (0, 1)], constant_values=shift)
    assert score_of("modularity", wider, part.factors) == pytest.approx(expected * 4 / 5)


def score_of(name: str, codes: NDArray[Any], factors: NDArray[np.int64]) -> float:
    """The number that a metric is named for."""
    return float(measured(name, codes, factors, count=100)[name])


def explicitness(train: FactorSplit, test: FactorSplit) -> float:
    scores = [
        modularity.explicitness(train.codes, train_values, test.codes, values)
        for train_values, values in zip(train.factors.T, test.factors.T, strict=True)
    ]
    return float(np.mean(scores))


@pytest.mark.parametrize("name", SETS)
def test_explicitness_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/explicitness")
    assert case.params["C"] == 1
    train, test = parts(case, varying(case.factors_table.numpy())[1].tolist())
    prefix = "recommended_" if name in ("constant_zero", "factor_constant") else ""
    case.expect(f"{prefix}explicitness_train", np.float64(explicitness(train, train)), at_most=0.002)
    case.expect(f"{prefix}explicitness_test", np.float64(explicitness(train, test)), at_most=0.002)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10))
@settings(max_examples=10)
def test_explicitness_does_not_depend_on_scale_place_and_order(seed: int, scale: float, shift: float) -> None:
    part = random_part(seed)
    train, test = FactorSplit(part.codes[:50], part.factors[:50]), FactorSplit(part.codes[50:], part.factors[50:])
    moved = [FactorSplit(one.codes[:, ::-1] * [scale, -1, 1, 1] + shift, one.factors) for one in (train, test)]
    assert explicitness(*moved) == pytest.approx(explicitness(train, test), abs=0.005)


def test_explicitness_leaves_out_what_is_undefined() -> None:
    codes, values = np.arange(12.0)[:, None], np.arange(12) // 4
    told = modularity.explicitness(codes, values, codes[:8], values[:8])  # nobody in test has 2
    assert told == pytest.approx(1)
    assert modularity.explicitness(codes[:8], values[:8], codes, values) == pytest.approx(0.75)  # nor here in training
    assert modularity.explicitness(codes, values, codes[:4], values[:4]) is None  # all in test have 0


# -- SAP --------------------------------------------------------------------------------------------------------------


def test_sap_of_the_vectors_matrix() -> None:
    case = Case("sap_matrix")
    case.expect("sap", np.float64(sap.sap_of(case.scores.numpy())))


@pytest.mark.parametrize("name", SETS)
def test_sap_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/sap")
    train, test = parts(case, case.params["factors_used"])
    scores = sap.accuracies(train.codes, train.factors, test.codes, test.factors, case.params["C"])
    case.expect("score_matrix", scores, at_most=0.012)
    case.expect("sap_discrete", np.float64(sap.sap_of(scores)), at_most=0.01)
    correlations = sap.squared_correlations(train.codes, train.factors)
    case.expect("r2_matrix", correlations)
    case.expect("sap_continuous", np.float64(sap.sap_of(correlations)))


def test_sap_compares_two_latents() -> None:
    assert sap.sap_of(np.array([[0.9, 0.2], [0.4, 0.3], [0.5, 0.6]])) == pytest.approx((0.4 + 0.3) / 2)
    with pytest.raises(ValueError, match="two latents; got scores of 1"):
        sap.sap_of(np.ones((1, 3)))


def test_support_vector_machines_are_at_the_minimum() -> None:
    from scipy.optimize import minimize

    part = random_part(0, 200)
    weight = {value: 200 / (3 * (part.factors[:, 0] == value).sum()) for value in range(3)}
    decisions = []
    for value in range(3):
        y = np.where(part.factors[:, 0] == value, 1, -1)
        heavy = np.where(y > 0, weight[value], 1)

        def loss(w: Any, y: Any = y, heavy: Any = heavy) -> float:
            hinge = np.maximum(0, 1 - y * (w[0] * part.codes[:, 0] + w[1]))
            return float(w @ w / 2 + 0.05 * (heavy * hinge**2).sum())

        w = minimize(loss, np.zeros(2), tol=1e-12).x
        decisions.append(w[0] * part.codes[:, 0] + w[1])
    right = (np.argmax(decisions, 0) == part.factors[:, 0]).mean()
    found = sap.accuracies(part.codes[:, :1], part.factors[:, :1], part.codes[:, :1], part.factors[:, :1], 0.05)
    assert found[0, 0] == pytest.approx(right, abs=0.011)


@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
@settings(max_examples=8)
def test_sap_does_not_depend_on_order(seed: int, order: list[int]) -> None:
    part = random_part(seed)
    scores, other = (
        sap.accuracies(codes, factors, codes, factors)
        for codes, factors in ((part.codes, part.factors), (part.codes[:, order], part.factors[:, [2, 0, 1]]))
    )
    np.testing.assert_array_equal(other, scores[order][:, [2, 0, 1]])


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10))
def test_squared_correlations_are_numpys_and_do_not_depend_on_scale(seed: int, scale: float, shift: float) -> None:
    part = random_part(seed)
    expected = np.corrcoef(part.codes.T, part.factors.T)[:4, 4:] ** 2
    found = sap.squared_correlations(part.codes * scale + shift, part.factors)
    np.testing.assert_allclose(found, expected, atol=1e-10)


# -- DCI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("dci_matrix/")])
def test_dci_of_the_vectors_matrices(name: str) -> None:
    case = Case(name)
    disentanglement, completeness = dci.disentanglement_completeness(case.importance.numpy())
    case.expect("disentanglement", np.float64(disentanglement))
    case.expect("completeness", np.float64(completeness))


def importances(train: FactorSplit, test: FactorSplit, jobs: int = 1) -> tuple[NDArray[np.float64], ...]:
    return dci.importances(train.codes, train.factors, test.codes, test.factors, generator(), jobs)


PARTLY = {"perfect": 3, "permuted_scaled": 1, "one_constant_dim": 2, "mixed": 0, "noise": 0, "rotated": 0}
"""Sets of codes of which one factor is predicted here, as each takes long; for the others stands what is expected."""


@pytest.mark.parametrize(("name", "k"), PARTLY.items())
def test_dci_of_one_factor_of_the_vectors(name: str, k: int) -> None:
    case = Case(f"disent/{name}/dci")
    train, test = parts(case, [k])
    column, in_training, in_test = importances(train, test)
    matrix = case.value("importance_matrix").copy()
    matrix[:, [k]] = column
    case.expect("importance_matrix", matrix, at_most=0.03)
    disentanglement, completeness = dci.disentanglement_completeness(matrix)
    case.expect("disentanglement", np.float64(disentanglement), at_most=0.01)
    case.expect("completeness", np.float64(completeness), at_most=0.01)
    for found, split in ((in_training, "train"), (in_test, "test")):
        of_all = case.value(f"informativeness_{split}")
        assert 1 - 4 * (1.01 - of_all) <= found[0] <= min(1, 4 * of_all)  # the mean of this and three others


@pytest.mark.parametrize("name", [name for name in SETS if name not in PARTLY])
def test_dci_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/dci")
    train, test = parts(case, case.params["factors_used"])
    matrix, in_training, in_test = importances(train, test)
    if name == "duplicated":  # which of two equal latents is used is chance
        case.expect("importance_sum_over_copies", matrix[:4] + matrix[4:], at_most=0.01)
    else:
        case.expect("importance_matrix", matrix, at_most=0.03)
    disentanglement, completeness = dci.disentanglement_completeness(matrix)
    case.expect("disentanglement", np.float64(disentanglement), at_most=0.02)
    case.expect("completeness", np.float64(completeness), at_most=0.2)
    case.expect("informativeness_train", in_training.mean(), at_most=0.02)
    case.expect("informativeness_test", in_test.mean(), at_most=0.02)


def test_two_factors_merged_in_one_latent() -> None:
    merged = np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) * [2, 2, 1, 1]
    disentanglement, completeness = dci.disentanglement_completeness(merged)
    assert disentanglement == pytest.approx((2 * (1 - math.log(2) / math.log(4)) + 2) / 4)
    assert completeness == pytest.approx(1)


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)), st.permutations(range(3)))
def test_dci_of_matrices(seed: int, latents: list[int], factors: list[int]) -> None:
    matrix = np.random.default_rng(seed).exponential(size=(5, 3)) ** 3
    found = dci.disentanglement_completeness(matrix)
    assert all(0 <= score <= 1 for score in found)
    assert dci.disentanglement_completeness(matrix[latents][:, factors]) == pytest.approx(found)
    assert dci.disentanglement_completeness(matrix.T) == pytest.approx(found[::-1])
    assert dci.disentanglement_completeness(7 * matrix) == pytest.approx(found)
    assert dci.disentanglement_completeness(np.pad(matrix, [(0, 1), (0, 0)]))[0] == pytest.approx(found[0])


@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_dci_compares_latents_and_factors(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {shape[0]} and {shape[1]}"):
        dci.disentanglement_completeness(np.ones(shape))


def test_trees_do_not_depend_on_order_scale_and_place() -> None:
    part = random_part(0)
    moved = FactorSplit(part.codes[:, [2, 0, 3, 1]] * 4 + 8, part.factors[:, [1, 2, 0]])
    expected, *accuracies = importances(part, part)
    found, *moved_accuracies = importances(moved, moved)
    np.testing.assert_allclose(found, expected[[2, 0, 3, 1]][:, [1, 2, 0]], atol=0.03)  # ties are broken at random
    for own, other in zip(accuracies, moved_accuracies, strict=True):
        np.testing.assert_allclose(other, own[[1, 2, 0]])


def test_trees_are_the_same_in_any_number_of_processes() -> None:
    part = random_part(0, 30)
    for alone, together in zip(importances(part, part), importances(part, part, jobs=2), strict=True):
        np.testing.assert_array_equal(alone, together)


# -- IRS --------------------------------------------------------------------------------------------------------------


def test_irs_of_constant_codes() -> None:
    case = Case("irs/constant_nonzero_codes")
    case.expect("irs_recommended", np.float64(irs.irs_of(*irs.robustness(case.codes.numpy(), case.factors.numpy()))))


@pytest.mark.parametrize("name", SETS)
def test_irs_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/irs")
    train, _ = parts(case)
    for wanted, quantile in (("irs", case.params["diff_quantile"]), ("irs_quantile_1", 1.0)):
        case.expect(wanted, np.float64(irs.irs_of(*irs.robustness(train.codes, train.factors, quantile))))


def test_irs_by_hand() -> None:
    codes = np.array([[0.0, 4, 0.3], [2, 4, 0.3], [8, 0, 0.3], [6, 0, 0.3]])  # means 4, 2
    factors = np.array([[0], [0], [1], [1]])
    of_factors, weights = irs.robustness(codes, factors, 1.0)
    np.testing.assert_allclose(of_factors[:, 0], [1 - 1 / 4, 1, 0])
    np.testing.assert_allclose(weights, [4, 2, 0])
    assert irs.irs_of(of_factors, weights) == pytest.approx((4 * 0.75 + 2) / 6)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10), st.permutations(range(4)))
def test_irs_does_not_depend_on_order_place_and_common_scale(
    seed: int, scale: float, shift: float, order: list[int]
) -> None:
    part = random_part(seed)
    expected = score_of("irs", part.codes, part.factors)
    assert 0 <= expected <= 1
    moved = np.pad(part.codes[:, order] * -scale + shift, [(0, 0), (1, 0)], constant_values=0.3)
    assert score_of("irs", moved, part.factors[:, [2, 0, 1]]) == pytest.approx(expected)


# -- measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_of_codes_that_do_not_vary(name: str) -> None:
    found = measured(name, np.full((24, 3), 0.3))
    nothing = {"sap", "sap_continuous", "modularity", "disentanglement", "completeness", "irs"} & found.keys()
    assert nothing
    assert all(found[key] == 0 for key in nothing)
    if name == "modularity":
        assert found["explicitness"] == 0.5
        assert found["latents_without_information"] == 3
    if name == "dci":
        assert found["informativeness"] == found["majority_accuracy"]
    if name == "irs":
        assert found["latents_that_do_not_vary"] == 3


@pytest.mark.parametrize("name", MEMBERS)
def test_of_a_perfect_code(name: str) -> None:
    found = measured(name, 2.0 * GRID, np.pad(GRID, [(0, 0), (0, 1)]))
    for key in {
        "modularity",
        "explicitness",
        "disentanglement",
        "completeness",
        "informativeness",
        "irs",
    } & found.keys():
        assert found[key] == pytest.approx(1, abs=0.01)
    if name == "sap":
        assert found["sap_continuous"] == pytest.approx(1, abs=0.03)
        assert 0.3 < found["sap"] < 0.7  # a line through an ordered factor finds little more than its ends
    assert found["protocol"]["factors"] == ["0", "1", "2"]
    assert found["protocol"]["factors_left_out_for_their_one_value"] == ["3"]
    if name != "irs":
        assert found["protocol"]["share_of_test_draws_drawn_in_training"] == 1


@pytest.mark.parametrize("name", ["modularity", "dci", "irs"])
def test_a_factor_in_two_latents_costs_completeness_alone(name: str) -> None:
    found = measured(name, np.concatenate([GRID, GRID[:, :1]], 1), count=2000)
    for key in {"modularity", "explicitness", "disentanglement", "informativeness", "irs"} & found.keys():
        assert found[key] == pytest.approx(1, abs=0.01)
    if name == "dci":  # which of two equal latents a tree takes is chance
        assert found["completeness"] < 0.9


def test_a_factor_in_two_latents_has_no_separated_attribute_predictability() -> None:
    found = measured("sap", np.concatenate([GRID, GRID], 1))
    assert (found["sap"], found["sap_continuous"]) == (0, pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("name", MEMBERS)
def test_where_no_factor_varies_nothing_is_measured(name: str) -> None:
    assert measured(name, np.zeros((24, 3)), np.full((24, 2), 3)) is None


def test_one_factor_or_one_latent() -> None:
    one = measured("modularity", 2.0 * GRID, GRID[:, :1])
    assert "modularity" not in one
    assert one["explicitness"] == pytest.approx(1)
    assert measured("irs", 2.0 * GRID, GRID[:, :1])["irs"] > 0
    assert measured("sap", 2.0 * GRID, GRID[:, :1]) is not None
    assert measured("dci", 2.0 * GRID, GRID[:, :1]) is None
    assert measured("dci", 2.0 * GRID[:, :1]) is None
    assert measured("sap", 2.0 * GRID[:, :1]) is None
