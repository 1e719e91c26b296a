"""A small classifier of the data set at hand, through whose features sets of images are compared."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Images, as_tensor, subsample, to_float, to_uint8
from vaelab.data.loader import Batches
from vaelab.evaluation.features import Extractor, PrincipalComponents, find_inception
from vaelab.models.chunks import chunk_spans
from vaelab.models.initialisation import initialise
from vaelab.models.networks.conv import Encoder, choose_channels, choose_strides
from vaelab.models.spec import Spec
from vaelab.system.device import default_threads, deterministic
from vaelab.system.files import DamagedFile, load_tensors, save_tensors
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress
from vaelab.system.seeds import generator

VERSION = 2
"""Of everything here that shapes the features."""
FEATURES, SIDE = 64, 64
"""Width of the layer before the last, and the longest side of an image that the classifier sees."""
MOST_IMAGES, STEPS, BATCH_SIZE, LEARNING_RATE = 30_000, 1000, 128, 0.001
CPU = torch.device("cpu")


class FeatureNetwork(nn.Module):
    """A convolutional network with ``FEATURES`` outputs, on images of at most ``SIDE`` × ``SIDE`` pixels."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        num_channels, height, width = image_shape
        self.image_shape = num_channels, min(height, SIDE), min(width, SIDE)
        spec = Spec(self.image_shape, FEATURES, num_images=1, posterior_parameters=FEATURES)
        channels, strides = choose_channels(spec), choose_strides(spec)
        self.encoder = Encoder(spec, channels=channels, strides=strides, activate_last=True)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
        """Features of images in [0, 1] at the network's size."""
        features: Tensor = self.encoder(x)
        return features

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n feature"]:
        """Features of any number of images of any size, on the CPU."""
        spans = chunk_spans(len(images), self.image_shape)
        return torch.cat([self(_shrink(images[start:stop].float().cpu())) for start, stop in spans])


@dataclass(frozen=True)
class Classifier:
    """The layer before the last of a trained classifier, as an extractor of features."""

    network: FeatureNetwork
    name: str
    kind: ClassVar = "classifier"

    def features(self, images: Float[Tensor, "n channel height width"]) -> Float[np.ndarray, "n feature"]:
        """Features ``[n, FEATURES]`` of images in [0, 1], float64."""
        found: NDArray[np.float64] = self.network.features(images).double().numpy()
        return found


def extractor_of(images: Images, device: torch.device) -> Extractor:
    """Inception if it is installed, else a classifier of these training images, else their principal components."""
    return find_inception(device) or classifier_of(images) or PrincipalComponents(images, "the training images")


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
    network = _untrained(images)
    name = _restore(network, path)
    if name is None:
        explained = _train(network, images, has)
        digest = _digest(network)[:8]
        what = f"{has.shape[1]} attributes of the training images"
        name = f"classifier-{VERSION} of {what}, R² {explained:.3f}, weights {digest}"
        with suppress(OSError):  # a full or read-only disk: slower the next time, no less right
            save_tensors(path, network.state_dict(), {"name": name})
    return Classifier(network, name)


def _untrained(images: Images) -> FeatureNetwork:
    network = FeatureNetwork(images.image_shape)
    initialise(network, generator(0, "features", "weights"))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _train(network: FeatureNetwork, images: Images, has: NDArray[np.bool_]) -> float:
    """Train the network; returns the share of the labels' entropy that it explains at the end (McFadden's R²).

    It answers ``has[:, j]`` for every j by a linear layer on the features, which is dropped afterwards.
    """
    rows = subsample(len(images), MOST_IMAGES, generator(0, "features", "images"))
    images, has = images.take(rows), has[rows]
    spans = chunk_spans(len(images), images.image_shape)
    pixels = np.concatenate([to_uint8(_shrink(images.floats(*span))) for span in spans])
    targets = torch.from_numpy(has.astype(np.float32))
    head = nn.Linear(FEATURES, has.shape[1])
    initialise(head, generator(0, "features", "objective"))
    adam = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=LEARNING_RATE, fused=True)
    batches = Batches(Images(pixels), BATCH_SIZE, 0, CPU)
    losses: list[float] = []
    with (
        deterministic(CPU, "fp32", default_threads()),
        progress("training a classifier for its features", STEPS) as bar,
    ):
        for step in range(STEPS):
            batch = batches.batch(step)
            log_odds = head(network(to_float(batch.pixels)))
            loss = F.binary_cross_entropy_with_logits(log_odds, targets[batch.index], reduction="none").sum(1).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            losses.append(float(loss.detach()))
            bar.advance(1)
        _standardise(network, pixels)
    return 1 - float(np.mean(losses[-len(losses) // 10 :])) / _entropy(has)


@torch.no_grad()
def _standardise(network: FeatureNetwork, pixels: UInt8[np.ndarray, "n height width channel"]) -> None:
    """Let the features of these images have mean 0 and, over all of them together, variance 1."""
    found, head = network.features(to_float(as_tensor(pixels))).double(), network.encoder.head
    mean, scale = found.mean(0), float(found.var(0, correction=0).mean().sqrt())
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


def _restore(network: FeatureNetwork, path: Path) -> str | None:
    """The name of the classifier in a file, whose weights ``network`` gets; None where there is no whole file."""
    try:
        tensors, facts = load_tensors(path)
        name = str(facts["name"])
        network.load_state_dict(tensors)  # RuntimeError for other tensors than the classifier has
    except (OSError, DamagedFile, KeyError, RuntimeError):
        return None
    return name


def _digest(network: FeatureNetwork) -> str:
    digest = hashlib.sha256()
    for _, tensor in sorted(network.state_dict().items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
