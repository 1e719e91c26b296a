"""Commands take images from memory, as they take paths, and return arrays if no file is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.system.errors import InputError

GIVEN: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda pixels: pixels,
    "channels first": lambda pixels: pixels[:, None],
    "floats": lambda pixels: pixels / 255,
    "tensor": torch.from_numpy,
    "pictures": lambda pixels: [Image.fromarray(image) for image in pixels],
    "pairs": lambda pixels: torch.utils.data.TensorDataset(torch.from_numpy(pixels) / 255, torch.arange(len(pixels))),
    "Images": lambda pixels: vaelab.Images(pixels[..., None]),
}


@pytest.fixture
def pixels(trained: Path) -> np.ndarray:
    """Held-out images of the run."""
    return np.asarray(load_run_images(vaelab.Run(trained), None).valid.pixels[:12, ..., 0])


@pytest.mark.parametrize("kind", GIVEN)
def test_all_kinds_are_encoded_alike(trained: Path, pixels: np.ndarray, kind: str) -> None:
    encoded = vaelab.encode(trained, GIVEN[kind](pixels))
    expected = vaelab.load(trained).encode(pixels)
    np.testing.assert_allclose(encoded.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(encoded.log_var, expected.log_var, atol=1e-5)
    assert (len(encoded), encoded.names[3]) == (12, "images[3]")
    assert (encoded.labels is not None) == (kind == "pairs")


def test_nothing_is_written_without_out(
    trained: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, rebuilt = vaelab.sample(trained, count=5), vaelab.reconstruct(trained, pixels, count=5)
    assert np.asarray(samples).shape == np.asarray(rebuilt).shape == (5, 28, 28, 1)
    expected = vaelab.load(trained).reconstruct(pixels[:5])
    np.testing.assert_allclose(np.asarray(rebuilt)[..., 0] / 255, expected[:, 0], atol=0.003)
    scored = vaelab.score(trained, pixels, normal=255 - pixels, samples=2)
    assert np.all(np.diff(scored.columns["elbo"]) >= 0)
    assert scored.separations is not None
    assert not list(tmp_path.iterdir())


def test_an_own_set_is_encoded_with_its_labels(trained: Path) -> None:
    encoded = vaelab.encode(trained)
    labels = load_run_images(vaelab.Run(trained), None).valid.labels
    np.testing.assert_array_equal(encoded.labels, labels)


def test_codes_become_a_table(trained: Path, pixels: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    encoded = vaelab.encode(trained, vaelab.Images(pixels[..., None], np.arange(12) % 2, ("odd", "even")))
    frame = encoded.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns[:4]) == ["image", "label", "class", "mean_1"]
    assert len(vaelab.score(trained, pixels, samples=1).to_pandas()) == 12


WRONG: dict[str, Any] = {
    "another size": np.zeros((3, 9, 9), np.uint8),
    "RGB": np.zeros((3, 28, 28, 3), np.uint8),
    "empty": np.zeros((0, 28, 28), np.uint8),
    "NaN": np.full((3, 28, 28), np.nan),
    "beyond the range": np.full((3, 28, 28), 300.0),
    "objects": np.array([None, "a"], object),
}


@pytest.mark.parametrize("case", WRONG)
def test_images_that_do_not_fit_are_one_line(trained: Path, case: str, wording: Callable[[object], None]) -> None:
    with pytest.raises(InputError) as caught:
        vaelab.encode(trained, WRONG[case])
    wording(caught.value)
