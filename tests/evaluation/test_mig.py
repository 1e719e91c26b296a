"""What metrics of disentanglement share, and the mutual information gap by both protocols."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from vectors import CASES, Case

from vaelab.evaluation.metrics import mig
from vaelab.evaluation.metrics._factors import draw, draw_parts, entropy, histogram_bins, mutual_information, varying
from vaelab.evaluation.metrics.decomposition import aggregate_densities

SETS = [name.split("/")[1] for name in CASES if name.startswith("disent/") and name.endswith("/mig")]
GRID = np.stack(np.meshgrid(*map(np.arange, (3, 4, 2)), indexing="ij"), -1).reshape(-1, 3)
"""All combinations of three factors."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_part(seed: int, count: int = 120) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Codes of three latents that mix three factors, and noise in a fourth."""
    random = np.random.default_rng(seed)
    factors = random.integers(0, [3, 4, 2], (count, 3))
    codes = factors @ random.standard_normal((3, 4)) * [1, 1, 1, 0] + random.standard_normal((count, 4))
    return codes, factors


# -- information ------------------------------------------------------------------------------------------------------


def test_information_and_entropy_of_the_vectors() -> None:
    case = Case("discrete_mutual_information")
    codes, factors = case.codes.numpy().T, case.factors.numpy().T
    case.expect("mi", mutual_information(codes, factors))
    case.expect("entropy", entropy(factors))


def test_bins_of_the_vectors() -> None:
    case = Case("histogram_discretizer")
    bins = histogram_bins(case.values.numpy().T, case.params["num_bins"])
    case.expect("bins", (bins.T + 1).astype(np.float64))  # counted from 1 there


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_bins_are_those_of_a_histogram(seed: int, bins: int) -> None:
    codes = np.random.default_rng(seed).standard_normal((50, 2)).astype(np.float32)
    found = histogram_bins(codes, bins)
    for own, column in zip(codes.astype(np.float64).T, found.T, strict=True):
        np.testing.assert_array_equal(np.bincount(column, minlength=bins), np.histogram(own, bins)[0])


def test_bins_of_latents_that_hardly_vary() -> None:
    close = np.nextafter(1.0, 2)  # nothing lies between the two
    found = histogram_bins(np.array([[1.0, 1e20, 7.0], [close, 1e20, 7.0]]))
    assert found[0, 0] < found[1, 0] <= 19
    assert (found[0, 1:] == found[1, 1:]).all()


@given(st.integers(0, 2**32 - 1))
def test_information_is_what_two_entropies_share(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(-3, 4, (2, 30, 2))
    both = np.stack([10 * a[:, j] + b[:, k] for j in range(2) for k in range(2)], 1)
    expected = entropy(a)[:, None] + entropy(b) - entropy(both).reshape(2, 2)
    np.testing.assert_allclose(mutual_information(a, b), expected, atol=1e-12)
    np.testing.assert_allclose(mutual_information(a, a).diagonal(), entropy(a), atol=1e-12)


# -- draws ------------------------------------------------------------------------------------------------------------


def test_factors_of_one_value_are_left_out() -> None:
    factors = np.array([[3, 0, -1, 5], [3, 1, -1, 5], [3, 0, -1, 4]])
    kept, columns = varying(factors)
    assert columns.tolist() == [1, 3]
    np.testing.assert_array_equal(kept, factors[:, [1, 3]])
    assert varying(factors[:0])[0].shape == (0, 0)
    assert varying(factors[:, :0])[0].shape == (3, 0)


def test_draws_are_with_replacement() -> None:
    rows = draw(10, 10_000, generator())
    np.testing.assert_allclose(np.bincount(rows, minlength=10), 1000, atol=150)
    np.testing.assert_array_equal(rows, draw(10, 10_000, generator()))


def test_draws_say_what_was_left_out_and_what_overlaps() -> None:
    factors = np.stack([np.arange(50) % 5, np.full(50, 7), np.arange(50) // 25], 1)
    evaluation = given_evaluation(np.arange(50.0)[:, None], 0, factors, ("shape", "colour", "side"))
    drawn = draw_parts(evaluation, generator(), 30, 1000)
    assert drawn is not None
    assert drawn.names == ("shape", "side")
    assert drawn.protocol["factors_left_out_for_their_one_value"] == ["colour"]
    for part in (drawn.train, drawn.test):  # the code is the row
        np.testing.assert_array_equal(part.factors, factors[part.codes[:, 0].astype(int)][:, [0, 2]])
    rows, test_rows = (set(part.codes[:, 0]) for part in (drawn.train, drawn.test))
    assert test_rows == set(range(50))
    assert drawn.protocol["share_of_test_draws_drawn_in_training"] == pytest.approx(len(rows) / 50, abs=0.05)


def test_nothing_is_drawn_where_no_known_factor_varies() -> None:
    for factors in (np.full((5, 2), 3), np.empty((5, 0), np.int64)):
        assert draw_parts(given_evaluation(np.zeros((5, 2)), 0, factors), generator(), 10) is None


# -- the gap, binned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_mig_of_the_vectors(name: str) -> None:
    case = Case(f"disent/{name}/mig")
    codes, factors = case.codes_table[case.train_idx.long()].numpy(), case.factors_table[case.train_idx.long()].numpy()
    information, entropies = (
        mutual_information(histogram_bins(codes, case.params["num_bins"]), factors),
        entropy(factors),
    )
    case.expect("mi_matrix", information)
    case.expect("factor_entropy", entropies)
    kept = varying(factors)[1]
    wanted = "mig_over_varying_factors" if name == "factor_constant" else "mig"
    case.expect(wanted, np.float64(mig.gaps(information[:, kept], entropies[kept]).mean()))


def test_gaps_by_hand() -> None:
    information = np.array([[0.5, 0.0], [0.2, -0.1], [0.4, -0.3]])
    np.testing.assert_allclose(mig.gaps(information, np.array([0.5, 2.0])), [0.2, 0])
    np.testing.assert_allclose(mig.gaps(information[:1], np.array([0.5, 2.0])), [1, 0])


def binned(codes: NDArray[Any], factors: NDArray[np.int64]) -> float:
    found = mig.measure(given_evaluation(codes, 0, factors), draws=300)
    assert found is not None
    return float(found["mig"])


def test_a_perfect_code_has_gap_1_and_a_doubled_one_0() -> None:
    grid = np.tile(GRID, (50, 1))
    found = mig.measure(given_evaluation(grid, 0, grid), draws=100_000)
    assert found is not None
    assert found["mig"] == pytest.approx(1, abs=1e-3)  # information that is not there adds up in a sample
    assert binned(np.concatenate([GRID, GRID], 1), GRID) == 0
    assert binned(np.full((24, 3), 0.3), GRID) == 0


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-10, 10), st.permutations(range(4)))
def test_mig_does_not_depend_on_order_scale_and_place(seed: int, scale: float, shift: float, order: list[int]) -> None:
    codes, factors = random_part(seed)
    expected = binned(codes, factors)
    assert 0 <= expected <= 1
    assert binned(codes[:, order] * [scale, -1, 1, 1] + shift, factors[:, [2, 0, 1]]) == pytest.approx(expected)
    wider = np.concatenate([codes, np.full((len(codes), 1), shift)], 1)
    assert binned(wider, np.pad(factors, [(0, 0), (1, 0)])) == pytest.approx(expected)


# -- the gap, by Chen et al. ------------------------------------------------------------------------------------------


def test_chen_of_the_vectors_samples() -> None:
    case = Case("mig_chen/given_samples")
    z, means, log_vars, factors = (getattr(case, name).numpy() for name in ("z", "mu", "logvar", "factors_table"))
    marginal = -aggregate_densities(z, means, log_vars)[1].mean(0)
    information = mig.pointwise_information(z, means, log_vars, factors).mean(0)
    case.expect("marginal_entropy", marginal)
    case.expect("conditional_entropy", (marginal[:, None] - information).T)
    case.expect("mi", information.T)
    case.expect("mig", mig.gaps(information, entropy(factors)).mean())
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
    case.expect("mig", mig.gaps(information, entropy(factors)).mean(), of_quadrature, at_most=1e-6)


@pytest.mark.parametrize(("codes", "gap"), [(GRID, 1), (np.zeros_like(GRID), 0), (np.tile(GRID, 2), 0)])
def test_chen_of_codes_that_tell_all_and_nothing(codes: NDArray[Any], gap: float) -> None:
    found = mig.measure(given_evaluation(codes, -12, GRID), protocol="chen")
    assert found is not None
    assert found["mig_chen"] == pytest.approx(gap, abs=1e-9)


def test_chen_counts_values_as_often_as_they_occur() -> None:
    factors = np.repeat([0, 1], [30, 10])[:, None]
    found = mig.measure(given_evaluation(factors, -12, factors), protocol="chen")
    assert found is not None
    occurrence = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found["mutual_information_per_factor"]["0"] == [pytest.approx(occurrence)]
    assert found["mig_chen"] == pytest.approx(1)


# -- measure ----------------------------------------------------------------------------------------------------------


def test_what_is_measured_of_a_perfect_code() -> None:
    factors, names = np.pad(GRID, [(0, 0), (0, 1)]), ("shape", "size", "side", "colour")
    found = mig.measure(given_evaluation(GRID * 2.0, 0, factors, names))
    assert found is not None
    assert found["mig"] == pytest.approx(1, abs=0.01)  # information that is not there adds up in a sample
    assert list(found["mig_per_factor"]) == found["protocol"]["factors"] == ["shape", "size", "side"]
    assert found["entropy_per_factor"]["size"] == pytest.approx(math.log(4), abs=0.01)
    assert np.argmax(found["mutual_information_per_factor"]["size"]) == 1
    assert found["protocol"]["factors_left_out_for_their_one_value"] == ["colour"]
    sampled = mig.measure(given_evaluation(GRID * 2.0, -10, factors, names), protocol="chen")
    assert sampled is not None
    assert sampled["mig_chen"] == pytest.approx(1)
    assert sampled["mig_chen_standard_error"] == pytest.approx(0, abs=1e-9)
    assert sampled["protocol"]["factors"] == ["shape", "size", "side"]
    assert "mig" not in sampled


def test_the_standard_error_is_that_over_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = np.repeat(GRID, 8, 0)
    evaluation = given_evaluation(factors @ np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]), -0.5, factors)
    several = []
    for seed in range(60):
        monkeypatch.setattr(evaluation, "generator", lambda _, seed=seed: generator(seed))
        several.append(mig.measure(evaluation, protocol="chen"))
    spread = np.std([one["mig_chen"] for one in several], ddof=1)
    told = np.mean([one["mig_chen_standard_error"] for one in several])
    assert spread < told < 2 * spread  # which means lie where is no chance here


def test_chen_takes_some_of_many_codes_and_says_so() -> None:
    factors = np.repeat(GRID, 4, 0)
    found = mig.measure(given_evaluation(factors, 0, factors), protocol="chen", most=50)
    assert found is not None
    assert (found["protocol"]["sampled_images"], found["protocol"]["images"]) == (50, 96)


@pytest.mark.parametrize("protocol", ["binned", "chen"])
def test_where_no_factor_varies_nothing_is_measured(protocol: Any) -> None:
    assert mig.measure(given_evaluation(np.zeros((5, 2)), 0, np.full((5, 2), 3)), protocol=protocol) is None


def test_unknown_protocol() -> None:
    with pytest.raises(ValueError, match="Valid: binned, chen"):
        mig.measure.__wrapped__(given_evaluation(GRID, 0, GRID), protocol="bined")  # past the checker of the tests
