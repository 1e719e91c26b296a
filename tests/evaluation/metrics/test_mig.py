"""Mutual information gap by both protocols: reference vectors and known answers."""

import math
from typing import Any

import numpy as np
import pytest
from given import factor_grid, given_evaluation
from numpy.typing import NDArray
from vectors import CASES, Case

from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import mig
from vaelab.evaluation.metrics._factors import (
    entropy,
    histogram_bins,
    mutual_information,
    top_gaps,
    varying_factors,
)
from vaelab.evaluation.metrics.decomposition import aggregate_densities
from vaelab.system.errors import UnknownName

SETS = [name.split("/")[1] for name in CASES if name.startswith("disent/") and name.endswith("/mig")]
GRID = factor_grid(3, 4, 2)


@pytest.mark.parametrize("name", SETS)
def test_binned_mig_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/mig")
    rows = case.train_idx.long()
    codes, factors = case.codes_table[rows].numpy(), case.factors_table[rows].numpy()
    information = mutual_information(histogram_bins(codes, case.params["num_bins"]), factors)
    entropies, kept = entropy(factors), varying_factors(factors)
    case.expect("mi_matrix", information)
    case.expect("factor_entropy", entropies)
    wanted = "mig_over_varying_factors" if name == "factor_constant" else "mig"
    case.expect(wanted, np.float64((top_gaps(information[:, kept]) / entropies[kept]).mean()))


def test_chen_of_the_vectors_samples() -> None:
    case = Case("mig_chen/given_samples")
    z, means, log_vars, factors = (getattr(case, name).numpy() for name in ("z", "mu", "logvar", "factors_table"))
    marginal = -aggregate_densities(z, means, log_vars)[1].mean(0)
    information = mig.pointwise_information(z, means, log_vars, factors).mean(0)
    case.expect("marginal_entropy", marginal)
    case.expect("conditional_entropy", (marginal[:, None] - information).T)
    case.expect("mi", information.T)
    case.expect("mig", (top_gaps(information) / entropy(factors)).mean())
    np.testing.assert_allclose(np.exp(entropy(factors)), case.params["factor_sizes"])


def test_chen_of_the_vectors_exact() -> None:
    case = Case("mig_chen/exact")
    means, log_vars, factors = (getattr(case, name).numpy() for name in ("mu", "logvar", "factors_table"))
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)  # in place of samples
    z = means + np.exp(log_vars / 2) * nodes[:, None, None]
    weights = weights / weights.sum()
    information = np.einsum("s,snjk->jk", weights, mig.pointwise_information(z, means, log_vars, factors)) / len(means)
    marginal = -np.einsum("s,snj->j", weights, aggregate_densities(z, means, log_vars)[1]) / len(means)
    of_quadrature = 1e-4
    case.expect("marginal_entropy", marginal, of_quadrature, at_most=1e-6)
    case.expect("mi", information.T, of_quadrature, at_most=1e-6)
    case.expect("mig", (top_gaps(information) / entropy(factors)).mean(), of_quadrature, at_most=1e-6)


@pytest.mark.parametrize(("codes", "gap"), [(GRID, 1), (np.zeros_like(GRID), 0), (np.tile(GRID, 2), 0)])
def test_chen_of_perfect_constant_and_duplicated_codes(codes: NDArray[Any], gap: float) -> None:
    found = mig.measure(given_evaluation(codes, -12, GRID), protocol="chen")
    assert found["mig_chen"] == pytest.approx(gap, abs=1e-9)


def test_chen_weighs_values_by_their_frequency() -> None:
    factors = np.repeat([0, 1], [30, 10])[:, None]
    found = mig.measure(given_evaluation(factors, -12, factors), protocol="chen")
    frequency = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found["mutual_information_per_factor"]["0"] == [pytest.approx(frequency)]
    assert found["mig_chen"] == pytest.approx(1)


def test_results_name_factors() -> None:
    factors, names = np.pad(GRID, [(0, 0), (0, 1)]), ("shape", "size", "side", "colour")
    found = mig.measure(given_evaluation(GRID * 2.0, 0, factors, names))
    assert list(found["mig_per_factor"]) == found["protocol"]["factors"] == ["shape", "size", "side"]
    assert found["entropy_per_factor"]["size"] == pytest.approx(math.log(4), abs=0.01)
    assert np.argmax(found["mutual_information_per_factor"]["size"]) == 1
    sampled = mig.measure(given_evaluation(GRID * 2.0, -10, factors, names), protocol="chen")
    assert sampled["mig_chen_standard_error"] == pytest.approx(0, abs=1e-9)
    assert sampled["protocol"]["factors"] == ["shape", "size", "side"]
    assert "mig" not in sampled


@pytest.mark.slow
def test_standard_error_is_the_spread_over_seeds() -> None:
    factors = np.repeat(GRID, 8, 0)
    given = given_evaluation(factors @ np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]), -0.5, factors)
    found = [
        mig.measure(Evaluation(given.model, given.images, encode=lambda _: given.codes, seed=seed), protocol="chen")
        for seed in range(60)
    ]
    spread = np.std([one["mig_chen"] for one in found], ddof=1)
    claimed = np.mean([one["mig_chen_standard_error"] for one in found])
    assert 0.9 * spread < claimed < 2 * spread  # the means are fixed here, so the spread lacks their part


def test_chen_uses_a_subset_of_many_images() -> None:
    factors = np.repeat(GRID, 4, 0)
    found = mig.measure(given_evaluation(factors, 0, factors), protocol="chen", max_images=50)
    assert (found["protocol"]["sampled_images"], found["protocol"]["images"]) == (50, 96)
    with pytest.raises(NotMeasurable):
        mig.measure(given_evaluation(GRID, 0, 0 * GRID), protocol="chen")


def test_unknown_protocol() -> None:
    with pytest.raises(UnknownName) as raised:
        mig.measure.__wrapped__(given_evaluation(GRID, 0, GRID), protocol="bined")  # past the checker of the tests
    assert raised.value.choices == ("binned", "chen")
