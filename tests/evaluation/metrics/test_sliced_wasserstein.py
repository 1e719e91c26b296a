"""The multi-scale sliced Wasserstein distance: closed cases, the noise floor, and images that are blurred."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from small import make_images, make_recipe, make_state
from torch import Tensor

from vaelab.data.datasets import load_dataset
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics.sliced_wasserstein import (
    count_levels,
    draw_directions,
    draw_patches,
    laplacian_pyramid,
    measure,
    multi_scale_distances,
    patches_of,
    sliced_wasserstein,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(count: int, seed: int) -> Tensor:
    """Smooth images with fine texture, 32×32."""
    random = np.random.default_rng(seed)
    rough, fine = random.standard_normal((2, count, 1, 32, 32))
    smooth = gaussian_filter(rough, (0, 0, 5, 5))
    return torch.from_numpy(0.5 + smooth + 0.1 * fine).float()


def distances(a: Tensor, b: Tensor) -> list[float]:
    sets = [patches_of(iter([images]), 20, seeded(seed)) for seed, images in enumerate((a, b))]
    return multi_scale_distances(*sets, 64, seeded())


def blurred(images: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "levels"), [(8, 1), (26, 1), (27, 2), (28, 2), (32, 2), (54, 3), (64, 3), (128, 4), (1024, 7), (4096, 7)]
)
def test_the_pyramid_ends_where_a_side_is_two_patches(side: int, levels: int) -> None:
    assert count_levels(side, 4096) == count_levels(4096, side) == levels


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 29, 31)])
def test_the_levels_add_up_to_the_images(shape: tuple[int, int, int]) -> None:
    images = torch.rand(4, *shape, generator=seeded(), dtype=torch.float64)
    details, small = laplacian_pyramid(images, 2)
    assert small.shape[2:] == tuple(-(-side // 2) for side in shape[1:])
    _, empty = laplacian_pyramid(torch.zeros_like(images), 2)
    spread = torch.zeros_like(images)
    spread[..., ::2, ::2] = small
    assert bool((empty == 0).all())
    kernel = torch.tensor([1.0, 4, 6, 4, 1]).double() / 8
    padded = torch.nn.functional.pad(spread, (2, 2, 2, 2), mode="reflect").unfold(2, 5, 1).unfold(3, 5, 1)
    enlarged = (padded * torch.outer(kernel, kernel)).sum((-2, -1))
    torch.testing.assert_close(details + enlarged, images, rtol=0, atol=1e-7)


def test_a_constant_image_has_no_details() -> None:
    *details, small = laplacian_pyramid(torch.full((2, 1, 64, 64), 0.3), 3)
    assert max(float(level.abs().max()) for level in details) < 1e-6
    torch.testing.assert_close(small, torch.full((2, 1, 16, 16), 0.3))


def test_patches_are_windows_of_the_images() -> None:
    images = torch.arange(3 * 2 * 9 * 12.0).view(3, 2, 9, 12)
    patches = draw_patches(images, 50, seeded())
    assert patches.shape == (150, 2, 7, 7)
    corners = patches[:, 0, 0, 0].long()
    image, row, column = corners // 216, corners % 108 // 12, corners % 12
    assert image.tolist() == [i for i in range(3) for _ in range(50)]
    assert (set(row.tolist()), set(column.tolist())) == ({0, 1, 2}, set(range(6)))
    for i in range(len(patches)):
        window = images[image[i], :, row[i] : row[i] + 7, column[i] : column[i] + 7]
        assert torch.equal(patches[i], window)


def test_one_direction_is_the_wasserstein_distance_of_scipy() -> None:
    a, b = torch.randn(2, 500, 4, generator=seeded())
    direction = draw_directions(4, 1, seeded(1))
    assert float(direction.norm()) == pytest.approx(1)
    expected = wasserstein_distance((a @ direction)[:, 0].numpy(), (b @ direction)[:, 0].numpy())
    assert sliced_wasserstein(a, b, direction) == pytest.approx(expected, rel=1e-5)


def test_a_shift_has_a_known_distance() -> None:
    """A shift by v moves every projection by ⟨v, u⟩; the mean over the sphere in d = 3 is |v| / 2."""
    a = torch.randn(200, 3, generator=seeded())
    v = torch.tensor([3.0, 0.0, 4.0])
    directions = draw_directions(3, 4000, seeded())
    found = sliced_wasserstein(a, a + v, directions)
    assert found == pytest.approx(float((v @ directions).abs().mean()), rel=1e-4)
    assert found == pytest.approx(2.5, abs=4 * 5 / math.sqrt(12 * 4000))


def test_equal_sets_have_no_distance() -> None:
    a = torch.randn(50, 4, generator=seeded())
    assert sliced_wasserstein(a, a.flip(0), draw_directions(4, 70, seeded())) == pytest.approx(0, abs=1e-7)


# -- sets of images ---------------------------------------------------------------------------------------------------


def test_two_halves_of_a_set_are_near_and_blur_shows_at_the_fine_level_only() -> None:
    a, b = scenes(400, 0), scenes(400, 1)
    floor = distances(a, b)
    found = [distances(a, blurred(b, sigma)) for sigma in (0.35, 0.5, 0.7, 1.0)]
    fine, coarse = zip(*found, strict=True)
    assert max(floor) < 40
    assert fine[0] > 2 * floor[0]
    assert list(fine) == sorted(fine), "monotone in the blur"
    assert abs(coarse[0] - floor[1]) < floor[1], "slight blur leaves the coarse level at the noise floor"
    assert fine[0] / floor[0] > 2 * coarse[0] / floor[1]


def test_a_loss_of_contrast_counts() -> None:
    a, b = scenes(300, 0), scenes(300, 1)
    assert distances(a, 0.5 + 0.5 * (b - 0.5))[0] > 10 * distances(a, b)[0]


def test_a_missing_colour_counts_in_any_channel() -> None:
    a, b = scenes(300, 0).expand(-1, 3, -1, -1).clone(), scenes(300, 1).expand(-1, 3, -1, -1).clone()
    floor, worst = distances(a, b), []
    for channel in range(3):
        grey = b.clone()
        grey[:, channel] = 0.5
        worst.append(min(distances(a, grey)[i] / floor[i] for i in range(2)))
    assert min(worst) > 2


def test_digits_of_the_test_split_are_as_near_as_those_of_the_training_split() -> None:
    train, test = (load_dataset("digits").load(None, split) for split in ("train", "test"))
    vae = make_state(make_recipe(), train).vae.eval()
    evaluation = Evaluation(vae, test.take(np.arange(300)), train)
    found = measure(evaluation, patches=6000, directions=32)
    levels = [found[f"swd_level_{i}"] for i in (1, 2)]
    assert found["swd"] == pytest.approx(np.mean(levels))
    assert {"swd_level_3", "training_swd_level_3"}.isdisjoint(found)
    assert found["training_swd"] < 0.2 * min(found["swd"], found["reconstruction_swd"])
    assert found["protocol"]["levels"].endswith("28×28, 14×14")
    assert found["protocol"]["patches"].startswith("6000 ")


def test_fewer_training_images_than_images_leave_no_noise_floor() -> None:
    train, held_out = make_images(10), make_images(20, seed=1)
    found = measure(Evaluation(make_state(make_recipe(), train).vae.eval(), held_out, train))
    assert "training_swd" not in found
    assert found["swd"] > 0
