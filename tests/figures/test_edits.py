"""The figure of edits: which attributes it shows, and by how much codes move."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vaelab.data.images import Images, to_uint8
from vaelab.figures import edits as figure


def test_attributes_that_codes_separate_best_come_first(make_model: Callable[..., Any]):
    random = np.random.default_rng(0)
    is_bright, by_chance = random.random(300) < 0.4, random.random(300) < 0.5
    pixels = random.integers(0, 60, (300, 9, 8, 1)) + 190 * is_bright[:, None, None, None]
    often = is_bright ^ (random.random(300) < 0.2)
    attributes = np.stack([often, is_bright, np.arange(300) == 0, by_chance], axis=1)
    names = ("often", "Is_bright", "rare", "by_chance")
    images = Images(pixels.astype(np.uint8), attributes=attributes, attribute_names=names)
    vae, _ = make_model(images.image_shape)
    arrays = figure.compute(vae, images, torch.Generator().manual_seed(0))
    shown = [row.split("\n") for row in arrays["rows"]]
    assert [name for name, _ in shown][:2] == ["Is bright", "often"]
    assert "rare" not in dict(shown)
    distances = [float(distance.removesuffix(" σ")) for _, distance in shown]
    assert distances[0] > 3 > distances[1] > 0.5
    assert [distance for distance in distances[2:] if distance > 0.5] == []
    assert arrays["originals"][0, 0].mean() < 60  # an image that is without the attribute
    means = vae.encode(images).mean.numpy()
    original = vae.encode(arrays["originals"][0, 0]).mean.numpy()
    towards = means[is_bright].mean(0) - means[~is_bright].mean(0)
    expected = to_uint8(vae.decode(torch.from_numpy(original + 2 * towards)))[0]
    assert arrays["columns"][1] == ["−2", "−1", "reconstruction", "+1", "+2"]
    assert np.abs(arrays["edited"][0, 4].astype(int) - expected).max() <= 1
    assert figure.compute(vae, Images(images.pixels), torch.Generator()) is None


def test_separation_is_the_distance_in_standard_deviations():
    random = np.random.default_rng(0)
    has = random.random(20_000) < 0.3
    codes = random.standard_normal((20_000, 4)) * 2
    codes[has, 1] += 5
    assert figure.separation(codes, has) == pytest.approx(2.5, abs=0.05)
    assert figure.separation(np.zeros((20, 2)), np.arange(20) % 2 == 0) == -np.inf
