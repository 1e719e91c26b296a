"""Feature extractors, and the features of sets of images that FID, KID, precision and recall compare."""

import hashlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.images import Images
from vaelab.evaluation.image_sets import SETS, ImageSets
from vaelab.models.chunks import chunk_spans
from vaelab.models.codes import as_finite
from vaelab.system.download import DownloadFailed, fetch
from vaelab.system.errors import InputError
from vaelab.system.messages import warn
from vaelab.system.noise import generator as generator_for
from vaelab.system.paths import cache_dir, data_roots

COMPONENTS = 64
MAX_FITTED_VALUES = 1 << 25
"""Pixel values of the images that principal components are fitted to: 256 MB."""
MIN_VARIANCE = 1e-10
"""Share of the largest variance below which a component is a rounding error."""
INCEPTION_BATCH_SIZE = 32
"""Images of 299×299 that go through Inception at a time."""

Features = Float[np.ndarray, "n feature"]


@runtime_checkable
class Extractor(Protocol):
    """Maps images to vectors that are compared in their place."""

    @property
    def kind(self) -> str:
        """One word: inception, classifier or pca."""

    @property
    def name(self) -> str:
        """Everything that the features depend on; distances are comparable only for equal names."""

    @property
    def cannot_see(self) -> str:
        """Differences between images that hardly change the features, in words."""

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Return the features of images in [0, 1], float64."""


class PrincipalComponents:
    """Coordinates on the principal axes of a set of images, divided by one number so that their mean variance is 1.

    float64. Fitted to a fixed random subset of at most ``max_values`` pixel values. There are ``count`` axes, fewer if
    the images span fewer dimensions, and none if they are all equal.
    """

    kind: ClassVar = "pca"
    cannot_see: ClassVar = "blur and texture: the components are smooth, so that low frequencies decide"

    def __init__(
        self, images: Images, description: str, count: int = COMPONENTS, max_values: int = MAX_FITTED_VALUES
    ) -> None:
        from sklearn.decomposition import PCA

        num_images = max(count + 1, max_values // math.prod(images.image_shape))
        images = images.subsample(num_images, generator_for(0, "features", "components"))
        x = np.concatenate([_flat(images.floats(*span)) for span in chunk_spans(len(images), images.image_shape)])
        self._mean: NDArray[np.float64] = x[0]
        self._axes: NDArray[np.float64] = np.empty((x.shape[1], 0))
        if (x != x[0]).any():
            count = min(count, *x.shape)
            pca = PCA(count, svd_solver="arpack" if count < min(x.shape) else "full", random_state=0).fit(x)
            kept = pca.explained_variance_ > MIN_VARIANCE * pca.explained_variance_[0]
            scale = math.sqrt(pca.explained_variance_[kept].mean() * (1 - 1 / len(x)))  # of variances with 1/n
            self._mean, self._axes = pca.mean_, pca.components_[kept].T / scale
        self.name = f"PCA-{self._axes.shape[1]} of {len(x)} of {description}"

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Return the coordinates of images."""
        coordinates: NDArray[np.float64] = (_flat(images) - self._mean) @ self._axes
        return coordinates


def _flat(images: Float[Tensor, "n channel height width"]) -> NDArray[np.float64]:
    flat: NDArray[np.float64] = images.double().cpu().flatten(1).numpy()
    return flat


# -- Inception --------------------------------------------------------------------------------------------------------


class Inception:
    """The 2048 pooled features of the network that defines the FID (Heusel et al. 2017, 1706.08500).

    ``network``: uint8 ``[B, 3, H, W]`` → a tuple with the features ``[B, 2048]``; it resizes the images.
    """

    kind: ClassVar = "inception"
    cannot_see: ClassVar = (
        "details of images far from photographs, on which it was trained (2203.06026), and copies of training images"
    )
    name: ClassVar = (
        "Inception v3 pool3-2048 at 299×299, bilinear, TensorFlow's weights of 2015-12-05, by torch-fidelity"
    )

    def __init__(self, network: Callable[[UInt8[Tensor, "batch 3 height width"]], tuple[Tensor, ...]]) -> None:
        self._network = network

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Return the features of images, rounded to 8 bits; grey images are repeated as RGB."""
        rgb = images.float().clamp(0, 1).mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        parts = [self._network(part.contiguous())[0].cpu().double() for part in torch.split(rgb, INCEPTION_BATCH_SIZE)]
        found: NDArray[np.float64] = torch.cat(parts).numpy()
        return found


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that other programs publish."""

    name: str
    sha256: str
    urls: tuple[str, ...]

    def find(self) -> Path:
        """Return the verified file, downloaded if it is in none of the usual folders.

        It is unpickled, which executes its content, so InputError is raised if the SHA-256 differs.
        """
        for folder in (*data_roots(None), Path(torch.hub.get_dir()) / "checkpoints"):
            path = folder / self.name
            if path.is_file():
                try:
                    self._check(path)
                except ValueError as error:
                    raise InputError(f"{path} {error}; remove it", subject=path) from None
                return path
        target = cache_dir() / self.name
        try:
            fetch(self.urls, target, self._check)
        except DownloadFailed as error:
            raise DownloadFailed(f"Inception's weights: {error}. Download {self.urls[0]} to {target}") from None
        return target

    def _check(self, path: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise ValueError("does not have the SHA-256 of Inception's weights")


INCEPTION_WEIGHTS = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
)


def load_inception(device: torch.device, weights: WeightsFile = INCEPTION_WEIGHTS) -> Inception:
    """Load Inception with torch-fidelity; InputError if the extra is missing, DownloadFailed if the weights are."""
    try:
        package: Any = importlib.import_module("torch_fidelity")
    except (ImportError, RuntimeError) as error:  # torchvision raises the second if it does not fit torch
        reason = str(error).splitlines()[0]
        raise InputError(f"Inception needs the extra fid: pip install 'vaelab[fid]' ({reason})") from None
    path = str(weights.find())
    network = package.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path)

    def on_device(pixels: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = network(pixels.to(device))
        return found

    network.to(device)
    return Inception(on_device)


def find_inception(device: torch.device, weights: WeightsFile = INCEPTION_WEIGHTS) -> Inception | None:
    """Return Inception if the extra fid is installed, else None; also None, with a warning, if it cannot be loaded."""
    if importlib.util.find_spec("torch_fidelity") is None:
        return None
    try:
        return load_inception(device, weights)
    except (ValueError, OSError) as error:
        warn(f"{error}. Another extractor replaces Inception, and distances are not called FID")
        return None


# -- sets of images ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureSets:
    """Features of sets of images, each computed on first use; memory for the features and a chunk of images."""

    extractor: Extractor
    sets: ImageSets

    @cached_property
    def images(self) -> Features:
        """Features of the held-out images."""
        return self._extract(self.sets.images)

    @cached_property
    def samples(self) -> Features:
        """Features of the samples."""
        return self._extract(self.sets.samples)

    @cached_property
    def reconstructions(self) -> Features:
        """Features of the reconstructions."""
        return self._extract(self.sets.reconstructions)

    @cached_property
    def train(self) -> Features | None:
        """Features of training images; None if there are fewer than images."""
        return self._extract(self.sets.training) if self.sets.has_train else None

    @property
    def protocol(self) -> dict[str, Any]:
        """Extractor, with what it cannot see, and origin of the sets."""
        return {
            "extractor": self.extractor.name,
            "features": self.images.shape[1],
            "cannot_see": self.extractor.cannot_see,
            **self.sets.protocol,
            "resize": "none before the extractor",
            "crop": "none",
        }

    def compare(
        self, distance: Callable[[Features, Features], float], name: str, prefix: str, protocol: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the distances of samples, reconstructions and training images from the images, with their protocol.

        The result is called ``name`` with Inception's features, else ``prefix`` and the kind of extractor.
        """
        key = name if self.extractor.kind == "inception" else f"{prefix}_{self.extractor.kind}"
        others = {"": self.samples, "reconstruction_": self.reconstructions, "training_": self.train}
        return {
            **{f"{which}{key}": distance(self.images, other) for which, other in others.items() if other is not None},
            "protocol": {**self.protocol, **SETS, **protocol},
        }

    def _extract(self, chunks: Callable[[str], Iterator[Tensor]]) -> Features:
        return np.concatenate([self.extractor.features(chunk) for chunk in chunks("computing features")])


def check_sets(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m other"], least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both sets in float64; ValueError if they do not match, are too small or not finite."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"sets with {a.shape[1]} and {b.shape[1]} features cannot be compared: use one extractor")
    if min(len(a), len(b)) < least:
        raise ValueError(f"sets of {len(a)} and {len(b)} images: {least} or more of each are needed")
    return as_finite(a, "features"), as_finite(b, "features")
