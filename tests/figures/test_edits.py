"""The figure of edits: which attributes it shows, and by how much codes move."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small import FITTING_PAIRS, make_labelled

from vaelab.data.images import Images
from vaelab.data.tensors import to_uint8
from vaelab.figures import edits as figure
from vaelab.models.codes import encode_images
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE


class Ramp(VAE):
    """A model whose code is the brightness of an image: decoding is exact, or returns the same image for every code."""

    def __init__(self, *, is_blind: bool = False) -> None:
        torch.nn.Module.__init__(self)
        self.spec, self.is_blind = Spec(image_shape=(1, 8, 8), num_images=90, latent_dim=1), is_blind

    def encode(self, images: Any, conditions: Any = None) -> Any:
        pixels = np.asarray(images.pixels[:] if isinstance(images, Images) else images)
        mean = torch.from_numpy(pixels.astype(np.float32).mean((-3, -2, -1)).reshape(-1, 1))
        return SimpleNamespace(mean=mean, log_var=torch.zeros_like(mean))

    def decode(self, codes: torch.Tensor, conditions: Any = None) -> torch.Tensor:
        shown = torch.zeros_like(codes) if self.is_blind else codes / 255
        return shown.float().clamp(0, 1)[:, :, None, None].expand(-1, 1, 8, 8)


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ramp]:
    """Makes models whose code is the brightness."""
    encoded = lambda model, images: SimpleNamespace(mean=model.encode(images).mean.numpy())  # noqa: E731
    monkeypatch.setattr(figure, "encode_images", encoded)
    return Ramp


def test_attributes_that_codes_separate_best_come_first(ramp: Callable[..., Ramp]):
    random = np.random.default_rng(0)
    is_bright, by_chance = random.random(300) < 0.4, random.random(300) < 0.5
    pixels = random.integers(0, 60, (300, 8, 8, 1)) + 60 * is_bright[:, None, None, None]
    often = is_bright ^ (random.random(300) < 0.2)
    attributes = np.stack([often, is_bright, np.arange(300) == 0, by_chance], axis=1)
    names = ("often", "Is_bright", "rare", "by_chance")
    images = Images(pixels.astype(np.uint8), attributes=attributes, attribute_names=names)
    vae = ramp()
    arrays = figure.compute(vae, images, torch.Generator().manual_seed(0))
    shown = [row.split("\n") for row in arrays["rows"]]
    assert {"Is bright", "often"} <= {name for name, _ in shown} | set(arrays["left_out"])
    assert "rare" not in dict(shown)
    distances = [float(distance.removesuffix(" σ")) for _, distance in shown]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 3
    assert arrays["originals"][0, 0].mean() < 60  # an image that is without the attribute
    means = vae.encode(images).mean.numpy()
    original = vae.encode(arrays["originals"][0, 0]).mean.numpy()
    towards = means[is_bright].mean(0) - means[~is_bright].mean(0)
    expected = to_uint8(vae.decode(torch.from_numpy(original + 2 * towards)))[0]
    assert arrays["columns"][1] == ["−2", "−1", "reconstruction", "+1", "+2"]
    assert np.abs(arrays["edited"][0, 4].astype(int) - expected).max() <= 1
    assert figure.compute(vae, Images(images.pixels), torch.Generator()) is None


def make_classes() -> Images:
    """Thirty dark, thirty grey and thirty bright images. The mean of the class "ends" lies in the middle of "grey"."""
    levels = np.concatenate([np.full(15, 20), np.full(15, 220), np.full(30, 120), np.full(30, 60)])
    levels = levels + np.tile(np.arange(5), 18)
    labels = np.repeat([0, 1, 2], 30)
    return Images(np.tile(levels.astype(np.uint8)[:, None, None, None], (1, 8, 8, 1)), labels, ("ends", "grey", "dim"))


def test_images_are_moved_to_the_mean_code_of_a_class_and_rows_of_other_classes_left_out(ramp: Callable[..., Ramp]):
    images = make_classes()
    arrays = figure.compute(ramp(), images, torch.Generator().manual_seed(0))
    assert arrays["rows"] == ["grey", "dim"]
    assert arrays["left_out"] == ["ends"]
    assert arrays["columns"][1] == ["reconstruction", "25%", "50%", "75%", "100%"]
    start, end = arrays["originals"][1, 0].mean(), images.pixels[images.labels == 2].mean()
    np.testing.assert_allclose(arrays["edited"][1].mean((1, 2, 3)), np.linspace(start, end, 5), atol=0.51)
    assert "1 row left out: ends" in figure.caption(arrays)
    assert figure.compute(ramp(is_blind=True), images, torch.Generator()) is None


def test_classes_whose_names_the_font_lacks_are_numbered(ramp: Callable[..., Ramp]):
    images = make_classes()
    unlike = replace(images, labels=3 * images.labels, label_names=("端", "", "", "灰", "", "", "暗い"))
    arrays = figure.compute(ramp(), unlike, torch.Generator().manual_seed(0))
    assert arrays["rows"] == ["3", "6"]
    assert "classes: 3 灰, 6 暗い." in figure.caption(arrays)


@pytest.mark.parametrize(("posterior", "prior"), FITTING_PAIRS)
def test_images_are_edited_with_every_posterior_and_prior(
    posterior: str, prior: str, make_model: Callable[..., tuple[VAE, object]]
):
    images = make_labelled()
    vae, _ = make_model((1, 9, 8), {"posterior.name": posterior, "prior.name": prior, "objective.name": "elbo"})
    codes = encode_images(vae, images).mean
    edit = figure.make_edit(codes, images.labels == 1, "one", is_class=True)
    decoded, again = figure.decode_and_encode(vae, edit.move(codes[:2].astype(np.float64), 1.0), None)
    assert decoded.shape == (2, 9, 8, 1)
    assert np.abs(decoded[0].astype(int) - decoded[1]).max() <= 1  # both are the mean of the class
    assert np.isfinite(again).all()
    assert edit.describe(1.0) == "to one"


def test_a_direction_that_moves_nothing_does_not_succeed():
    has = np.arange(10) < 5
    edit = figure.Edit("smiling", has, np.array([2.0, 0.0]))
    before = np.zeros((3, 2))
    after = np.array([[4.0, 0.0], [1.5, 9.0], [-4.0, 0.0]])
    assert edit.succeeds(before, before, after, 2.0).tolist() == [True, False, False]
    assert edit.succeeds(before, before, after, -2.0).tolist() == [False, False, True]


def test_separation_is_the_distance_in_standard_deviations():
    random = np.random.default_rng(0)
    has = random.random(20_000) < 0.3
    codes = random.standard_normal((20_000, 4)) * 2
    codes[has, 1] += 5
    assert figure.separation(codes, has) == pytest.approx(2.5, abs=0.05)
    assert figure.separation(np.zeros((20, 2)), np.arange(20) % 2 == 0) == -np.inf
