"""Latent space as arrays, against SciPy and scikit-learn."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.decomposition import PCA

from vaelab.data.images import Images
from vaelab.models import codes as latent
from vaelab.models.chunks import EVAL_BATCH_SIZE, chunk_spans
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError
from vaelab.training.objectives import Objective

MakeModel = Callable[..., tuple[VAE, Objective]]
METHODS = ("means", "probe")


@given(st.integers(2, 60), st.floats(0.01, 0.9999))
def test_prior_quantiles_match_scipy(count: int, coverage: float) -> None:
    values = latent.prior_quantiles(count, coverage)
    probabilities = np.linspace(0.5 - coverage / 2, 0.5 + coverage / 2, count)
    np.testing.assert_allclose(values, norm.ppf(probabilities), rtol=1e-5, atol=1e-6)
    assert values.dtype == np.float32
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(values, -values[::-1], rtol=1e-5, atol=1e-6)


def test_prior_quantiles_cover_98_percent_by_default() -> None:
    np.testing.assert_allclose(latent.prior_quantiles(3), [norm.ppf(0.01), 0, norm.ppf(0.99)], atol=1e-6)


def test_prior_grid_starts_at_the_top_left() -> None:
    axis = latent.prior_quantiles(3)
    low, middle, high = axis
    assert latent.prior_grid(3).tolist() == [
        [low, high], [middle, high], [high, high],
        [low, middle], [middle, middle], [high, middle],
        [low, low], [middle, low], [high, low],
    ]  # fmt: skip


def random_codes(count: int, dimension: int) -> np.ndarray:
    """Correlated codes away from the origin with a different variance along each axis."""
    generator = np.random.default_rng(count)
    mixing = np.linalg.qr(generator.standard_normal((dimension, dimension)))[0]
    codes = generator.standard_normal((count, dimension)) * np.arange(1, dimension + 1)
    return (codes @ mixing + 5 * np.arange(dimension)).astype(np.float32)


@pytest.mark.parametrize(("count", "dimension", "axes"), [(50, 2, 2), (200, 5, 2), (200, 5, 5), (20, 7, 3)])
def test_principal_axes_match_scikit_learn(count: int, dimension: int, axes: int) -> None:
    codes = random_codes(count, dimension)
    projected, share = latent.principal_axes(codes, axes)
    reference = PCA(axes, svd_solver="full").fit(codes.astype(np.float64))
    expected = reference.transform(codes.astype(np.float64))
    signs = np.sign((projected * expected).sum(0))
    np.testing.assert_allclose(projected * signs, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(share, reference.explained_variance_ratio_, rtol=1e-9)
    if axes == dimension:
        assert share.sum() == pytest.approx(1)


def test_principal_axes_of_constant_codes() -> None:
    projected, share = latent.principal_axes(np.full((4, 3), 2.0, np.float32))
    assert projected.tolist() == [[0, 0]] * 4
    assert share.tolist() == [0, 0]


def test_principal_axes_of_one_latent() -> None:
    codes = np.arange(4.0, dtype=np.float32)[:, None]
    projected, share = latent.principal_axes(codes)
    np.testing.assert_allclose(np.abs(projected), np.abs(codes - 1.5))
    assert share.tolist() == [1]


def test_a_latent_is_active_above_a_hundredth_of_a_nat() -> None:
    """With unit variance and mean ±m the KL to N(0, 1) is m²/2."""
    kl = np.array([0.0, 0.0099, 0.0101, 0.05])
    means = (np.array([[1.0], [-1.0]]) * np.sqrt(2 * kl)).astype(np.float32)
    codes = latent.Codes(means, np.zeros_like(means))
    np.testing.assert_allclose(codes.latent_kl, kl, rtol=1e-5, atol=1e-9)
    assert codes.is_active.tolist() == [False, False, True, True]


@pytest.mark.parametrize("count", [1, EVAL_BATCH_SIZE, EVAL_BATCH_SIZE + 1])
def test_codes_of_many_images_match_encode(make_model: MakeModel, count: int) -> None:
    vae, _ = make_model((3, 9, 8))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 9, 8, 3), dtype=np.uint8)
    codes = latent.encode_images(vae, Images(pixels))
    expected = vae.encode(pixels)
    np.testing.assert_allclose(codes.mean, expected.mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes.log_var, expected.log_var.numpy(), rtol=1e-5, atol=1e-6)
    assert codes.mean.dtype == codes.log_var.dtype == np.float32


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_codes_do_not_depend_on_the_chunks(make_model: MakeModel, network: str) -> None:
    own = {"network.hidden": [64]} if network == "mlp" else {"network.hidden": [], "network.channels": "auto"}
    vae, _ = make_model((3, 32, 24), {"network.name": network, **own})
    pixels = np.random.default_rng(0).integers(0, 256, (700, 32, 24, 3), dtype=np.uint8)
    codes = latent.encode_images(vae, Images(pixels))
    for i in (*range(5), 510, 511, 512, 513, 699):
        alone = vae.encode(pixels[i])
        np.testing.assert_allclose(codes.mean[i : i + 1], alone.mean.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(codes.log_var[i : i + 1], alone.log_var.numpy(), rtol=1e-5, atol=1e-5)


def test_bfloat16_networks_give_codes_in_float32(make_model: MakeModel) -> None:
    vae, _ = make_model((1, 9, 8))
    images = Images(np.random.default_rng(0).integers(0, 256, (20, 9, 8, 1), dtype=np.uint8))
    exact, (rounded,) = latent.encode_images(vae, images), latent.encode_spans(vae, images, [(0, 20)], "bf16")
    assert rounded.dtype == np.float32
    error = np.abs(rounded - np.stack([exact.mean, exact.log_var])).max()
    assert 1e-5 < error < 0.05


@pytest.mark.parametrize(
    ("count", "shape", "spans"),
    [
        (0, (1, 28, 28), []),
        (512, (3, 64, 64), [(0, 512)]),
        (1025, (1, 28, 28), [(0, 512), (512, 1024), (1024, 1025)]),
        (50, (3, 512, 512), [(0, 21), (21, 42), (42, 50)]),  # 64 MB
        (2, (3, 9000, 9000), [(0, 1), (1, 2)]),
    ],
)
def test_chunk_spans(count: int, shape: tuple[int, int, int], spans: list[tuple[int, int]]) -> None:
    assert chunk_spans(count, shape) == spans


def test_a_traversal_changes_one_latent() -> None:
    code, values = np.array([5.0, 6.0, 7.0], np.float32), np.array([-1.0, 0.0, 2.0], np.float32)
    codes = latent.traverse(code, np.array([2, 0]), values)
    assert codes.shape == (2, 3, 3)
    assert codes[0].tolist() == [[5, 6, -1], [5, 6, 0], [5, 6, 2]]
    assert codes[1].tolist() == [[-1, 6, 7], [0, 6, 7], [2, 6, 7]]


def test_an_interpolation_is_a_straight_line_with_both_ends() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    line = latent.interpolate(a, b, 5)
    np.testing.assert_array_equal(line[:, 0], a)
    np.testing.assert_array_equal(line[:, -1], b)
    np.testing.assert_allclose(line[:, 2], (a + b) / 2, atol=1e-6)
    np.testing.assert_allclose(np.diff(line, axis=1), np.broadcast_to((b - a)[:, None] / 4, (4, 4, 3)), atol=1e-6)


def test_mean_kl_of_codes_matches_torch() -> None:
    random = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(50, 3, generator=random), torch.randn(50, 3, generator=random)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_var / 2).exp()), normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(latent.Codes(mean.numpy(), log_var.numpy()).kl, expected, rtol=1e-5)


# -- attributes -------------------------------------------------------------------------------------------------------


def two_normals(
    count: int, difference: list[float], covariance: list[list[float]], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Codes away from the origin; a third has an attribute, which shifts them by ``difference``."""
    random = np.random.default_rng(seed)
    has = random.random(count) < 1 / 3
    noise = random.multivariate_normal(np.zeros(len(difference)), covariance, count)
    return 5 + noise + has[:, None] * np.array(difference), has


def test_the_direction_is_the_difference_of_the_means() -> None:
    codes, has = two_normals(300, [1.0, -2.0, 0.0], np.eye(3).tolist())
    step = latent.find_direction(codes.astype(np.float32), has)
    np.testing.assert_allclose(step, codes[has].mean(0) - codes[~has].mean(0), atol=1e-5)
    np.testing.assert_allclose(codes[~has].mean(0) + step, codes[has].mean(0), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_direction_between_spherical_normals(method: str) -> None:
    codes, has = two_normals(40_000, [1.0, -0.5, 0.0], np.eye(3).tolist())
    np.testing.assert_allclose(latent.find_direction(codes, has, method), [1, -0.5, 0], atol=0.04)


def test_the_probe_ignores_latents_that_are_only_correlated() -> None:
    """Between normals of one covariance the log odds are linear, with gradient Σ⁻¹ Δμ (Fisher's discriminant)."""
    covariance = [[1.0, 0.8], [0.8, 1.0]]
    codes, has = two_normals(40_000, [1.0, 0.8], covariance)  # the second latent differs by correlation alone
    fisher = np.linalg.solve(covariance, [1.0, 0.8])
    np.testing.assert_allclose(fisher, [1, 0], atol=1e-12)
    probe = latent.fit_probe(codes, has)
    np.testing.assert_allclose(probe.normal, fisher, atol=0.03)
    np.testing.assert_allclose(probe.weight / probe.std, fisher, atol=0.06)  # nats per unit of code
    np.testing.assert_allclose(latent.find_direction(codes, has, "probe"), [1, 0], atol=0.04)
    np.testing.assert_allclose(latent.find_direction(codes, has, "means"), [1, 0.8], atol=0.04)


def test_a_step_along_the_probe_covers_the_distance_of_the_means_along_it() -> None:
    codes, has = two_normals(500, [1.0, 0.3, 0.0], [[1, 0.5, 0.2], [0.5, 4, 0], [0.2, 0, 0.1]])
    step, normal = latent.find_direction(codes, has, "probe"), latent.fit_probe(codes, has).normal
    assert np.linalg.norm(normal) == pytest.approx(1)
    difference = codes[has].mean(0) - codes[~has].mean(0)
    np.testing.assert_allclose(step, normal * (normal @ difference), rtol=1e-9)
    assert (codes[~has].mean(0) + step) @ normal == pytest.approx(codes[has].mean(0) @ normal)


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_probe_minimises_its_objective(C: float) -> None:
    codes, has = two_normals(200, [1.0, -1.0], [[1.0, 0.9], [0.9, 9.0]])
    probe = latent.fit_probe(codes, has, C)
    residual = 1 / (1 + np.exp(-probe.decision(codes))) - has
    standardised = (codes - codes.mean(0)) / codes.std(0)
    np.testing.assert_allclose(probe.weight + C * standardised.T @ residual, 0, atol=1e-4 * C)
    assert residual.sum() == pytest.approx(0, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_log_odds_do_not_depend_on_the_units_of_a_latent(seed: int, scale: float, shift: float) -> None:
    codes, has = two_normals(60, [1.0, 0.5], [[1, 0.3], [0.3, 1]], seed)
    has[0], has[1] = True, False
    moved = codes * [1, scale] + [0, shift]
    ours, theirs = latent.fit_probe(codes, has), latent.fit_probe(moved, has)
    np.testing.assert_allclose(theirs.decision(moved), ours.decision(codes), rtol=1e-3, atol=1e-3)


def test_a_constant_latent_does_not_change_the_direction() -> None:
    codes, has = two_normals(100, [1.0, 0.5], np.eye(2).tolist())
    wider = np.insert(codes, 1, 0.3, axis=1)
    for method in METHODS:
        step = latent.find_direction(wider, has, method)
        assert step[1] == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(step[[0, 2]], latent.find_direction(codes, has, method), rtol=1e-6)
    still = np.full((100, 2), 0.3)
    assert latent.fit_probe(still, has).normal.tolist() == [0, 0]
    np.testing.assert_allclose(latent.find_direction(still, has, "probe"), [0, 0], atol=1e-12)


@pytest.mark.parametrize("value", [True, False])
def test_an_attribute_of_all_or_none_has_no_direction(value: bool) -> None:
    has, functions = np.full(4, value), [latent.fit_probe, *(partial(latent.find_direction, method=m) for m in METHODS)]
    for function in functions:
        with pytest.raises(InputError) as caught:
            function(np.zeros((4, 2)), has)
        assert caught.value.subject == "attribute"
