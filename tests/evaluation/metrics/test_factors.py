"""Draws, binned codes and information of the disentanglement metrics; invariances and edge cases of all of them."""

from typing import Any

import numpy as np
import pytest
import torch
from given import factor_grid, given_evaluation, mixed_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from vectors import Case

from vaelab.evaluation.evaluation import NotMeasurable
from vaelab.evaluation.metrics import load_metric
from vaelab.evaluation.metrics._factors import (
    draw,
    draw_splits,
    entropy,
    histogram_bins,
    mutual_information,
    top_gaps,
    varying_factors,
)
from vaelab.evaluation.metrics._votes import draw_votes

GRID = factor_grid(3, 4, 2)
FEW = {
    "mig": {"draws": 300},
    "sap": {"train_draws": 300, "test_draws": 150},
    "modularity": {"train_draws": 300, "test_draws": 150},
    "dci": {"train_draws": 300, "test_draws": 150},
    "irs": {"draws": 300},
    "factorvae": {"train_votes": 400, "test_votes": 400, "variance_draws": 500, "length": 16},
    "betavae": {"train_votes": 400, "test_votes": 400, "pairs": 16},
}
QUANTITIES = {name: [quantity.key for quantity in load_metric(name).quantities] for name in FEW}
every_metric = pytest.mark.parametrize("name", FEW)


def measure(name: str, codes: NDArray[Any], factors: NDArray[np.int64] = GRID, **options: Any) -> Any:
    """Measure with few draws."""
    measure: Any = load_metric(name).measure
    return measure(given_evaluation(codes, 0, factors), **{**FEW[name], **options})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- information ------------------------------------------------------------------------------------------------------


def test_information_and_entropy_of_the_vectors() -> None:
    case = Case("discrete_mutual_information")
    codes, factors = case.codes.numpy().T, case.factors.numpy().T
    case.expect("mi", mutual_information(codes, factors))
    case.expect("entropy", entropy(factors))


def test_bins_of_the_vectors() -> None:
    case = Case("histogram_discretizer")
    values = case.values.numpy().T
    expected = case.value("bins").T - 1  # counted from 1 there
    varies = values.max(0) > values.min(0)
    found = histogram_bins(values, case.params["num_bins"])
    np.testing.assert_array_equal(found[:, varies], expected[:, varies])
    assert all(len(np.unique(column)) == 1 for column in found[:, ~varies].T)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_bins_are_those_of_a_histogram(seed: int, bins: int) -> None:
    codes = np.random.default_rng(seed).standard_normal((50, 2)).astype(np.float32)
    found = histogram_bins(codes, bins)
    for own, column in zip(codes.astype(np.float64).T, found.T, strict=True):
        np.testing.assert_array_equal(np.bincount(column, minlength=bins), np.histogram(own, bins)[0])


def test_bins_of_latents_that_hardly_vary() -> None:
    close = np.nextafter(1.0, 2)  # no number lies between the two
    found = histogram_bins(np.array([[1.0, 1e20, 7.0], [close, 1e20, 7.0]]))
    assert 0 <= found[0, 0] < found[1, 0] <= 19
    assert (found[0, 1:] == found[1, 1:]).all()


@given(st.integers(0, 2**32 - 1))
def test_information_is_what_two_entropies_share(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(-3, 4, (2, 30, 2))
    both = np.stack([10 * a[:, j] + b[:, k] for j in range(2) for k in range(2)], 1)
    expected = entropy(a)[:, None] + entropy(b) - entropy(both).reshape(2, 2)
    np.testing.assert_allclose(mutual_information(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(mutual_information(a, a).diagonal(), entropy(a), atol=1e-12)


def test_information_of_independent_values_is_exactly_0() -> None:
    grid = np.repeat(factor_grid(3, 7), 11, 0)
    assert mutual_information(grid[:, :1], grid[:, 1:])[0, 0] == 0
    assert mutual_information(0 * grid[:, :1], grid)[0].tolist() == [0, 0]


def test_top_gaps_by_hand() -> None:
    information = np.array([[0.5, 0.0], [0.2, -0.1], [0.4, -0.3]])
    np.testing.assert_allclose(top_gaps(information), [0.1, 0])
    np.testing.assert_allclose(top_gaps(information[:1]), [0.5, 0])


# -- draws ------------------------------------------------------------------------------------------------------------


def test_constant_factors_are_left_out() -> None:
    factors = np.array([[3, 0, -1, 5], [3, 1, -1, 5], [3, 0, -1, 4]])
    assert varying_factors(factors).tolist() == [1, 3]
    assert len(varying_factors(factors[:, :0])) == 0


def test_draws_are_uniform_with_replacement_and_repeatable() -> None:
    rows = draw(10, 10_000, generator())
    np.testing.assert_allclose(np.bincount(rows, minlength=10), 1000, atol=150)
    np.testing.assert_array_equal(rows, draw(10, 10_000, generator()))


def test_splits_state_constant_factors_and_overlap() -> None:
    factors = np.stack([np.arange(50) % 5, np.full(50, 7), np.arange(50) // 25], 1)
    evaluation = given_evaluation(np.arange(50.0)[:, None], 0, factors, ("shape", "colour", "side"))
    drawn = draw_splits(evaluation, generator(), 30, 1000)
    assert drawn.protocol["factors"] == ["shape", "side"]
    assert drawn.protocol["constant_factors"] == ["colour"]
    for split in (drawn.train, drawn.test):  # the code is the row
        np.testing.assert_array_equal(split.factors, factors[split.codes[:, 0].astype(int)][:, [0, 2]])
    rows, test_rows = (set(split.codes[:, 0]) for split in (drawn.train, drawn.test))
    assert test_rows == set(range(50))
    assert drawn.protocol["test_draws_also_in_train"] == pytest.approx(len(rows) / 50, abs=0.05)


def images_with(factors: NDArray[np.int64]) -> Any:
    return given_evaluation(np.zeros((len(factors), 2)), 0, factors).images


def test_partners_share_the_value_and_are_uniform() -> None:
    factors = np.array([[0, 7], [0, 8], [3, 8], [3, 8], [3, 9], [5, 9]])  # 5 and 7 occur in one image each
    votes = draw_votes(images_with(factors), 3000, 2, 3, generator())
    assert (votes.anchors.shape, votes.partners.shape) == ((3000, 2), (3000, 2, 3))
    for k, shared in enumerate([range(5), range(1, 6)]):
        of_factor = votes.factor == k
        assert abs(of_factor.sum() - 1500) < 120
        anchors, partners = votes.anchors[of_factor], votes.partners[of_factor]
        assert (factors[partners, k] == factors[anchors, k][..., None]).all()
        drawn = np.bincount(anchors.ravel(), minlength=6)
        assert set(np.nonzero(drawn)[0]) == set(shared)
        assert (np.abs(drawn[list(shared)] / drawn.sum() - 0.2) < 0.03).all()
        for row in shared:
            same = np.flatnonzero(factors[:, k] == factors[row, k])
            found = np.bincount(partners[anchors == row].ravel(), minlength=6)
            assert (np.abs(found[same] / found.sum() - 1 / len(same)) < 0.06).all()


def test_other_factors_are_independent_in_a_complete_grid() -> None:
    factors = factor_grid(2, 3, 4)
    votes = draw_votes(images_with(factors), 2000, 1, 20, generator())
    held = factors[votes.partners[votes.factor == 1, 0]]
    joint = np.zeros((2, 4))
    np.add.at(joint, (held[..., 0].ravel(), held[..., 2].ravel()), 1)
    np.testing.assert_allclose(joint / joint.sum(), 1 / 8, atol=0.006)


# -- every disentanglement metric ------------------------------------------------------------------------------------


@every_metric
def test_constant_codes_score_0_or_chance(name: str) -> None:
    found = measure(name, np.full((24, 3), 0.3))
    expected = {"explicitness": 0.5, "betavae": pytest.approx(1 / 3, abs=0.06)}
    for key in QUANTITIES[name]:
        assert found[key] == (found["majority_accuracy"] if key == "informativeness" else expected.get(key, 0))
    constant = {"modularity": "latents_without_information", "irs": "constant_latents", "factorvae": "pruned_latents"}
    assert name not in constant or found[constant[name]] == 3


@every_metric
def test_perfect_codes_score_1_and_constant_factors_are_named(name: str) -> None:
    factors = np.pad(GRID, [(0, 0), (0, 1)])
    found = measure(name, 2.0 * GRID, factors, **({"draws": 20_000} if name == "mig" else {}))
    for key in QUANTITIES[name]:  # a line through an ordered factor distinguishes little more than its ends
        assert (0.3 < found[key] < 0.7) if key == "sap" else found[key] == pytest.approx(1, abs=0.01)
    assert found["protocol"]["factors"] == ["0", "1", "2"]
    assert found["protocol"]["constant_factors"] == ["3"]


@every_metric
def test_a_duplicated_code_costs_what_the_metric_says(name: str) -> None:
    found = measure(name, np.concatenate([GRID, GRID], 1).astype(float))
    for key in QUANTITIES[name]:
        if key == "completeness":  # a tree chooses one of two equal latents at random
            assert found[key] < 0.9
        else:
            assert found[key] == (0 if key in ("mig", "sap") else pytest.approx(1, abs=0.02))


@pytest.mark.parametrize("name", [name for name in FEW if name != "dci"])  # slow; see test_disentanglement.py
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 2.0, 8.0]), st.integers(-8, 8), st.permutations(range(4)))
@settings(max_examples=4)
def test_scores_do_not_depend_on_order_sign_scale_and_offset(
    name: str, seed: int, scale: float, shift: int, order: list[int]
) -> None:
    codes, factors = mixed_codes(seed)
    scale = 1.0 if name in ("sap", "betavae") else scale  # these penalise weights
    expected = measure(name, codes, factors, **({"prune": 0} if name == "factorvae" else {}))
    moved = -codes[:, order] * scale + shift
    found = measure(name, moved, factors, **({"prune": 0} if name == "factorvae" else {}))
    tolerance = {"sap": 0.05, "modularity": 0.01, "betavae": 0.01, "factorvae": 0.03}.get(name, 1e-6)
    for key in QUANTITIES[name]:
        assert 0 <= found[key] <= 1
        assert found[key] == pytest.approx(expected[key], abs=tolerance)


@every_metric
@pytest.mark.parametrize("factors", [np.full((24, 2), 3), np.empty((24, 0), np.int64)])
def test_without_a_varying_factor_nothing_is_measured(name: str, factors: NDArray[np.int64]) -> None:
    with pytest.raises(NotMeasurable):
        measure(name, np.random.default_rng(0).standard_normal((24, 3)), factors)


@pytest.mark.parametrize(
    ("name", "codes", "factors"),
    [
        ("sap", GRID[:, :1], GRID),
        ("dci", GRID[:, :1], GRID),
        ("dci", GRID, GRID[:, :1]),
        ("factorvae", GRID, GRID[:, :1]),
        ("betavae", GRID, np.stack([GRID[:, 0], np.arange(24)], 1)),  # no two images share a value of the second
    ],
)
def test_some_metrics_need_two_latents_or_two_factors(
    name: str, codes: NDArray[Any], factors: NDArray[Any], wording: Any
) -> None:
    with pytest.raises(NotMeasurable) as raised:
        measure(name, 2.0 * codes, factors)
    wording(raised.value)


def test_one_factor_is_enough_for_the_others() -> None:
    found = measure("modularity", 2.0 * GRID, GRID[:, :1])
    assert "modularity" not in found
    assert found["explicitness"] == pytest.approx(1)
    assert measure("irs", 2.0 * GRID, GRID[:, :1])["irs"] > 0
    assert measure("sap", 2.0 * GRID, GRID[:, :1])["sap_continuous"] > 0
    assert measure("mig", 2.0 * GRID, GRID[:, :1])["mig"] > 0.9


@pytest.mark.parametrize("name", ["factorvae", "betavae"])
def test_votes_leave_out_factors_without_shared_values(name: str) -> None:
    factors = factor_grid(3, 4, 5)
    found = measure(name, 1.0 * factors, np.concatenate([factors, np.arange(60)[:, None]], 1))
    assert (found[name], found["chance_accuracy"]) == (1, 1 / 3)
    assert found["protocol"]["factors_without_shared_values"] == ["3"]
