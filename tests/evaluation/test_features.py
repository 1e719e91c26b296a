"""Where features come from: principal components, Inception by a stand-in, a classifier of the data set at hand."""

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from vaelab.data.datasets import digits
from vaelab.data.images import Images
from vaelab.evaluation import classifier as lab_features
from vaelab.evaluation import features as _features
from vaelab.evaluation.classifier import classifier_of, extractor_of
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import Extractor, Inception, PrincipalComponents, find_inception, load_inception
from vaelab.evaluation.metrics import fid, kid, precision_recall
from vaelab.models.vae import VAE
from vaelab.system import download as downloads
from vaelab.system.download import DownloadFailed

MakeModel = Callable[..., tuple[VAE, nn.Module]]
CPU = torch.device("cpu")


def images(count: int, shape: tuple[int, int, int] = (9, 8, 1), seed: int = 0) -> Images:
    """Images that vary in some directions more than in others."""
    random = np.random.default_rng(seed)
    size = int(np.prod(shape))
    mixed = random.standard_normal((count, size)) * np.geomspace(60, 1, size)
    turned = mixed @ np.linalg.qr(np.random.default_rng(9).standard_normal((size, size)))[0]
    return Images(np.clip(turned + 128, 0, 255).astype(np.uint8).reshape(count, *shape))


def floats(given: Images) -> Tensor:
    return given.floats(0, len(given))


# -- principal components ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [40, 300])  # fewer images than pixels, and more
def test_principal_components_are_those_of_the_covariance(count: int) -> None:
    given, others = images(count), images(20, seed=1)
    ours = PrincipalComponents(given, "the images", 5)
    theirs = PCA(5, svd_solver="full").fit(given.pixels.reshape(count, -1) / 255)
    wanted = theirs.transform(others.pixels.reshape(20, -1) / 255)
    wanted /= np.sqrt(theirs.explained_variance_.mean() * (count - 1) / count)
    found = ours.features(floats(others))
    assert found.dtype == np.float64
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-5)
    assert ours.name == f"PCA-5 of {count} of the images"


def test_their_mean_is_0_and_their_mean_variance_1() -> None:
    given = images(100, (8, 8, 3))
    found = PrincipalComponents(given, "them").features(floats(given))
    assert found.shape == (100, 64)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    assert found.var(0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(np.cov(found.T), np.diag(found.var(0, ddof=1)), atol=1e-5)


def test_there_are_no_more_than_the_images_fill() -> None:
    assert PrincipalComponents(images(4), "them").features(floats(images(2))).shape == (2, 3)
    two = np.zeros((9, 8, 8, 1), np.uint8)
    two[:, 0, 0, 0], two[:, 1, 1, 0] = np.arange(9), np.arange(9)[::-1] ** 2
    assert PrincipalComponents(Images(two), "them").features(floats(images(2, (8, 8, 1)))).shape == (2, 2)
    equal = PrincipalComponents(Images(np.full((9, 8, 8, 1), 3, np.uint8)), "them")
    assert equal.features(floats(images(2, (8, 8, 1)))).shape == (2, 0)


def test_of_many_values_some_images_are_chosen_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_features, "FITTED_VALUES", 72 * 100)
    given = images(300)
    first, again = (PrincipalComponents(given, "them") for _ in range(2))
    assert first.name == "PCA-64 of 100 of them"
    np.testing.assert_array_equal(first.features(floats(given)), again.features(floats(given)))


# -- Inception --------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Stands in for Inception: uint8 RGB in, two numbers an image out."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__()
        self.given, self.options = given, options
        self.batches: list[tuple[int, ...]] = []

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        assert pixels.dtype == torch.uint8
        self.batches.append(tuple(pixels.shape))
        return (torch.stack([pixels[:, 0].float().mean((1, 2)), pixels[:, 2].float().amax((1, 2))], 1),)


@pytest.fixture
def fid_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Network]:
    """Installs a stand-in for torch-fidelity, with weights of its own in the cache; what it builds."""
    built: list[Network] = []

    def build(*given: Any, **options: Any) -> Network:
        built.append(Network(*given, **options))
        return built[-1]

    package = ModuleType("torch_fidelity")
    package.FeatureExtractorInceptionV3 = build  # type: ignore[attr-defined]
    package.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setattr(_features, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(_features, "data_roots", lambda _given: [tmp_path])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / _features.WEIGHTS).write_bytes(b"weights")
    monkeypatch.setattr(_features, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    return built


def test_inception_sees_rounded_rgb_in_small_batches() -> None:
    network = Network()
    grey = torch.linspace(0, 1, 70)[:, None, None, None].expand(70, 1, 8, 9)
    found = Inception(network).features(grey)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.round(np.linspace(0, 255, 70))[:, None] * [1, 1], atol=1)
    assert network.batches == [(32, 3, 8, 9), (32, 3, 8, 9), (6, 3, 8, 9)]
    colour = torch.tensor([1.0, 0.5, 0.2])[None, :, None, None].expand(1, 3, 8, 8)
    assert Inception(network).features(colour).tolist() == [[255, 51]]


def test_inception_is_loaded_with_verified_weights(fid_package: list[Network], tmp_path: Path) -> None:
    assert isinstance(load_inception(CPU), Extractor)
    assert fid_package[0].given == ("inception", ["2048"])
    assert fid_package[0].options == {"feature_extractor_weights_path": str(tmp_path / _features.WEIGHTS)}


def test_weights_that_are_others_are_not_unpickled(fid_package: list[Network], tmp_path: Path) -> None:
    (tmp_path / _features.WEIGHTS).write_bytes(b"other")
    with pytest.raises(ValueError, match="does not have the SHA-256 of Inception's weights; remove it"):
        load_inception(CPU)
    assert not fid_package


@pytest.mark.parametrize("brings", [b"weights", b"other"])
def test_weights_are_fetched_and_verified(
    fid_package: list[Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brings: bytes
) -> None:
    (tmp_path / _features.WEIGHTS).unlink()

    def bring(urls: tuple[str, ...], target: Path, check: Callable[[bytes], None]) -> None:
        try:
            check(brings)
        except ValueError as error:
            raise DownloadFailed(f"mirror: sent something else ({error})") from None
        target.write_bytes(brings)

    monkeypatch.setattr(_features, "fetch", bring)
    if brings == b"weights":
        load_inception(CPU)
        assert (tmp_path / _features.WEIGHTS).read_bytes() == b"weights"
        return
    with pytest.raises(DownloadFailed, match=f"mirror: sent something else .* put it at {tmp_path}"):
        load_inception(CPU)


def test_without_the_extra_there_is_no_inception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_features.importlib.util, "find_spec", lambda _name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_inception(CPU) is None
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"needs the extra fid: pip install 'vaelab\[fid\]'"):
        load_inception(CPU)


def test_where_inception_cannot_be_had_another_extractor_is_used_under_another_name(
    fid_package: list[Network], tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / _features.WEIGHTS).unlink()
    monkeypatch.setattr(_features, "WEIGHTS_FROM", ("https://localhost:1/weights",))
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0)
    with pytest.warns(UserWarning, match="the connection failed.*distances no FID"):
        measured = fid.measure(Evaluation(make_model()[0], images(20), images(20)))
    assert measured is not None
    assert "fd_pca" in measured
    assert not any("fid" in key for key in measured)


def test_only_with_inception_are_distances_called_fid_and_kid(
    fid_package: list[Network], make_model: MakeModel
) -> None:
    evaluation = Evaluation(make_model()[0], images(20), images(20))
    found = {key for module in (fid, kid) for key in module.measure(evaluation) or ()}
    names = {f"{prefix}{name}" for prefix in ("", "reconstruction_", "training_") for name in ("fid", "kid")}
    assert found == names | {"protocol"}
    measured = precision_recall.measure(evaluation)
    assert measured is not None
    assert "Inception v3 pool3-2048" in measured["protocol"]["extractor"]


# -- the classifier ---------------------------------------------------------------------------------------------------


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Images:
    """Training images whose classifier is small work, kept in a folder of the test."""
    monkeypatch.setattr(lab_features, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(lab_features, "STEPS", 60)
    monkeypatch.setattr(lab_features, "BATCH_SIZE", 32)
    monkeypatch.setattr(lab_features, "default_threads", lambda: 1)
    return digits.load(None, "train")


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "features").glob("*"))


def test_a_classifier_tells_classes_apart_better_than_pixels_do(train: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_features, "STEPS", 200)
    classifier = classifier_of(train)
    assert classifier is not None
    assert isinstance(classifier, Extractor)
    explained = float(classifier.name.split("R² ")[1].split(",")[0])
    assert 0.3 < explained < 1
    test = digits.load(None, "test")
    assert test.labels is not None
    x = floats(test)

    def between(found: NDArray[np.float64]) -> float:
        """Share of the variance that lies between the classes."""
        means = np.stack([found[test.labels == label].mean(0) for label in range(10)])
        return float(means[test.labels].var(0).sum() / found.var(0).sum())

    components = PrincipalComponents(train, "the training images")
    assert between(classifier.features(x)) > 1.1 * between(components.features(x))
    found = classifier.features(floats(train))
    assert found.shape == (len(train), 64)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    assert found.var(0).mean() == pytest.approx(1, rel=1e-4)
    assert classifier.features(x + 0.3).shape == (len(x), 64)  # beyond white is white


def test_a_classifier_is_trained_once_and_again_where_its_file_is_damaged(
    train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = floats(train)[:20]
    first = classifier_of(train)
    assert first is not None
    (path,) = kept(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(lab_features, "_train", None)
        again = classifier_of(train)
    assert again is not None
    assert again.name == first.name
    np.testing.assert_array_equal(again.features(x), first.features(x))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    anew = classifier_of(train)
    assert anew is not None
    assert anew.name == first.name  # the same bits, from the same seed
    np.testing.assert_array_equal(anew.features(x), first.features(x))


def test_other_images_and_other_labels_make_another_classifier(
    train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_features, "STEPS", 2)
    assert train.labels is not None
    half = train.take(np.arange(700))
    relabelled = Images(half.pixels, labels=half.labels[::-1].copy())
    attributed = Images(half.pixels, attributes=half.labels[:, None] > [3, 99], attribute_names=("big", "huge"))
    names = [classifier_of(given).name for given in (train, half, relabelled, attributed)]  # type: ignore[union-attr]
    assert len(set(names)) == 4
    assert len(kept(tmp_path)) == 4
    assert "of 1 attributes" in names[3]  # nothing is huge


def test_large_images_are_seen_at_64_pixels_and_many_in_part(train: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_features, "STEPS", 2)
    monkeypatch.setattr(lab_features, "MOST_IMAGES", 30)
    random = np.random.default_rng(0)
    large = Images(random.integers(0, 256, (40, 80, 20, 3), dtype=np.uint8), labels=np.arange(40) % 2)
    classifier = classifier_of(large)
    assert classifier is not None
    assert classifier.network.image_shape == (3, 64, 20)
    assert classifier.features(floats(large)).shape == (40, 64)


def test_images_of_which_nothing_is_known_have_no_classifier(train: Images, tmp_path: Path) -> None:
    assert classifier_of(Images(train.pixels)) is None
    assert classifier_of(Images(train.pixels, labels=np.zeros(len(train), np.int64))) is None
    assert not kept(tmp_path)


def test_distances_through_a_classifier_name_it(train: Images, make_model: MakeModel) -> None:
    vae, _ = make_model(train.image_shape)
    measured = fid.measure(Evaluation(vae, digits.load(None, "test"), train))
    assert measured is not None
    assert measured["protocol"]["extractor"] == extractor_of(train, CPU).name
    assert measured["fd_classifier"] > 5 * measured["training_fd_classifier"]


def test_inception_comes_before_the_classifier(fid_package: list[Network], train: Images, tmp_path: Path) -> None:
    assert isinstance(extractor_of(train, CPU), Inception)
    assert not kept(tmp_path)
