"""Principal components, and Inception in the form of a stand-in for torch-fidelity."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from browser import serve_folder
from sklearn.decomposition import PCA
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.evaluation.classifier import load_extractor
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import (
    Extractor,
    Inception,
    PrincipalComponents,
    WeightsFile,
    check_sets,
    find_inception,
    load_inception,
)
from vaelab.evaluation.metrics import fid, kid, precision_recall
from vaelab.models.vae import VAE
from vaelab.system.download import DownloadFailed
from vaelab.system.errors import InputError
from vaelab.system.messages import VaelabWarning

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


def test_principal_components_have_mean_0_and_mean_variance_1() -> None:
    given = images(100, (8, 8, 3))
    found = PrincipalComponents(given, "them").features(floats(given))
    assert found.shape == (100, 64)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    assert found.var(0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(np.cov(found.T), np.diag(found.var(0, ddof=1)), atol=1e-5)


def test_there_are_as_many_components_as_dimensions_that_the_images_span() -> None:
    two, equal = np.zeros((9, 9, 8, 1), np.uint8), np.full((9, 9, 8, 1), 3, np.uint8)
    two[:, 0, 0, 0], two[:, 1, 1, 0] = np.arange(9), np.arange(9)[::-1] ** 2
    for given, count in ((images(4), 3), (Images(two), 2), (Images(equal), 0)):
        assert PrincipalComponents(given, "them").features(floats(images(2))).shape == (2, count)


def test_principal_components_of_many_images_are_fitted_to_a_fixed_subset() -> None:
    given = images(300)
    first, again = (PrincipalComponents(given, "them", max_values=72 * 100) for _ in range(2))
    assert first.name == "PCA-64 of 100 of them"
    np.testing.assert_array_equal(first.features(floats(given)), again.features(floats(given)))


@pytest.mark.parametrize("shapes", [((5, 4), (5, 3)), ((5, 4), (1, 4))])
def test_sets_of_other_features_or_too_few_images_are_refused(shapes: Any) -> None:
    with pytest.raises(ValueError):
        check_sets(*(np.zeros(shape) for shape in shapes), 2)


# -- Inception --------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Stands in for Inception: uint8 RGB in, two numbers per image out."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__()
        self.given, self.options = given, options
        self.batches: list[tuple[int, ...]] = []

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        assert pixels.dtype == torch.uint8
        self.batches.append(tuple(pixels.shape))
        return (torch.stack([pixels[:, 0].float().mean((1, 2)), pixels[:, 2].float().amax((1, 2))], 1),)


def weights_at(*urls: str) -> WeightsFile:
    return WeightsFile("inception.pth", hashlib.sha256(b"weights").hexdigest(), urls)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Network]:
    """Networks that a stand-in for torch-fidelity builds; cache, data and torch's hub are folders of the test."""
    found: list[Network] = []

    def build(*given: Any, **options: Any) -> Network:
        found.append(Network(*given, **options))
        return found[-1]

    package = ModuleType("torch_fidelity")
    package.FeatureExtractorInceptionV3 = build  # type: ignore[attr-defined]
    package.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path))
    return found


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address of the server that offers its files."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with serve_folder(folder) as address:
        yield folder, f"{address}inception.pth"


def test_inception_sees_rounded_rgb_in_small_batches() -> None:
    network = Network()
    grey = torch.linspace(0, 1, 70)[:, None, None, None].expand(70, 1, 8, 9)
    found = Inception(network).features(grey)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.round(np.linspace(0, 255, 70))[:, None] * [1, 1], atol=1)
    assert network.batches == [(32, 3, 8, 9), (32, 3, 8, 9), (6, 3, 8, 9)]
    colour = torch.tensor([1.0, 0.5, 0.2])[None, :, None, None].expand(1, 3, 8, 8)
    assert Inception(network).features(colour).tolist() == [[255, 51]]


def test_inception_is_loaded_with_verified_weights(built: list[Network], tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    path.write_bytes(b"weights")
    assert isinstance(load_inception(CPU, weights_at()), Extractor)
    assert built[0].given == ("inception", ["2048"])
    assert built[0].options == {"feature_extractor_weights_path": str(path)}
    path.write_bytes(b"other")
    with pytest.raises(InputError) as raised:
        load_inception(CPU, weights_at())
    assert raised.value.subject == path
    assert len(built) == 1, "nothing is unpickled"


def test_weights_are_downloaded_and_verified(built: list[Network], tmp_path: Path, mirror: tuple[Path, str]) -> None:
    folder, url = mirror
    target = tmp_path / "cache" / "vaelab" / "inception.pth"
    (folder / "inception.pth").write_bytes(b"other")
    with pytest.raises(DownloadFailed) as raised:
        load_inception(CPU, weights_at(url))
    assert str(target) in str(raised.value)
    assert url in str(raised.value)
    (folder / "inception.pth").write_bytes(b"weights")
    load_inception(CPU, weights_at(url))
    assert target.read_bytes() == b"weights"


def test_without_the_extra_there_is_no_inception(monkeypatch: pytest.MonkeyPatch, wording: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError) as raised:
        load_inception(CPU)
    wording(raised.value)
    monkeypatch.delitem(sys.modules, "torch_fidelity")
    monkeypatch.setattr(sys, "path", [])
    assert find_inception(CPU) is None


def test_another_extractor_replaces_inception_that_cannot_be_loaded(
    built: list[Network], mirror: tuple[Path, str]
) -> None:
    with pytest.warns(VaelabWarning):
        assert load_extractor(images(20), CPU, weights_at(mirror[1])).kind == "pca"


def test_only_inception_gives_fid_and_kid(
    built: list[Network], tmp_path: Path, make_model: Callable[..., tuple[VAE, nn.Module]]
) -> None:
    (tmp_path / "inception.pth").write_bytes(b"weights")
    extractor = load_extractor(Images(images(20).pixels, labels=np.arange(20) % 2), CPU, weights_at())
    assert isinstance(extractor, Inception), "before a classifier of the labels"
    evaluation = Evaluation(make_model()[0], images(20), images(20), extractor=extractor)
    found = {key for module in (fid, kid) for key in module.measure(evaluation)}
    assert found == {"protocol"} | {f"{a}{b}" for a in ("", "reconstruction_", "training_") for b in ("fid", "kid")}
    assert precision_recall.measure(evaluation)["protocol"]["extractor"] == Inception.name
