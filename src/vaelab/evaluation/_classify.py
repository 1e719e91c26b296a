"""Telling what images have from their code: the objective of a classifier. It makes no VAE, so it is no member."""

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.models.spec import Spec
from vaelab.models.vae import VAE


def with_targets(
    pixels: UInt8[np.ndarray, "n height width channel"], has: Bool[np.ndarray, "n target"]
) -> UInt8[np.ndarray, "n taller width channel"]:
    """Images with what they have (white) and have not (black) in rows below: batches carry nothing but pixels."""
    count, _, width, channels = pixels.shape
    rows = -(-has.shape[1] // (width * channels))
    below: NDArray[np.uint8] = np.zeros((count, rows * width * channels), np.uint8)
    below[:, : has.shape[1]] = np.where(has, 255, 0)
    return np.concatenate([pixels, below.reshape(count, rows, width, channels)], axis=1)


class Objective(nn.Module):
    """Cross entropy of ``num_targets`` yes-or-no questions, answered linearly from the posterior mean.

    Images come as ``with_targets`` makes them.
    """

    def __init__(self, spec: Spec, *, num_targets: int) -> None:
        super().__init__()
        self.height, self.num_targets = facts.image_shape[1], num_targets
        self.head = nn.Linear(facts.latent_dim, num_targets)

    def forward(
        self, vae: VAE, x: Float[Tensor, "batch channel taller width"], step: Int[Tensor, ""]
    ) -> dict[str, Tensor]:
        """The loss, nats per image: summed over the questions, averaged over the batch."""
        images, below = x[:, :, : self.height], x[:, :, self.height :]
        has = below.permute(0, 2, 3, 1).flatten(1)[:, : self.num_targets]
        log_odds = self.head(vae.posterior(images).mean)
        entropy = F.binary_cross_entropy_with_logits(log_odds, has, reduction="none")
        return {"loss": entropy.sum(1).mean()}
