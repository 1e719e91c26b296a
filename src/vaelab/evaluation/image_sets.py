"""The sets of images that metrics of generation compare: images, samples, reconstructions and training images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.images import Images
from vaelab.models.chunks import chunk_spans
from vaelab.models.vae import VAE
from vaelab.system.progress import progress

SETS: Mapping[str, str] = MappingProxyType(
    {
        "reconstruction": "expected images of the posterior means of the images",
        "training": "training images in place of generated ones, if there are as many",
    }
)
"""Sets besides the samples that are compared with the images, in words."""


@dataclass(frozen=True)
class ImageSets:
    """Images, and as many samples, reconstructions and training images, made one chunk at a time."""

    model: VAE
    held_out: Images
    codes: Float[Tensor, "n latent"]
    """Codes drawn from a sampler of the latent space."""
    conditions: Float[Tensor, "n condition"] | None
    """Conditions of the codes, drawn from the training set; None for an unconditional model."""
    source: str
    """Origin of the codes, for the protocol."""
    train: Images
    num_available: int
    """Number of images that ``held_out`` were drawn from."""

    @property
    def has_train(self) -> bool:
        """Whether there are as many training images as images."""
        return len(self.train) == len(self.held_out)

    @property
    def protocol(self) -> dict[str, Any]:
        """Numbers of images and origin of the samples."""
        return {
            "images": len(self.held_out),
            "images_available": self.num_available,
            "generated": f"{len(self.codes)} expected images of codes from {self.source}",
        }

    def images(self, description: str) -> Iterator[Float[Tensor, "chunk channel height width"]]:
        """Yield the held-out images; ``description`` is shown with the progress."""
        return self._chunks(self.held_out.floats, description)

    def samples(self, description: str) -> Iterator[Float[Tensor, "chunk channel height width"]]:
        """Yield the expected images of sampled codes."""

        def decode(start: int, stop: int) -> Tensor:
            conditions = None if self.conditions is None else self.conditions[start:stop]
            return self.model.decode(self.codes[start:stop], conditions)

        return self._chunks(decode, description)

    def reconstructions(self, description: str) -> Iterator[Float[Tensor, "chunk channel height width"]]:
        """Yield the expected images of the posterior means of the images."""

        def reconstruct(start: int, stop: int) -> Tensor:
            return torch.from_numpy(self.model.reconstruct(self.held_out.take(np.arange(start, stop))))

        return self._chunks(reconstruct, description)

    def training(self, description: str) -> Iterator[Float[Tensor, "chunk channel height width"]]:
        """Yield the training images."""
        return self._chunks(self.train.floats, description)

    def _chunks(self, floats: Callable[[int, int], Tensor], description: str) -> Iterator[Tensor]:
        with progress(description, len(self.held_out)) as bar:
            for start, stop in chunk_spans(len(self.held_out), self.held_out.image_shape):
                yield floats(start, stop)
                bar.advance(stop - start)
