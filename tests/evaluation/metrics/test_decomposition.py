"""KL = mutual information + total correlation + dim.-wise KL: reference vectors, torch's mixtures, closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from vectors import CASES, Case

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import decomposition
from vaelab.evaluation.metrics.decomposition import aggregate_densities, kl_decomposition
from vaelab.models.codes import Codes
from vaelab.models.priors.mixture import Mixture

PARTS = ("mutual_information", "total_correlation", "dimension_wise_kl")
MIXTURES = [case.removeprefix("aggregate/") for case in CASES if case.startswith("aggregate/") and "plugin" not in case]
every_mixture = pytest.mark.parametrize("name", MIXTURES)
seeds = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_posteriors(seed: int, count: int, latents: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlated means of several sizes, variances from tiny to above that of the prior."""
    random = np.random.default_rng(seed)
    means = random.standard_normal((count, latents)) @ random.standard_normal((latents, latents))
    return means, random.uniform(-6, 1, (count, latents))


def decompose(means: Any, log_vars: Any, **options: Any) -> dict[str, Any]:
    return kl_decomposition(np.asarray(means, float), np.asarray(log_vars, float), generator(), **options)


# -- reference vectors ------------------------------------------------------------------------------------------------


@every_mixture
def test_decomposition_of_the_vectors(name: str) -> None:
    case = Case(f"aggregate/{name}")
    random = torch.Generator().manual_seed(1)
    found = kl_decomposition(case.mu.numpy(), case.logvar.numpy(), random, samples=100_000 // len(case.mu))
    case.expect("kl_mean", np.float64(found["kl"]))
    case.expect("log_N", np.float64(found["mutual_information_limit"]))
    for part, theirs in zip(PARTS, ("mi", "tc", "dwkl"), strict=True):
        error = 4 * found[f"{part}_standard_error"]
        assert error < 0.05 + 1e-3 * abs(found[part])
        case.expect(theirs, np.float64(found[part]), error, at_most=2e-4)
    error = 4 * (found["total_correlation_standard_error"] + found["dimension_wise_kl_standard_error"])
    case.expect("marginal_kl", np.float64(found["aggregate_kl"]), error, at_most=2e-4)


@every_mixture
def test_densities_of_single_latents_by_quadrature(name: str) -> None:
    case = Case(f"aggregate/{name}")
    mean, log_var = case.mu.numpy(), case.logvar.numpy()
    margin = 12 * np.exp(log_var / 2).max()
    points = 40_000 // len(mean) * len(mean)
    z = np.linspace((mean - margin).min(0), (mean + margin).max(0), points)
    log_q = aggregate_densities(z.reshape(-1, *mean.shape), mean, log_var)[1].reshape(points, -1)
    integrand = np.exp(log_q) * (log_q + 0.5 * (z**2 + math.log(2 * math.pi)))
    case.expect("dwkl_per_dim", integrand.sum(0) * (z[1] - z[0]))


@pytest.mark.parametrize("name", ["plugin_near", "plugin_far"])
def test_densities_of_the_vectors_samples(name: str) -> None:
    case = Case(f"aggregate/{name}")
    z = case.z.numpy()
    log_qz, log_qz_per_latent, log_qz_given_x = aggregate_densities(z, case.mu.numpy(), case.logvar.numpy())
    case.expect("log_qz", log_qz)
    case.expect("log_qzj", log_qz_per_latent)
    case.expect("log_qz_given_x", log_qz_given_x)
    case.expect("mi", (log_qz_given_x - log_qz).mean())
    case.expect("tc", (log_qz - log_qz_per_latent.sum(1)).mean())
    case.expect("dwkl", (log_qz_per_latent + 0.5 * (z**2 + math.log(2 * math.pi))).sum(1).mean())


# -- densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spread", "samples"), [(1.0, ()), (30.0, (3,)), (1e4, (2, 2))])
def test_densities_are_those_of_torch_mixtures(spread: float, samples: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    means, log_vars = spread * random.standard_normal((9, 4)), random.uniform(-30, 20, (9, 4))
    z = means + np.exp(log_vars / 2) * random.standard_normal((*samples, 9, 4))
    joint, single, given_x = aggregate_densities(z, means, log_vars)
    mean, std, points = torch.from_numpy(means), torch.from_numpy(log_vars / 2).exp(), torch.from_numpy(z)
    weights = torch.zeros(9, dtype=torch.float64)
    expected = MixtureSameFamily(Categorical(logits=weights), Independent(Normal(mean, std), 1)).log_prob(points)
    np.testing.assert_allclose(joint, expected, rtol=1e-12, atol=1e-12)
    each = MixtureSameFamily(Categorical(logits=weights.expand(4, 9)), Normal(mean.T, std.T)).log_prob(points)
    np.testing.assert_allclose(single, each, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(given_x, Normal(mean, std).log_prob(points).sum(-1), rtol=1e-12, atol=1e-12)


def test_tiny_variances_far_from_zero_keep_their_digits() -> None:
    means = np.array([[1000.0], [1000.0 + 2.0**-20]])  # both exact, a thousand standard deviations apart
    log_vars = np.full((2, 1), 2 * math.log(1e-9))
    z = means + np.array([[2.0**-30], [-(2.0**-30)]])
    joint, single, given_x = aggregate_densities(z, means, log_vars)
    exact = -0.5 * (2.0**-30 / 1e-9) ** 2 - math.log(1e-9) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(given_x, exact, rtol=1e-13)
    np.testing.assert_allclose(joint, exact - math.log(2), rtol=1e-13)
    np.testing.assert_array_equal(single[:, 0], joint)


@given(seeds, st.integers(1, 12), st.integers(1, 5))
def test_order_of_images_and_latents_does_not_matter(seed: int, count: int, latents: int) -> None:
    means, log_vars = random_posteriors(seed, count, latents)
    random = np.random.default_rng(seed)
    z = means + np.exp(log_vars / 2) * random.standard_normal((2, count, latents))
    joint, single, given_x = aggregate_densities(z, means, log_vars)
    images, order = random.permutation(count), random.permutation(latents)
    found = aggregate_densities(z[:, images][..., order], means[images][:, order], log_vars[images][:, order])
    for ours, expected in zip(
        found, (joint[:, images], single[:, images][..., order], given_x[:, images]), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_blocks_and_threads_change_no_bit() -> None:
    means, log_vars = random_posteriors(0, 600, 3)  # 600 × 600 pairs of sample and component: two blocks
    z = means + np.exp(log_vars / 2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = aggregate_densities(z, means, log_vars)
    finally:
        torch.set_num_threads(threads)
    for ours, theirs in zip(aggregate_densities(z, means, log_vars), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    mixture = MixtureSameFamily(
        Categorical(logits=torch.zeros(600, dtype=torch.float64)),
        Independent(Normal(torch.from_numpy(means), torch.from_numpy(log_vars / 2).exp()), 1),
    )
    np.testing.assert_allclose(found[0], mixture.log_prob(torch.from_numpy(z)), rtol=1e-11)


# -- closed forms -----------------------------------------------------------------------------------------------------


def test_posteriors_equal_to_the_prior_have_no_parts() -> None:
    found = decompose(np.zeros((6, 3)), np.zeros((6, 3)))
    for name in (*PARTS, "kl", "aggregate_kl", *(f"{part}_standard_error" for part in PARTS)):
        assert found[name] == pytest.approx(0, abs=1e-12)
    assert found["mutual_information_limit"] == math.log(6)


def test_one_posterior_is_all_dimension_wise() -> None:
    found = decompose([[0.5, -1.0]], [[-1.0, 0.3]])
    assert found["mutual_information_limit"] == 0
    assert found["mutual_information"] == pytest.approx(0, abs=1e-12)
    assert found["total_correlation"] == pytest.approx(0, abs=1e-12)
    assert found["dimension_wise_kl"] == pytest.approx(found["kl"], abs=4 * found["dimension_wise_kl_standard_error"])


def test_a_grid_of_codes_has_no_total_correlation() -> None:
    axes = np.array([-1.0, 0.2, 0.9]), np.array([0.0, 2.0])
    means = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    found = decompose(means, np.full(means.shape, -1.5))
    assert found["total_correlation"] == pytest.approx(0, abs=1e-12)
    assert found["mutual_information"] > 0.1


@pytest.mark.parametrize("copies", [1, 3])
def test_distant_codes_reach_the_limit_of_distinct_posteriors(copies: int) -> None:
    means = np.repeat(np.random.default_rng(0).permutation(8)[:, None] * [10.0, 10.0], copies, 0)
    found = decompose(means, np.full(means.shape, -4.0))
    assert found["mutual_information"] == pytest.approx(math.log(8), abs=1e-9)
    assert found["total_correlation"] == pytest.approx(math.log(8), abs=1e-9)  # either latent determines the other
    assert found["mutual_information_limit"] == pytest.approx(math.log(8 * copies))


def test_a_correlated_normal_aggregate() -> None:
    correlation, noise = 0.9, 0.4  # the aggregate variance of 1 includes the posteriors' noise
    covariance = (1 - noise) * np.array([[1, correlation], [correlation, 1]])
    means = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 4000)
    found = decompose(means, np.full(means.shape, math.log(noise)))
    sample = np.cov(means.T, ddof=0) + noise * np.eye(2)
    rho = sample[0, 1] / math.sqrt(sample[0, 0] * sample[1, 1])
    assert found["total_correlation"] == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.02)
    information = 0.5 * math.log(np.linalg.det(sample)) - math.log(noise)
    assert found["mutual_information"] == pytest.approx(information, abs=0.02)
    assert found["dimension_wise_kl"] == pytest.approx(0, abs=0.02)


# -- properties -------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 20), st.integers(1, 6))
def test_parts_add_up_to_the_kl_within_their_errors(seed: int, count: int, latents: int) -> None:
    means, log_vars = random_posteriors(seed, count, latents)
    found = decompose(means, log_vars, samples=max(2, 4000 // count))
    error = sum(found[f"{part}_standard_error"] for part in PARTS)
    assert sum(found[part] for part in PARTS) == pytest.approx(found["kl"], abs=5 * error + 1e-9)
    assert found["aggregate_kl"] == pytest.approx(found["total_correlation"] + found["dimension_wise_kl"], abs=1e-9)
    assert sum(found["dimension_wise_kl_per_latent"]) == pytest.approx(found["dimension_wise_kl"], abs=1e-9)
    assert found["mutual_information"] <= found["mutual_information_limit"] + 1e-9
    for part in PARTS:
        assert found[part] >= -5 * found[f"{part}_standard_error"] - 1e-9


@given(seeds, st.floats(0.1, 3), st.floats(-5, 5))
def test_information_does_not_depend_on_the_scale_of_a_latent(seed: int, scale: float, shift: float) -> None:
    means, log_vars = random_posteriors(seed, 10, 3)
    found = decompose(means, log_vars, samples=10)
    moved, scaled = means.copy(), log_vars.copy()
    moved[:, 1], scaled[:, 1] = scale * means[:, 1] + shift, log_vars[:, 1] + 2 * math.log(scale)
    again = decompose(moved, scaled, samples=10)
    for part in PARTS[:2]:
        assert again[part] == pytest.approx(found[part], abs=1e-8)


def test_standard_errors_are_the_spread_over_seeds() -> None:
    means, log_vars = random_posteriors(3, 8, 2)
    found = [kl_decomposition(means, log_vars, generator(seed), samples=20) for seed in range(200)]
    for part in PARTS:
        spread = np.std([one[part] for one in found], ddof=1)
        assert np.mean([one[f"{part}_standard_error"] for one in found]) == pytest.approx(spread, rel=0.2)


def test_another_prior_is_compared_by_samples() -> None:
    """With N(0, I) as a mixture of one component, the sampled values agree with the closed form."""
    means, log_vars = random_posteriors(0, 20, 2)
    prior = Mixture(torch.zeros(1), torch.zeros(1, 2), torch.zeros(1, 2))
    sampled, closed = (decompose(means, log_vars, prior=given, samples=500) for given in (prior, None))
    assert sampled["aggregate_kl"] == pytest.approx(closed["aggregate_kl"], rel=1e-6)
    assert sampled["kl"] == pytest.approx(closed["kl"], rel=0.02)
    assert "dimension_wise_kl" not in sampled


# -- measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "per_code"), [(1, 10_000), (3, 3334), (6000, 2)])
def test_at_least_two_samples_per_code_and_10_000_in_total(count: int, per_code: int) -> None:
    protocol = decompose(np.zeros((count, 1)), np.zeros((count, 1)))["protocol"]
    assert (protocol["samples_per_code"], protocol["samples"]) == (per_code, per_code * count)


def test_many_training_images_are_subsampled() -> None:
    given = given_evaluation(*random_posteriors(0, 50, 3))
    images = Images(np.arange(50, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 8, 8, 1), np.uint8))

    def encode(some: Images) -> Codes:
        return given.codes.take(some.pixels[:, 0, 0, 0].astype(np.int64))

    evaluation = Evaluation(given.model, images, images, encode=encode)
    found = decomposition.measure(evaluation, max_images=20, samples=3)
    protocol = found["protocol"]
    assert (protocol["images"], protocol["codes"], protocol["samples_per_code"], protocol["samples"]) == (50, 20, 3, 60)
    assert found["mutual_information"] <= found["mutual_information_limit"] == protocol["log_codes"] == math.log(20)
    assert "20" in decomposition.remark(found)
    whole = decomposition.measure(evaluation, max_images=50, samples=1)
    assert whole["kl"] == pytest.approx(given.codes.kl.sum())
    assert not any("standard_error" in name for name in whole), "one sample per code has none"
