"""A small classifier of the data set at hand, through whose features sets of images are compared."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Images, to_uint8
from vaelab.data.loader import Batches
from vaelab.evaluation._classify import Objective, with_targets
from vaelab.evaluation.features import Extractor, find_inception
from vaelab.models.codes import chunk_spans
from vaelab.models.networks.conv import Encoder
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE, initialise
from vaelab.recipe import Training
from vaelab.system.device import cache_dir, default_threads, deterministic, generator, progress
from vaelab.system.files import DamagedFile, load_tensors, save_tensors
from vaelab.training import loop as training
from vaelab.training.state import begin

VERSION = 1
"""Of everything here that shapes the features."""
FEATURES, SIDE = 64, 64
"""Width of the layer before the last, and the longest side of an image that the classifier sees."""
MOST_IMAGES, STEPS, BATCH_SIZE = 30_000, 1000, 128
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Classifier:
    """The layer before the last of a trained classifier, as an extractor of features."""

    vae: VAE
    """The encoder, whose posterior mean is that layer, as a model without a decoder; on the CPU."""
    name: str

    def features(self, images: Float[Tensor, "n channel height width"]) -> Float[np.ndarray, "n feature"]:
        """Features ``[n, FEATURES]`` of images in [0, 1], float64."""
        found: NDArray[np.float64] = self.vae.encode(_shrink(images.float().cpu())).mean.double().numpy()
        return found


def extractor_of(images: Images, device: torch.device) -> Extractor | None:
    """Inception where it can be had, else ``classifier_of`` these training images."""
    return find_inception(device) or classifier_of(images)


def classifier_of(images: Images) -> Classifier | None:
    """The classifier of what these training images have, their attributes and classes; None where that is nothing.

    A convolutional encoder with ``FEATURES`` features of mean 0 and mean variance 1, trained by ``STEPS`` batches on at
    most ``MOST_IMAGES`` of them, on the CPU and from one seed. It is kept in the user's cache by the images and what
    they have: runs on one data set are compared through the same features. Its name says how well it does and which
    weights it has.
    """
    has, _ = images.binary_attributes()
    has = has[:, has.any(0) & ~has.all(0)]
    if not has.shape[1]:
        return None
    path = cache_dir() / "features" / f"classifier-{_key(images, has)}.safetensors"
    vae = _untrained(images)
    name = _restore(vae, path)
    if name is None:
        explained = _train(vae, images, has)
        digest = _digest(vae)[:8]
        what = f"{has.shape[1]} attributes of the training images"
        name = f"classifier-{VERSION} of {what}, R² {explained:.3f}, weights {digest}"
        with suppress(OSError):  # a full or read-only disk: slower the next time, no less right
            save_tensors(path, vae.state_dict(), {"name": name})
    return Classifier(vae, name)


def _untrained(images: Images) -> VAE:
    channels, height, width = images.image_shape
    facts = Spec((channels, min(height, SIDE), min(width, SIDE)), FEATURES, min(len(images), MOST_IMAGES))
    vae = VAE(facts, Encoder(facts, activate_last=True), nn.Identity(), nn.Identity())
    initialise(vae, generator(0, "features", "weights"))
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae


def _train(vae: VAE, images: Images, has: NDArray[np.bool_]) -> float:
    """Train the encoder; how much of the entropy of what images have is explained at the end (McFadden's R²)."""
    chosen = torch.randperm(len(images), generator=generator(0, "features", "images"))[:MOST_IMAGES].sort().values
    rows = chosen.numpy()
    images, has = images.take(rows), has[rows]
    spans = chunk_spans(len(images), images.image_shape)
    pixels = np.concatenate([to_uint8(_shrink(images.floats(*span))) for span in spans])
    objective = Objective(vae.spec, num_targets=has.shape[1])
    initialise(objective, generator(0, "features", "objective"))
    threads = default_threads()
    settings = Training(
        steps=STEPS,
        batch_size=BATCH_SIZE,
        precision="fp32",
        validate_every=0,
        checkpoint_every=STEPS,
        threads=threads,
        shuffle_window=0,
    )
    batches = Batches(Images(with_targets(pixels, has)), BATCH_SIZE, settings.seed, CPU)
    losses: list[float] = []
    with deterministic(CPU, "fp32", threads), progress("training a classifier for its features", STEPS) as bar:
        state = begin(vae, objective, settings, CPU)
        for tick in training.train(state, batches, settings, binarize="none", precision="fp32", valid=None):
            losses += tick.terms["loss"].tolist()
            bar.advance(len(tick.terms["loss"]))
        _standardise(vae, pixels)
    return 1 - float(np.mean(losses[-len(losses) // 10 :])) / _entropy(has)


@torch.no_grad()
def _standardise(vae: VAE, pixels: UInt8[np.ndarray, "n height width channel"]) -> None:
    """Let the features of these images have mean 0 and, over all of them together, variance 1."""
    found, head = vae.encode(pixels).mean.double(), vae.encoder.get_submodule("head")
    mean, scale = found.mean(0), float(found.var(0, correction=0).mean().sqrt())
    assert isinstance(head, nn.Linear)
    head.bias[:FEATURES] -= mean.float()
    for parameter in (head.weight, head.bias):
        parameter[:FEATURES] /= scale


def _entropy(has: NDArray[np.bool_]) -> float:
    """Of every column by itself, summed: the loss of whoever knows how frequent each attribute is and no more, nats."""
    share = has.mean(0)
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).sum())


def _shrink(images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n channel lower narrower"]:
    """Images of at most ``SIDE`` × ``SIDE`` pixels, each the mean of those that it covers."""
    height, width = (min(side, SIDE) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images, (height, width)).clamp(0, 1)


def _key(images: Images, has: Bool[np.ndarray, "n target"]) -> str:
    digest = hashlib.sha256(f"{VERSION} {images.fingerprint()} {has.shape}".encode())
    digest.update(np.packbits(has).tobytes())
    return digest.hexdigest()[:20]


def _restore(vae: VAE, path: Path) -> str | None:
    """The name of the classifier in a file, whose weights ``vae`` gets; None where there is no whole file."""
    try:
        tensors, facts = load_tensors(path)
        name = str(facts["name"])
        vae.load_state_dict(tensors)  # RuntimeError for other tensors than the classifier has
    except (OSError, DamagedFile, KeyError, RuntimeError):
        return None
    return name


def _digest(vae: VAE) -> str:
    digest = hashlib.sha256()
    for _, tensor in sorted(vae.state_dict().items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
