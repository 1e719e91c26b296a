"""Feature extractors and the sets of images that FID, KID, precision and recall compare through them."""

import hashlib
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable
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
from vaelab.models.chunks import chunk_spans
from vaelab.models.codes import as_finite
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.system.download import DownloadFailed, fetch
from vaelab.system.paths import cache_dir, data_roots
from vaelab.system.progress import progress
from vaelab.system.seeds import generator as generator_for

COMPONENTS = 64
FITTED_VALUES = 1 << 25
"""Pixel values of the images that principal components are fitted to, at most: 256 MB."""
LEAST_VARIANCE = 1e-10
"""Share of the largest variance below which a component is a rounding error."""

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_FROM = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
INCEPTION_BATCH = 32
"""Images of 299×299 that go through Inception at once, whatever their own size."""

Features = Float[np.ndarray, "n feature"]


@runtime_checkable
class Extractor(Protocol):
    """What turns images into vectors that are compared in place of them."""

    @property
    def kind(self) -> str:
        """One word: inception, classifier or pca."""

    @property
    def name(self) -> str:
        """Everything that features depend on: distances compare only where it is the same."""

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Features of images in [0, 1], float64."""


class PrincipalComponents:
    """Coordinates on the principal axes of a set of images, all divided by one number: their mean variance is 1.

    float64. At most ``FITTED_VALUES`` pixel values are looked at, of always the same images. ``count`` axes, fewer if
    the images span fewer dimensions, none if they are all equal.
    """

    kind: ClassVar = "pca"

    def __init__(self, images: Images, whose: str, count: int = COMPONENTS) -> None:
        from sklearn.decomposition import PCA

        most = max(count + 1, FITTED_VALUES // math.prod(images.image_shape))
        images = images.subsample(most, generator_for(0, "features", "components"))
        x = np.concatenate([_flat(images.floats(*span)) for span in chunk_spans(len(images), images.image_shape)])
        self._mean: NDArray[np.float64] = x[0]
        self._axes: NDArray[np.float64] = np.empty((x.shape[1], 0))
        if (x != x[0]).any():
            count = min(count, *x.shape)
            pca = PCA(count, svd_solver="arpack" if count < min(x.shape) else "full", random_state=0).fit(x)
            kept = pca.explained_variance_ > LEAST_VARIANCE * pca.explained_variance_[0]
            scale = math.sqrt(pca.explained_variance_[kept].mean() * (1 - 1 / len(x)))  # of variances with 1/n
            self._mean, self._axes = pca.mean_, pca.components_[kept].T / scale
        self.name = f"PCA-{self._axes.shape[1]} of {len(x)} of {whose}"

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Coordinates of images."""
        coordinates: NDArray[np.float64] = (_flat(images) - self._mean) @ self._axes
        return coordinates


class Inception:
    """The 2048 pooled features of the network that the FID is defined by (Heusel et al. 2017, 1706.08500).

    ``network``: uint8 ``[B, 3, H, W]`` → a tuple with the features ``[B, 2048]``, resizing included.
    """

    kind: ClassVar = "inception"
    name: ClassVar = (
        "Inception v3 pool3-2048 at 299×299, bilinear, TensorFlow's weights of 2015-12-05, by torch-fidelity"
    )

    def __init__(self, network: Callable[[UInt8[Tensor, "batch 3 height width"]], tuple[Tensor, ...]]) -> None:
        self._network = network

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Features of images, which are rounded to 8 bits; grey ones are shown as RGB."""
        rgb = images.float().clamp(0, 1).mul(255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        parts = [self._network(part.contiguous())[0].double().cpu() for part in torch.split(rgb, INCEPTION_BATCH)]
        found: NDArray[np.float64] = torch.cat(parts).numpy()
        return found


def load_inception(device: torch.device) -> Inception:
    """Inception by torch-fidelity; ValueError where the extra is missing, DownloadFailed where the weights are."""
    try:
        package: Any = importlib.import_module("torch_fidelity")
    except (ImportError, RuntimeError) as error:  # torchvision raises the second where it does not fit torch
        reason = str(error).splitlines()[0]
        raise ValueError(f"Inception needs the extra fid: pip install 'vaelab[fid]' ({reason})") from None
    path = str(_weights())
    network = package.FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path)

    def on_device(pixels: Tensor) -> tuple[Tensor, ...]:
        seen: tuple[Tensor, ...] = network(pixels.to(device))
        return seen

    network.to(device)
    return Inception(on_device)


def _weights() -> Path:
    """Where Inception's weights lie, verified: what unpickles them would execute anything else."""
    for folder in (*data_roots(None), Path(torch.hub.get_dir()) / "checkpoints"):
        path = folder / WEIGHTS
        if path.is_file():
            try:
                _check_weights(path.read_bytes())
            except ValueError as error:
                raise ValueError(f"{path} {error}; remove it") from None
            return path
    target = cache_dir() / WEIGHTS
    try:
        fetch(WEIGHTS_FROM, target, _check_weights)
    except DownloadFailed as error:
        raise DownloadFailed(f"Inception's weights: {error}. Get {WEIGHTS_FROM[0]} and put it at {target}") from None
    return target


def _check_weights(content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise ValueError("does not have the SHA-256 of Inception's weights")


def find_inception(device: torch.device) -> Inception | None:
    """Inception where the extra fid is installed, None elsewhere; a warning where it is and cannot be used."""
    if importlib.util.find_spec("torch_fidelity") is None:
        return None
    try:
        return load_inception(device)
    except (ValueError, OSError) as error:
        warnings.warn(f"{error}. Features are others than Inception's, and distances no FID", stacklevel=2)
        return None


# -- the sets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """Codes from a sampler of the latent space, decoded a few at a time."""

    model: VAE
    codes: Float[Tensor, "n latent"]
    conditions: Float[Tensor, "n condition"] | None
    """Conditions drawn from the training set; None for an unconditional model."""
    source: str
    """Where the codes are from, for a protocol."""

    def __len__(self) -> int:
        return len(self.codes)

    def floats(self, start: int, stop: int) -> Float[Tensor, "batch channel height width"]:
        """Expected images of codes ``start`` to ``stop``, on the CPU."""
        given = None if self.conditions is None else self.conditions[start:stop]
        return self.model.decode(self.codes[start:stop], given)


class FeatureSets:
    """Features of images and of as many samples, reconstructions and training images, each computed on first use.

    Memory for the features and a chunk of images.
    """

    def __init__(self, extractor: Extractor, images: Images, samples: Samples, train: Images, total: int) -> None:
        assert len(images) == len(samples), "sets of one size are compared"
        self.extractor, self._total = extractor, total
        self._images, self._samples, self._train, self._model = images, samples, train, samples.model

    def __len__(self) -> int:
        return len(self._images)

    @cached_property
    def images(self) -> Features:
        """Features of the held-out images."""
        return self._extract(self._images.floats)

    @cached_property
    def samples(self) -> Features:
        """Features of expected images of sampled codes."""
        return self._extract(self._samples.floats)

    @cached_property
    def reconstructions(self) -> Features:
        """Features of expected images of the posterior means of ``images``."""
        conditions = condition_of(self._model.spec, self._images)

        def reconstruct(start: int, stop: int) -> Tensor:
            given = None if conditions is None else conditions[start:stop]
            rebuilt: Tensor = self._model.reconstruct(self._images.floats(start, stop), given)
            return rebuilt

        return self._extract(reconstruct)

    @cached_property
    def train(self) -> Features | None:
        """Features of training images; None if there are fewer than images."""
        return self._extract(self._train.floats) if len(self._train) == len(self) else None

    def protocol(self) -> dict[str, Any]:
        """How the sets were made."""
        return {
            "extractor": self.extractor.name,
            "features": self.images.shape[1],
            "images": len(self),
            "images_of": self._total,
            "generated": f"{len(self)} expected images of codes from {self._samples.source}",
            "resize": "none before the extractor",
            "crop": "none",
        }

    def _extract(self, floats: Callable[[int, int], Tensor]) -> Features:
        parts = []
        with progress("computing features", len(self)) as bar:
            for start, stop in chunk_spans(len(self), self._images.image_shape):
                parts.append(self.extractor.features(floats(start, stop)))
                bar.advance(stop - start)
        return np.concatenate(parts)


def check_sets(
    a: Float[np.ndarray, "n feature"], b: Float[np.ndarray, "m other"], least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets in float64; ValueError where they do not fit each other, are too small or not finite."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"sets with {a.shape[1]} and {b.shape[1]} features cannot be compared: use one extractor")
    if min(len(a), len(b)) < least:
        raise ValueError(f"sets of {len(a)} and {len(b)} images: {least} or more of each are needed")
    return as_finite(a, "features"), as_finite(b, "features")


def _flat(images: Float[Tensor, "n channel height width"]) -> NDArray[np.float64]:
    flat: NDArray[np.float64] = images.double().cpu().flatten(1).numpy()
    return flat
