"""Where the features come from through which sets of images are compared, and the sets that are."""

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.images import Images, choose
from vaelab.models.codes import as_finite, chunk_spans
from vaelab.models.vae import VAE
from vaelab.system.device import cache_dir, data_roots, progress
from vaelab.system.device import generator as generator_for
from vaelab.system.download import DownloadFailed, fetch

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
Look = Callable[[int, int], Tensor]
"""First image, one after the last → images ``[n, C, H, W]`` in [0, 1]."""


@runtime_checkable
class Extractor(Protocol):
    """What turns images into vectors that are compared in place of them."""

    @property
    def name(self) -> str:
        """For the protocol: distances are comparable where it is the same."""

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Features of images in [0, 1], float64."""


class PrincipalComponents:
    """Coordinates on the principal axes of a set of images, all divided by one number: their mean variance is 1.

    float64; of a set with more than ``FITTED_VALUES`` values some images are chosen, always the same. ``count`` axes,
    fewer where the images fill fewer dimensions, none where they are all equal.
    """

    def __init__(self, images: Images, whose: str, count: int = COMPONENTS) -> None:
        size = int(np.prod(images.image_shape))
        most = max(count + 1, FITTED_VALUES // size)
        if len(images) > most:
            images = images.take(choose(len(images), most, generator_for(0, "features", "components")))
        x = np.concatenate([_flat(images.floats(*span)) for span in chunk_spans(len(images), images.image_shape)])
        self._mean = x.mean(0)
        x -= self._mean
        is_wide = len(x) < size
        variances, vectors = np.linalg.eigh((x @ x.T if is_wide else x.T @ x) / len(x))
        kept = np.flatnonzero(variances > max(LEAST_VARIANCE * variances[-1], 1e-20))[-count:]
        axes = vectors[:, kept]
        axes = x.T @ axes / np.sqrt(len(x) * variances[kept]) if is_wide else axes
        self._axes: NDArray[np.float64] = axes / np.sqrt(variances[kept].mean()) if len(kept) else axes
        self.name = f"PCA-{len(kept)} of {len(x)} of {whose}"

    def features(self, images: Float[Tensor, "n channel height width"]) -> Features:
        """Coordinates of images."""
        coordinates: NDArray[np.float64] = (_flat(images) - self._mean) @ self._axes
        return coordinates


class Inception:
    """The 2048 pooled features of the network that the FID is defined by (Heusel et al. 2017, 1706.08500).

    ``network``: uint8 ``[B, 3, H, W]`` → a tuple with the features ``[B, 2048]``, resizing included.
    """

    name = "Inception v3 pool3-2048 at 299×299, bilinear, TensorFlow's weights of 2015-12-05, by torch-fidelity"

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


def _choose_extractor(device: torch.device, images: Images, train: Images | None) -> Extractor:
    """Inception where it can be had, else principal components."""
    whose, learnt_from = ("the images measured", images) if train is None else ("the training images", train)
    return find_inception(device) or PrincipalComponents(learnt_from, whose)


# -- the sets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Features of held-out images, and of as many others: generated ones under "", the rest under their prefix."""

    images: Features
    others: dict[str, Features]
    is_inception: bool
    protocol: dict[str, Any]


@torch.no_grad()
def look(
    model: VAE,
    images: Images,
    generator: torch.Generator,
    *,
    train: Images | None,
    samples: int,
    extractor: Extractor | None,
    least: int = 2,
    more: bool = True,
) -> Seen | None:
    """Features of ``samples`` of the images (all, where there are fewer), and of as many that the model generates.

    With ``more`` also of their reconstructions and, where there are as many, of training images. The extractor is by
    default Inception where that can be had, else principal components of the training images (without them, of the
    images). None for fewer than ``least`` images, or where nothing tells those learnt from apart. Memory for the
    features and a chunk of images.
    """
    count = min(len(images), samples)
    if count < least:
        return None
    extractor = extractor or _choose_extractor(model.device, images, train)
    chosen = images.take(choose(len(images), count, generator))
    z = torch.randn(count, model.spec.latent_dim, generator=generator)
    looks: dict[str, Look] = {"": lambda start, stop: model.decode(z[start:stop])}
    if more:
        looks["reconstruction_"] = lambda start, stop: model.reconstruct(chosen.floats(start, stop))
        if train is not None and len(train) >= count:
            looks["training_"] = train.take(choose(len(train), count, generator)).floats
    spans = chunk_spans(count, images.image_shape)
    with progress("looking at images", count * (1 + len(looks))) as bar:

        def seen(look: Look) -> Features:
            parts = []
            for start, stop in spans:
                parts.append(extractor.features(look(start, stop)))
                bar.advance(stop - start)
            return np.concatenate(parts)

        real, others = seen(chosen.floats), {prefix: seen(look) for prefix, look in looks.items()}
    if not real.shape[1]:
        return None
    protocol = {
        "extractor": extractor.name,
        "features": real.shape[1],
        "images": count,
        "images_of": len(images),
        "generated": f"{count} expected images of codes from the prior",
        **({"reconstruction": "expected images of the posterior means of the images"} if more else {}),
        **({"training": f"{count} training images in place of generated ones"} if "training_" in looks else {}),
        "resize": "none before the extractor",
        "crop": "none",
        "seed": generator.initial_seed(),
    }
    return Seen(real, others, isinstance(extractor, Inception), protocol)


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
