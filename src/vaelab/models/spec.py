"""Fixed facts of a model, which its parts and its objective are built from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Condition = Literal["none", "label", "attributes"]


@dataclass(frozen=True)
class Spec:
    """Shape of the images, size of the latent space, and the sizes that the parts of a model exchange."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    latent_dim: int
    num_images: int
    """Size of the training set."""
    condition: Condition = "none"
    """Input of encoder and decoder besides pixels and codes."""
    condition_names: tuple[str, ...] = ()
    """Names of the classes or attributes; empty for an unconditional model."""
    posterior_parameters: int = 0
    """Outputs of the encoder per image, as the posterior needs them; 0 until a posterior has been built."""
    decoder_channels: int = 0
    """Output channels of the decoder, as the likelihood needs them; 0 until a likelihood has been built."""

    @property
    def num_pixels(self) -> int:
        """Number of values of an image, D = C·H·W."""
        channels, height, width = self.image_shape
        return channels * height * width

    @property
    def condition_dim(self) -> int:
        """Length of a condition vector; 0 for an unconditional model."""
        return len(self.condition_names)


@dataclass(frozen=True)
class Auto:
    """Annotates a keyword argument whose value in a recipe may be "auto"; the constructor gets ``choose(spec)``.

    Without a default of its own, the argument is "auto" in a recipe that leaves it out.
    """

    choose: Callable[[Spec], Any]
