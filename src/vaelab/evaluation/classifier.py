"""A small classifier trained on a data set, whose features serve to compare sets of images."""

import hashlib
from contextlib import suppress
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.data.tensors import as_tensor, subsample, to_float, to_uint8
from vaelab.evaluation.features import (
    INCEPTION_WEIGHTS,
    Extractor,
    PrincipalComponents,
    WeightsFile,
    find_inception,
)
from vaelab.models.chunks import chunk_spans
from vaelab.models.initialisation import initialise
from vaelab.models.networks.conv import Encoder, choose_channels, choose_strides
from vaelab.models.spec import Spec
from vaelab.system.device import deterministic
from vaelab.system.files import DamagedFile, load_tensors, save_tensors
from vaelab.system.machine import default_threads
from vaelab.system.messages import count_of
from vaelab.system.noise import generator
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress
from vaelab.training.adam import Adam

VERSION = 2
"""Version of everything in this file that shapes the features."""
FEATURES, SIDE = 64, 64
"""Width of the penultimate layer, and the longest side of the images that the classifier sees."""
BATCH_SIZE, LEARNING_RATE = 128, 0.001
CPU = torch.device("cpu")


class Classifier(nn.Module):
    """The layers of a classifier up to the penultimate one, as a feature extractor.

    A convolutional network with ``FEATURES`` outputs, on images of at most ``SIDE`` × ``SIDE`` pixels.
    """

    kind: ClassVar = "classifier"
    cannot_see: ClassVar = (
        f"details that do not help to distinguish the labels, such as slight blur, and those finer than {SIDE} pixels"
    )
    name = "untrained"

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        num_channels, height, width = image_shape
        self.image_shape = num_channels, min(height, SIDE), min(width, SIDE)
        spec = Spec(self.image_shape, FEATURES, num_images=1, posterior_parameters=FEATURES)
        channels, strides = choose_channels(spec), choose_strides(spec)
        self.encoder = Encoder(spec, channels=channels, strides=strides, activate_last=True)
        initialise(self, generator(0, "features", "weights"))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
        """Return the features of images in [0, 1] at the network's size."""
        features: Tensor = self.encoder(x)
        return features

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n channel height width"]) -> Float[np.ndarray, "n feature"]:
        """Return the features of any number of images of any size in [0, 1], float64."""
        spans = chunk_spans(len(images), self.image_shape)
        parts = [self(_shrink(images[start:stop].float().cpu())) for start, stop in spans]
        found: NDArray[np.float64] = torch.cat(parts).double().numpy()
        return found


def load_extractor(images: Images, device: torch.device, inception: WeightsFile = INCEPTION_WEIGHTS) -> Extractor:
    """Return Inception if installed, else a classifier of the training images, else their principal components."""
    found = find_inception(device, inception) or load_classifier(images)
    return found or PrincipalComponents(images, "the training images")


def load_classifier(images: Images, *, steps: int = 1000, max_images: int = 30_000) -> Classifier | None:
    """Return a classifier of the attributes and classes of training images; None if they have none that varies.

    A convolutional encoder whose ``FEATURES`` features have mean 0 and mean variance 1. It is trained for ``steps``
    batches on at most ``max_images`` images, on the CPU and from a fixed seed. The user's cache keeps it, so that runs
    on the same data set are compared by the same features. Its name states how well it predicts and the digest of
    its weights.
    """
    has, _ = images.binary_attributes()
    has = has[:, has.any(0) & ~has.all(0)]
    if not has.shape[1]:
        return None
    path = cache_dir() / "features" / f"classifier-{_key(images, has, steps, max_images)}.safetensors"
    classifier = Classifier(images.image_shape)
    try:
        tensors, facts = load_tensors(path)
        classifier.load_state_dict(tensors)  # RuntimeError for tensors of another network
        classifier.name = str(facts["name"])
    except (OSError, DamagedFile, KeyError, RuntimeError):
        rows = subsample(len(images), max_images, generator(0, "features", "images"))
        explained = _train(classifier, images.take(rows), has[rows], steps)
        what = f"{count_of(has.shape[1], 'attribute')} of the training images"
        classifier.name = f"classifier-{VERSION} of {what}, R² {explained:.3f}, weights {_digest(classifier)[:8]}"
        with suppress(OSError):  # on a full or read-only disk it is trained again next time
            save_tensors(path, classifier.state_dict(), {"name": classifier.name})
    return classifier


def _train(network: Classifier, images: Images, has: NDArray[np.bool_], steps: int) -> float:
    """Train the network; return the share of the labels' entropy that it explains at the end (McFadden's R²).

    A linear layer on the features predicts every column of ``has`` and is discarded afterwards.
    """
    spans = chunk_spans(len(images), images.image_shape)
    pixels = np.concatenate([to_uint8(_shrink(images.floats(*span))) for span in spans])
    targets = torch.from_numpy(has.astype(np.float32))
    head = nn.Linear(FEATURES, has.shape[1])
    initialise(head, generator(0, "features", "objective"))
    adam = Adam([{"params": [*network.parameters(), *head.parameters()]}], LEARNING_RATE)
    batches = Batches(Images(pixels), BATCH_SIZE, 0, CPU)
    losses: list[float] = []
    with (
        deterministic(CPU, "fp32", default_threads()),
        progress("training a classifier for its features", steps) as bar,
    ):
        for step in range(steps):
            batch = batches.batch(step)
            log_odds = head(network(to_float(batch.pixels)))
            loss = F.binary_cross_entropy_with_logits(log_odds, targets[batch.index], reduction="none").sum(1).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            losses.append(float(loss.detach()))
            bar.advance(1)
        _standardise(network, pixels)
    share = has.mean(0)
    entropy = float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).sum())
    return 1 - float(np.mean(losses[-len(losses) // 10 :])) / entropy


@torch.no_grad()
def _standardise(network: Classifier, pixels: UInt8[np.ndarray, "n height width channel"]) -> None:
    """Shift and scale the last layer so that each feature of these images has mean 0, and all together variance 1."""
    found, head = torch.from_numpy(network.features(to_float(as_tensor(pixels)))), network.encoder.head
    mean, scale = found.mean(0), float(found.var(0, correction=0).mean().sqrt())
    head.bias[:FEATURES] -= mean.float()
    for parameter in (head.weight, head.bias):
        parameter[:FEATURES] /= scale


def _shrink(images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n channel lower narrower"]:
    """Return images of at most ``SIDE`` × ``SIDE`` pixels, each the mean of the pixels that it covers."""
    height, width = (min(side, SIDE) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images, (height, width)).clamp(0, 1)


def _key(images: Images, has: Bool[np.ndarray, "n target"], steps: int, max_images: int) -> str:
    digest = hashlib.sha256(f"{VERSION} {images.fingerprint()} {has.shape} {steps} {max_images}".encode())
    digest.update(np.packbits(has).tobytes())
    return digest.hexdigest()[:20]


def _digest(network: Classifier) -> str:
    digest = hashlib.sha256()
    for _, tensor in sorted(network.state_dict().items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
