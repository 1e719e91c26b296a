"""The feature extractor trained on a data set: quality, cache, and the choice among extractors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.datasets import digits
from vaelab.data.images import Images
from vaelab.evaluation.classifier import load_classifier, load_extractor
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import Extractor, PrincipalComponents
from vaelab.evaluation.metrics import fid
from vaelab.models.vae import VAE
from vaelab.system.progress import Task, show_progress

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vaelab" / "features"


def small_digits(split: str) -> Images:
    """Digits of 14×14 pixels."""
    images = digits.load(None, split)
    return Images(np.asarray(images.pixels)[:, ::2, ::2], labels=images.labels)


def floats(images: Images) -> Tensor:
    return images.floats(0, len(images))


@pytest.mark.slow
def test_classifier_separates_classes_better_than_principal_components() -> None:
    train, test = small_digits("train"), small_digits("test")
    classifier = load_classifier(train, steps=100)
    assert isinstance(classifier, Extractor)
    explained = float(classifier.name.split("R² ")[1].split(",")[0])
    assert 0.3 < explained < 1
    assert test.labels is not None
    x = floats(test)

    def share_between_classes(found: NDArray[np.float64]) -> float:
        means = np.stack([found[test.labels == label].mean(0) for label in range(10)])
        return float(means[test.labels].var(0).sum() / found.var(0).sum())

    components = PrincipalComponents(train, "the training images")
    assert share_between_classes(classifier.features(x)) > 1.1 * share_between_classes(components.features(x))
    found = classifier.features(floats(train))
    assert (found.shape, found.dtype) == ((len(train), 64), np.float64)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    assert found.var(0).mean() == pytest.approx(1, rel=1e-4)
    assert classifier.features(x + 0.3).shape == (len(x), 64)  # values above 1 are clamped


@pytest.mark.slow
def test_classifier_is_trained_once_and_again_if_its_file_is_damaged(cache: Path) -> None:
    train = small_digits("train")
    tasks: list[Task] = []
    with show_progress(tasks.append):
        first, again = (load_classifier(train, steps=20) for _ in range(2))
    assert first is not None
    assert again is not None
    assert [task.total for task in set(tasks)] == [20], "trained once"
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with show_progress(tasks.append):
        repaired = load_classifier(train, steps=20)
    assert repaired is not None
    assert len(set(tasks)) == 2
    assert first.name == again.name == repaired.name
    for other in (again, repaired):  # the same bits, from the same seed
        np.testing.assert_array_equal(other.features(floats(train)[:20]), first.features(floats(train)[:20]))


def test_different_images_labels_and_settings_give_different_classifiers(cache: Path) -> None:
    train = small_digits("train").take(np.arange(300))
    assert train.labels is not None
    half = train.take(np.arange(200))
    relabelled = Images(half.pixels, labels=half.labels[::-1].copy())
    attributed = Images(half.pixels, attributes=half.labels[:, None] > [3, 99], attribute_names=("big", "huge"))
    found = [load_classifier(given, steps=2) for given in (train, half, relabelled, attributed)]
    found += [load_classifier(train, steps=3), load_classifier(train, steps=2, max_images=150)]
    names = [classifier.name for classifier in found if classifier is not None]
    assert len(set(names)) == len(list(cache.iterdir())) == 6
    assert "of 1 attribute " in names[3]  # nothing is huge


def test_large_images_are_reduced_to_64_pixels() -> None:
    random = np.random.default_rng(0)
    large = Images(random.integers(0, 256, (40, 80, 20, 3), dtype=np.uint8), labels=np.arange(40) % 2)
    classifier = load_classifier(large, steps=2)
    assert classifier is not None
    assert classifier.image_shape == (3, 64, 20)
    assert classifier.features(floats(large)).shape == (40, 64)


def test_images_without_varying_labels_have_no_classifier(cache: Path) -> None:
    pixels = small_digits("test").pixels
    assert load_classifier(Images(pixels)) is None
    assert load_classifier(Images(pixels, labels=np.zeros(len(pixels), np.int64))) is None
    assert not cache.exists()
    assert load_extractor(Images(pixels), CPU).kind == "pca"


@pytest.mark.slow
def test_distances_name_the_classifier(make_model: Callable[..., tuple[VAE, nn.Module]]) -> None:
    train = small_digits("train")
    classifier = load_classifier(train, steps=60)
    vae, _ = make_model(train.image_shape)
    found: Any = fid.measure(Evaluation(vae, small_digits("test"), train, extractor=classifier))
    assert classifier is not None
    assert found["protocol"]["extractor"] == classifier.name
    assert found["fd_classifier"] > 5 * found["training_fd_classifier"]
