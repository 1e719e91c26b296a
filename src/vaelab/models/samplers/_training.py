"""Training of samplers that are networks."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vaelab.models.codes import as_finite
from vaelab.system.device import disable_tf32
from vaelab.system.progress import progress

BATCH_SIZE, LEARNING_RATE = 256, 5e-3
CHECKS = 20
"""Number of times that the held-out loss is measured."""
HELD_OUT = 10
"""One code in ten is held out to choose the step with the best weights."""


class Standardiser(nn.Module):
    """Shift and scale of codes to mean 0 and variance 1; a latent that does not vary keeps its scale."""

    mean: Tensor
    std: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("std", torch.ones(latent_dim))

    def fit(self, codes: Float[np.ndarray, "n latent"]) -> Float[Tensor, "n latent"]:
        """Set both from codes and return these standardised; InputError if they are not finite."""
        z = torch.from_numpy(as_finite(codes, "codes"))
        std = z.std(0, correction=0)
        self.mean.copy_(z.mean(0))
        self.std.copy_(torch.where(std > 1e-6 * (1 + self.mean.abs()), std, 1))
        return self.forward(z.float())

    def forward(self, z: Float[Tensor, "*n latent"]) -> Float[Tensor, "*n latent"]:
        """Return standardised codes."""
        return (z - self.mean) / self.std

    def inverse(self, x: Float[Tensor, "*n latent"]) -> Float[Tensor, "*n latent"]:
        """Return the codes of standardised ones."""
        return self.mean + self.std * x

    @property
    def log_determinant(self) -> Float[Tensor, ""]:
        """ln |det d(standardised)/d(code)|."""
        return -self.std.log().sum()


@torch.enable_grad()
@disable_tf32()
def train(
    module: nn.Module,
    loss: Callable[[Shaped[Tensor, "batch column"], torch.Generator], Float[Tensor, ""]],
    x: Shaped[Tensor, "n column"],
    generator: torch.Generator,
    steps: int,
    *,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> None:
    """Minimise the mean ``loss`` of rows of ``x`` by Adam, and keep the weights with the best held-out loss.

    The learning rate falls to 0 along half a cosine. A function of ``x`` and the state of the generator.
    """
    order = torch.randperm(len(x), generator=generator)
    held_out, x = x[order[: len(x) // HELD_OUT]], x[order[len(x) // HELD_OUT :]]
    adam = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, state, every = math.inf, copy.deepcopy(module.state_dict()), max(1, steps // CHECKS)
    with progress("fitting the sampler", steps) as bar:
        for step in range(1, steps + 1):
            batch = x[torch.randint(len(x), (batch_size,), generator=generator)]
            adam.zero_grad()
            loss(batch, generator).backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            if step % every == 0 and len(held_out):
                with torch.no_grad():
                    value = float(loss(held_out, torch.Generator().manual_seed(0)))
                if value < best:
                    best, state = value, copy.deepcopy(module.state_dict())
            bar.advance(1)
    if math.isfinite(best):
        module.load_state_dict(state)
