"""Models and noise whose values a test gives, for closed forms and reference vectors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaelab.models import likelihoods, networks
from vaelab.models.posteriors import diagonal
from vaelab.models.priors import normal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system.device import Noise


class GivenNoise(Noise):
    """Returns the numbers that it was made with, one draw after the other."""

    def __init__(self, *draws: Tensor) -> None:
        self._draws = list(draws)

    def normal(self, count: int, *shape: int) -> Tensor:
        """The next draw."""
        drawn = self._draws.pop(0)
        assert (count, *shape) == drawn.shape
        return drawn

    def uniform(self, count: int, *shape: int) -> Tensor:
        """The next draw."""
        return self.normal(count, *shape)


class GivenEncoder(networks.Encoder):
    """Returns the diagonal posteriors that it was made with, whatever the images."""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.mean, self.log_var = mean.clone().requires_grad_(), log_var.clone().requires_grad_()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Means and log-variances side by side."""
        return torch.cat([self.mean, self.log_var], 1)


class GivenDecoder(networks.Decoder):
    """A function of the code."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Its value."""
        return self._function(z)


class GivenLikelihood(likelihoods.Likelihood):
    """A function of what the decoder returned."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, decoded: Tensor) -> Any:
        """Its value."""
        return self._function(decoded)


def given_vae(
    encoder: GivenEncoder,
    decoder: Callable[[Tensor], Tensor],
    likelihood: Callable[[Tensor], Any],
    image_shape: tuple[int, int, int] = (1, 1, 1),
    num_images: int = 100,
) -> VAE:
    """A model with these parts, a diagonal posterior and the prior N(0, I)."""
    spec = Spec(image_shape, encoder.mean.shape[1], num_images)
    return VAE(
        spec,
        encoder,
        diagonal.Posterior(spec),
        normal.Prior(spec),
        GivenDecoder(decoder),
        GivenLikelihood(likelihood),
    )
