"""The objectives rae, wae, msssim and perceptual: closed forms and limits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from small import compute_terms
from torch import Tensor

from vaelab.models.vae import VAE
from vaelab.training.objectives import Objective
from vaelab.training.objectives.msssim import C1, C2, make_window, ms_ssim_map
from vaelab.training.objectives.perceptual import FLOOR, ORIENTATIONS, WAVELENGTH, gabor_energies, make_filters

MakeModel = Callable[..., tuple[VAE, Objective]]
SHAPE = (1, 9, 8)


def images(count: int = 6) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def terms_of(make_model: MakeModel, name: str, **options: Any) -> dict[str, Tensor]:
    made, objective = make_model(SHAPE, {"objective.name": name, **options})
    return {key: term.detach() for key, term in compute_terms(objective, made, images()).items()}


# -- rae and wae ------------------------------------------------------------------------------------------------------


def test_rae_adds_squares_of_codes_and_of_decoder_weights(make_model: MakeModel) -> None:
    overrides = {"objective.name": "rae", "objective.beta": 0.5, "objective.weight_penalty": 0.01}
    vae, objective = make_model(SHAPE, {**overrides, "posterior.name": "constant_variance", "posterior.std": 2e-6})
    found = {key: term.detach() for key, term in compute_terms(objective, vae, images()).items()}
    mean = vae.encode(images()).mean.double()
    assert float(found["code_penalty"]) == pytest.approx(0.25 * float(mean.square().sum(1).mean()), rel=1e-4)
    squares = sum(float(p.detach().double().square().sum()) for p in vae.decoder.parameters())
    assert float(found["weight_penalty"]) == pytest.approx(0.01 * squares, rel=1e-5)
    total = found["reconstruction"] + found["code_penalty"] + found["weight_penalty"]
    torch.testing.assert_close(found["loss"], total)
    rebuilt = torch.from_numpy(vae.reconstruct(images().numpy()))
    expected = (rebuilt - images()).square().sum((1, 2, 3)).mean()
    assert float(found["reconstruction"]) == pytest.approx(float(expected), rel=1e-4)


def test_wae_is_info_without_its_kl(make_model: MakeModel) -> None:
    found = terms_of(make_model, "wae", **{"objective.scaling": 7.0})
    expected = terms_of(make_model, "info", **{"objective.scaling": 7.0, "objective.alpha": 1.0})
    for key in found:
        torch.testing.assert_close(found[key], expected[key])


def test_a_constant_variance_leaves_the_means_to_the_encoder(make_model: MakeModel) -> None:
    vae, _ = make_model(SHAPE, {"posterior.name": "constant_variance", "posterior.std": 0.1})
    q = vae.encode(images())
    torch.testing.assert_close(q.log_var, torch.full_like(q.mean, 2 * float(np.log(0.1))))
    kl = q.kl_to_standard_normal()
    torch.testing.assert_close(kl, 0.5 * (q.mean**2 + 0.01 - 1) - float(np.log(0.1)))


# -- msssim -----------------------------------------------------------------------------------------------------------


def test_equal_images_have_similarity_one() -> None:
    torch.testing.assert_close(ms_ssim_map(images(), images()), torch.ones(6, *SHAPE))


def test_constant_images_differ_by_their_luminance_alone() -> None:
    a, b = (torch.full((1, 1, 20, 30), grey, dtype=torch.float64) for grey in (0.2, 0.7))
    expected = (2 * 0.2 * 0.7 + C1) / (0.2**2 + 0.7**2 + C1)
    torch.testing.assert_close(ms_ssim_map(a, b), torch.full_like(a, expected), rtol=1e-9, atol=0)


def test_one_scale_matches_a_sum_over_the_window() -> None:
    x, y = torch.rand(2, 1, 1, 13, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row, column, sigma = 2, 7, 1.5
    distance = (torch.arange(13.0)[:, None] - row) ** 2 + (torch.arange(11.0) - column) ** 2
    weights = np.exp(-distance.double().numpy() / (2 * sigma**2))
    weights /= weights.sum()
    a, b = x[0, 0].numpy(), y[0, 0].numpy()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1) * (2 * covariance + C2) / (var_a + var_b + C2)
    assert float(ms_ssim_map(x, y, [sigma])[0, 0, row, column]) == pytest.approx(expected, rel=1e-9)


def test_windows_add_up_to_one_at_the_border() -> None:
    torch.testing.assert_close(make_window(9, 8.0, torch.ones(1).double()).sum(1), torch.ones(9).double())


def test_similarity_falls_with_blur_and_noise() -> None:
    x = torch.from_numpy(gaussian_filter(np.random.default_rng(0).random((4, 1, 40, 40)), (0, 0, 1, 1)) * 3 - 1)
    blurred = [float(ms_ssim_map(x, torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, s, s)))).mean()) for s in (1, 2)]
    assert 0.98 > blurred[0] > blurred[1] + 0.05


def test_the_loss_is_the_sum_over_the_values_of_an_image(make_model: MakeModel) -> None:
    overrides = {"posterior.name": "constant_variance", "posterior.std": 2e-6}
    vae, objective = make_model(SHAPE, {"objective.name": "msssim", "objective.beta": 2.0, **overrides})
    found, x = {key: term.detach() for key, term in compute_terms(objective, vae, images()).items()}, images()
    y = torch.from_numpy(vae.reconstruct(x.numpy()))
    window = [make_window(side, 8.0, x) for side in SHAPE[1:]]
    each = 0.84 * (1 - ms_ssim_map(x, y)) + 0.16 * (window[0] @ (x - y).abs() @ window[1].T)
    assert float(found["dissimilarity"]) == pytest.approx(float(each.sum((1, 2, 3)).mean()), rel=1e-4)
    torch.testing.assert_close(found["loss"], found["dissimilarity"] + 2 * found["kl"])


# -- perceptual -------------------------------------------------------------------------------------------------------


def grating(angle: float, phase: float, side: int = 30) -> Tensor:
    place = torch.arange(side, dtype=torch.float32)
    along = np.cos(angle) * place + np.sin(angle) * place[:, None]
    return 0.5 + 0.4 * torch.cos(2 * torch.pi * along / WAVELENGTH - phase)[None, None]


def finest_energies(x: Tensor) -> Tensor:
    """Mean energy of each orientation at full size."""
    return gabor_energies(x, make_filters())[0].mean((0, 1, 3, 4))


def test_gabor_energies_find_the_orientation_and_ignore_the_phase() -> None:
    for i in range(ORIENTATIONS):
        angle = i * np.pi / ORIENTATIONS
        energies = [finest_energies(grating(angle, phase)) for phase in (0.0, 1.0, np.pi / 2)]
        assert int(energies[0].argmax()) == i
        assert float(energies[0][i] / energies[0].sort().values[-2]) > 3
        for other in energies[1:]:
            torch.testing.assert_close(other[i], energies[0][i], rtol=0.02, atol=0)


def test_gabor_energies_do_not_see_brightness_or_sign() -> None:
    x = torch.rand(2, 3, 20, 17, generator=torch.Generator().manual_seed(0))
    for same in (1 - x, x + 0.3):
        for a, b in zip(gabor_energies(x, make_filters()), gabor_energies(same, make_filters()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    flat = gabor_energies(torch.full((1, 1, 20, 20), 0.7), make_filters())
    assert [tuple(e.shape) for e in flat] == [(1, 1, ORIENTATIONS, 14, 14), (1, 1, ORIENTATIONS, 4, 4)]
    assert all(torch.allclose(e, torch.full_like(e, FLOOR), rtol=1e-3) for e in flat)


def test_blur_costs_energy_at_the_finest_scale_first() -> None:
    x = np.random.default_rng(0).random((2, 1, 32, 32)).astype(np.float32)
    sharp, *blurred = (
        gabor_energies(torch.from_numpy(gaussian_filter(x, (0, 0, s, s))), make_filters()) for s in (0, 0.5, 1.0)
    )
    kept = [[float(b.mean() / a.mean()) for a, b in zip(sharp, each, strict=True)] for each in blurred]
    assert kept[1][0] < kept[0][0] < 0.9
    assert all(each[0] < each[1] for each in kept)


def test_the_gradient_of_energies_agrees_with_finite_differences() -> None:
    x = torch.rand(2, 2, 16, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    filters = make_filters().double()
    assert torch.autograd.gradcheck(lambda images: tuple(gabor_energies(images, filters)), (x,))


def test_the_perceptual_loss_is_the_weighted_distance_of_energies(make_model: MakeModel) -> None:
    options = {"objective.weight": 3.0, "objective.beta": 2.0, "posterior.name": "constant_variance"}
    vae, objective = make_model(SHAPE, {"objective.name": "perceptual", "posterior.std": 2e-6, **options})
    found, x = {key: term.detach() for key, term in compute_terms(objective, vae, images()).items()}, images()
    y = torch.from_numpy(vae.reconstruct(x.numpy()))
    (ours,), (real,) = (gabor_energies(each, make_filters()) for each in (y, x))
    expected = 3 * 72 * float((ours - real).square().mean())
    assert float(found["perceptual"]) == pytest.approx(expected, rel=1e-3)
    torch.testing.assert_close(found["loss"], found["reconstruction"] + found["perceptual"] + 2 * found["kl"])
