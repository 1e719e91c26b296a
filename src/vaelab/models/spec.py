"""What the parts of a model and its objective are told when they are built."""

from dataclasses import dataclass
from typing import Literal

Condition = Literal["none", "label", "attributes"]


@dataclass(frozen=True)
class Spec:
    """Fixed facts of one model: the images, the latents, and what its parts exchange."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    latent_dim: int
    num_images: int
    """Size of the training set."""
    condition: Condition = "none"
    """What encoder and decoder are told about each image besides its pixels."""
    condition_names: tuple[str, ...] = ()
    """Names of the classes or attributes; empty for an unconditional model."""
    posterior_parameters: int = 0
    """Numbers per image that the posterior wants of the encoder; 0 until a posterior has been built."""
    decoder_channels: int = 0
    """Channels that the likelihood wants of the decoder; 0 until a likelihood has been built."""

    @property
    def num_pixels(self) -> int:
        """Values of one image, D = C·H·W."""
        channels, height, width = self.image_shape
        return channels * height * width

    @property
    def condition_dim(self) -> int:
        """Length of a condition vector; 0 for an unconditional model."""
        return len(self.condition_names)
