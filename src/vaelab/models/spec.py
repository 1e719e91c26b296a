"""What every network, likelihood and objective is told about the data when it is built."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """The fixed facts of one training: image shape, latent dimension, number of images."""

    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    latent_dim: int
    num_images: int
    """Size of the training set."""
    decoder_channels: int = 0
    """Channels that the likelihood asks of the decoder; 0 until a likelihood has been built."""

    @property
    def num_pixels(self) -> int:
        """Values of one image, D = C·H·W."""
        channels, height, width = self.image_shape
        return channels * height * width
